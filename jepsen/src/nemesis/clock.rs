//! Wall clocks that jump. Who measures time by the monotonic clock, as one should, does not notice.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use rand::Rng;
use rand::rngs::SmallRng;

use super::{Impossible, names, some};
use crate::client::Gateway;
use crate::cluster::Cluster;

/// How far a clock jumps at most. Each is put so far ahead first, to see whether its member goes by it.
const SKEW_S_MAX: f64 = 6.0 * 3600.0;
/// A strobe jumps less far, but often.
const STROBE_S_MAX: f64 = 60.0;
const STROBE_INTERVAL: Duration = Duration::from_millis(50);
const STROBES: std::ops::Range<u32> = 20..80;

/// One member whose clock can be set.
async fn victim(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<usize> {
    let number = some(cluster, random, 1)[0];
    set(cluster, number, SKEW_S_MAX).await?;
    let told = Gateway::new(&cluster.url(number)).date().await.context("the member does not tell its time")?;
    let ahead = told.duration_since(SystemTime::now()).unwrap_or_default();
    if ahead.as_secs_f64() < SKEW_S_MAX / 2.0 {
        return Err(Impossible("the binary does not ask the C library what time it is".to_owned()).into());
    }
    Ok(number)
}

async fn set(cluster: &Cluster, number: usize, ahead_s: f64) -> anyhow::Result<()> {
    let member = cluster.members[number - 1].lock().await;
    let clock = member.clock.as_ref().ok_or_else(|| Impossible("libfaketime is not installed".to_owned()))?;
    clock.set(ahead_s)
}

pub async fn skew(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let number = victim(cluster, random).await?;
    // Small jumps are as telling as large ones: seconds count as often as hours.
    let ahead_s = random.random_range(0.0..SKEW_S_MAX.ln()).exp() * if random.random() { 1.0 } else { -1.0 };
    set(cluster, number, ahead_s).await?;
    Ok(format!("the clock of {} jumped by {ahead_s:+.1} s", names(&[number])))
}

/// Lets a clock jump to and fro for a few seconds. It is right again afterwards.
pub async fn strobe(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let number = victim(cluster, random).await?;
    let ahead_s = random.random_range(0.1..STROBE_S_MAX);
    let strobes = random.random_range(STROBES);
    for _ in 0..strobes {
        for at in [ahead_s, 0.0] {
            set(cluster, number, at).await?;
            tokio::time::sleep(STROBE_INTERVAL / 2).await;
        }
    }
    Ok(format!("the clock of {} jumped {strobes} times by {ahead_s:.1} s and back", names(&[number])))
}

/// Sets all clocks right.
pub async fn heal(cluster: &Cluster) -> anyhow::Result<()> {
    for member in &cluster.members {
        if let Some(clock) = &member.lock().await.clock {
            clock.set(0.0)?;
        }
    }
    Ok(())
}
