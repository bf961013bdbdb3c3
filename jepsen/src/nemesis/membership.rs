//! Members that leave and are replaced.

use std::time::Duration;

use anyhow::Context;
use chorus_proto::etcdserverpb as pb;
use rand::rngs::SmallRng;

use super::{names, some};
use crate::client::{Client, Failed};
use crate::cluster::{Cluster, member};

/// How long the others may take to change the membership. They refuse until they have been connected for five seconds,
/// and who leads may have to be found out first.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn replace(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    replace_member(cluster, some(cluster, random, 1)[0]).await
}

/// Removes a member for good, wipes it, and adds it anew as a member with another ID.
pub async fn replace_member(cluster: &Cluster, number: usize) -> anyhow::Result<String> {
    let url = member::peer_url(number);
    insist(cluster, number, async |client| remove(&client, &url).await).await.context("it could not be removed")?;
    let mut member = cluster.members[number - 1].lock().await;
    // Whatever happens from here on, a member that has forgotten everything must not found the cluster again: two of
    // that kind would be a quorum of the founders. As one that joins, it does not start before it was added.
    let everybody: Vec<String> = cluster.numbers().into_iter().map(member::initial).collect();
    member.configure(&cluster.plan, &everybody.join(","), "existing");
    member.wipe()?;
    let added = insist(cluster, number, async |client| add(&client, &url).await).await;
    let now = added.context("it was removed and could not be added again")?;
    let is_known = |at: &usize| now.iter().any(|known| known.peer_ur_ls.contains(&member::peer_url(*at)));
    let initial: Vec<String> = cluster.numbers().into_iter().filter(is_known).map(member::initial).collect();
    member.configure(&cluster.plan, &initial.join(","), "existing");
    member.start()?;
    Ok(format!("replaced {}", names(&[number])))
}

/// Asks one after the other of all but the member `number`, until one says that it is done.
async fn insist<T>(
    cluster: &Cluster,
    number: usize,
    ask: impl AsyncFn(Client) -> Result<T, Failed>,
) -> anyhow::Result<T> {
    let others: Vec<usize> = cluster.numbers().into_iter().filter(|at| *at != number).collect();
    anyhow::ensure!(!others.is_empty(), "a cluster of one has nobody to spare");
    let began = tokio::time::Instant::now();
    let mut turn = 0;
    loop {
        match ask(cluster.client(others[turn % others.len()])).await {
            Ok(done) => return Ok(done),
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
        turn += 1;
    }
}

async fn remove(client: &Client, url: &String) -> Result<(), Failed> {
    let listed = list(client).await?;
    match listed.iter().find(|member| member.peer_ur_ls.contains(url)) {
        Some(leaving) => client.member_remove(pb::MemberRemoveRequest { id: leaving.id }).await.map(drop),
        None => Ok(()),
    }
}

/// The members once it is one of them. Whether an earlier attempt without an answer did it, their list tells.
async fn add(client: &Client, url: &String) -> Result<Vec<pb::Member>, Failed> {
    let listed = list(client).await?;
    if listed.iter().any(|member| member.peer_ur_ls.contains(url)) {
        return Ok(listed);
    }
    let request = pb::MemberAddRequest { peer_ur_ls: vec![url.clone()], is_learner: false };
    Ok(client.member_add(request).await?.members)
}

async fn list(client: &Client) -> Result<Vec<pb::Member>, Failed> {
    Ok(client.member_list(pb::MemberListRequest { linearizable: true }).await?.members)
}
