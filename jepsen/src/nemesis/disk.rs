//! Disks that lose power, space, the right to be written, or their truth.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::{minority, names, some};
use crate::cluster::Cluster;

/// At most so much of the end of a file is cut off.
const TRUNCATE_BYTES_MAX: u64 = 1024;

/// Cuts the power of `count` members at the same moment: what they had not synced is gone. They are dead afterwards.
pub async fn power(cluster: &Cluster, random: &mut SmallRng, count: usize) -> anyhow::Result<String> {
    let mut numbers = cluster.numbers();
    numbers.shuffle(random);
    numbers.truncate(count);
    let mut members = Vec::new();
    for number in &numbers {
        members.push(cluster.members[number - 1].lock().await);
    }
    for member in &mut members {
        member.disk.cut_power()?;
    }
    for member in &mut members {
        member.kill();
        member.disk.repower()?;
    }
    Ok(format!("the power of {} was cut", names(&numbers)))
}

pub async fn full(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let numbers = some(cluster, random, minority(cluster));
    for number in &numbers {
        cluster.members[number - 1].lock().await.disk.fill()?;
    }
    Ok(format!("the disks of {} are full", names(&numbers)))
}

/// Takes the space of all members. Every one of them must go on answering reads.
pub async fn full_all(cluster: &Cluster) -> anyhow::Result<String> {
    for member in &cluster.members {
        member.lock().await.disk.fill()?;
    }
    Ok("the disks of all members are full".to_owned())
}

pub async fn read_only(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let numbers = some(cluster, random, minority(cluster));
    for number in &numbers {
        // A file that is open for writing keeps the kernel from it, so the power goes instead, without a kill.
        let mut member = cluster.members[number - 1].lock().await;
        if member.disk.read_only(true).is_err() {
            member.disk.cut_power()?;
        }
    }
    Ok(format!("the disks of {} fail every write", names(&numbers)))
}

/// Damages a file of each of a minority of members while they are down. A member that then refuses to start is wiped
/// when the fault is healed, as an operator would do it.
pub async fn damage(
    cluster: &Cluster,
    random: &mut SmallRng,
    how: fn(&Path, &mut SmallRng) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let numbers = some(cluster, random, minority(cluster));
    let mut told = Vec::new();
    for number in &numbers {
        let mut member = cluster.members[number - 1].lock().await;
        member.kill();
        let files: Vec<PathBuf> = member.disk.files();
        let file = files.choose_weighted_or(random).context("there is no file to damage")?;
        told.push(how(file, random)?);
        // The member meets the damage now, while the others still are a majority.
        member.start()?;
    }
    Ok(told.join("; "))
}

/// Larger files first, as chance would have it on a disk.
trait Chosen {
    fn choose_weighted_or(&self, random: &mut SmallRng) -> Option<&PathBuf>;
}

impl Chosen for Vec<PathBuf> {
    fn choose_weighted_or(&self, random: &mut SmallRng) -> Option<&PathBuf> {
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let total: u64 = self.iter().map(size).sum();
        let mut at = if total == 0 { 0 } else { random.random_range(0..total) };
        for path in self {
            let bytes = size(path);
            if at < bytes {
                return Some(path);
            }
            at -= bytes;
        }
        self.first()
    }
}

pub fn flip(path: &Path, random: &mut SmallRng) -> anyhow::Result<String> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let at = random.random_range(0..file.metadata()?.len().max(1));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << random.random_range(0..8);
    file.write_all_at(&byte, at)?;
    Ok(format!("one bit of {} at {at} is flipped", path.display()))
}

pub fn truncate(path: &Path, random: &mut SmallRng) -> anyhow::Result<String> {
    let file = OpenOptions::new().write(true).open(path)?;
    let bytes = file.metadata()?.len();
    let cut = random.random_range(1..=TRUNCATE_BYTES_MAX.min(bytes.max(1)));
    file.set_len(bytes.saturating_sub(cut))?;
    Ok(format!("{cut} bytes at the end of {} are cut off", path.display()))
}

/// Gives space and writing back. A filesystem that was shut down is mounted anew.
pub async fn heal(cluster: &Cluster) -> anyhow::Result<()> {
    for member in &cluster.members {
        let mut member = member.lock().await;
        if member.disk.is_dark() {
            member.kill();
            member.disk.repower()?;
        }
        member.disk.read_only(false)?;
        member.disk.empty()?;
    }
    Ok(())
}
