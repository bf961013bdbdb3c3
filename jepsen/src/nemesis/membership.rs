//! Members that leave and are replaced.

use std::time::Duration;

use anyhow::Context;
use chorus_proto::etcdserverpb as pb;
use rand::rngs::SmallRng;

use super::{names, some};
use crate::client::Failed;
use crate::cluster::{Cluster, member, namespaces};

/// etcd's refusal to change the membership while members have not been connected for five seconds.
const UNHEALTHY: &str = "unhealthy cluster";
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn replace(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    replace_member(cluster, some(cluster, random, 1)[0]).await
}

/// Asks again as long as the answer is that members have not been connected for long enough, which etcd wants before it
/// changes the membership; what follows closely on another fault meets that.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, Failed>) -> Result<T, Failed> {
    let began = tokio::time::Instant::now();
    loop {
        match ask().await {
            Err(error) if error.to_string().contains(UNHEALTHY) && began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            answer => return answer,
        }
    }
}

/// Removes a member for good, wipes it, and adds it anew as a member with another ID.
pub async fn replace_member(cluster: &Cluster, number: usize) -> anyhow::Result<String> {
    let other =
        cluster.numbers().into_iter().find(|at| *at != number).context("a cluster of one has nobody to spare")?;
    let client = cluster.client(other);
    let listed = client.member_list(pb::MemberListRequest { linearizable: true }).await?.members;
    let url = format!("http://{}:2380", namespaces::address(number));
    if let Some(leaving) = listed.iter().find(|member| member.peer_ur_ls.contains(&url)) {
        let request = pb::MemberRemoveRequest { id: leaving.id };
        patiently(async || client.member_remove(request.clone()).await).await?;
    }
    let mut member = cluster.members[number - 1].lock().await;
    member.wipe()?;
    let add = pb::MemberAddRequest { peer_ur_ls: vec![url], is_learner: false };
    let added = patiently(async || client.member_add(add.clone()).await).await;
    let now = added.context("the member was removed and could not be added again")?.members;
    let mut initial = Vec::new();
    for (at, address) in
        cluster.numbers().into_iter().map(|at| (at, format!("http://{}:2380", namespaces::address(at))))
    {
        if now.iter().any(|known| known.peer_ur_ls.contains(&address)) {
            initial.push(format!("{}={address}", member::name(at)));
        }
    }
    member.configure(&cluster.plan, &initial.join(","), "existing");
    member.start()?;
    Ok(format!("replaced {}", names(&[number])))
}
