//! Processes that die or stand still.

use anyhow::Context;
use rand::Rng;
use rand::rngs::SmallRng;

use super::{names, some};
use crate::cluster::Cluster;

pub async fn kill(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    // One in three times the leader, which hurts most.
    let leader = if random.random_bool(0.34) { cluster.leader().await } else { None };
    let numbers = leader.map_or_else(|| some(cluster, random, cluster.members.len()), |leader| vec![leader]);
    for number in &numbers {
        cluster.members[number - 1].lock().await.kill();
    }
    Ok(format!("killed {}", names(&numbers)))
}

pub async fn pause(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let leader = if random.random_bool(0.5) { cluster.leader().await } else { None };
    let numbers = leader.map_or_else(|| some(cluster, random, cluster.members.len()), |leader| vec![leader]);
    for number in &numbers {
        cluster.members[number - 1].lock().await.pause();
    }
    Ok(format!("paused {}", names(&numbers)))
}

pub async fn pause_leader(cluster: &Cluster) -> anyhow::Result<String> {
    let leader = cluster.leader().await.context("there is no leader to pause")?;
    cluster.members[leader - 1].lock().await.pause();
    Ok(format!("paused {}, which led", names(&[leader])))
}
