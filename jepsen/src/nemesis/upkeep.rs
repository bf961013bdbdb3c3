//! What operators do all day, in the worst moment.

use anyhow::Context;
use chorus_proto::etcdserverpb as pb;
use rand::Rng;
use rand::rngs::SmallRng;

use super::{names, some};
use crate::client::Grpc;
use crate::cluster::Cluster;

pub async fn compact(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let number = some(cluster, random, 1)[0];
    let client = cluster.client(number);
    let answer = client.range(pb::RangeRequest { key: "compact".into(), ..Default::default() }).await?;
    let newest = answer.header.context("an answer without a header")?.revision;
    let revision = (newest - random.random_range(0..50)).max(1);
    client.compact(pb::CompactionRequest { revision, physical: random.random_bool(0.5) }).await?;
    Ok(format!("compacted at {revision} of {newest}"))
}

pub async fn defragment(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let numbers = some(cluster, random, cluster.members.len());
    for number in &numbers {
        cluster.client(*number).defragment(pb::DefragmentRequest {}).await?;
    }
    Ok(format!("defragmented {}", names(&numbers)))
}

pub async fn snapshot(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let number = some(cluster, random, 1)[0];
    let bytes = Grpc::new(&cluster.url(number)).snapshot().await?;
    Ok(format!("took a snapshot of {bytes} bytes from {}", names(&[number])))
}
