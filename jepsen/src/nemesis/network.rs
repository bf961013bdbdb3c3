//! Networks that split, lose and crawl. Clients reach every member all the while.

use anyhow::Context;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::{minority, names, some};
use crate::cluster::{Cluster, namespaces};

/// Cuts both ways between two sides.
fn split(one: &[usize], other: &[usize]) -> anyhow::Result<String> {
    for a in one {
        for b in other {
            namespaces::cut(*a, *b)?;
            namespaces::cut(*b, *a)?;
        }
    }
    Ok(format!("{} | {}", names(one), names(other)))
}

/// Splits the cluster with its leader in the majority or in the minority.
pub async fn around_leader(cluster: &Cluster, random: &mut SmallRng, majority: bool) -> anyhow::Result<String> {
    let leader = cluster.leader().await.context("there is no leader to split the cluster around")?;
    let mut others: Vec<usize> = cluster.numbers().into_iter().filter(|number| *number != leader).collect();
    others.shuffle(random);
    let small = minority(cluster);
    // With the leader in it, one place of the minority is taken.
    let (one, mut other) = if majority { others.split_at(small) } else { others.split_at(small.saturating_sub(1)) };
    let with_leader: Vec<usize>;
    let one = if majority {
        with_leader = other.iter().copied().chain([leader]).collect();
        other = &with_leader;
        one.to_vec()
    } else {
        one.iter().copied().chain([leader]).collect()
    };
    split(&one, other)
}

/// Each member sees only its neighbours, which are a majority with itself.
pub fn ring(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let mut numbers = cluster.numbers();
    numbers.shuffle(random);
    let count = numbers.len();
    // Of three, all are neighbours: one link is cut.
    let cuts: Vec<(usize, usize)> = if count <= 3 {
        vec![(numbers[0], numbers[count - 1])]
    } else {
        let far = |a: usize, b: usize| (a + count - b) % count > 1 && (b + count - a) % count > 1;
        let pairs = (0..count).flat_map(|a| (0..a).map(move |b| (a, b)));
        pairs.filter(|(a, b)| far(*a, *b)).map(|(a, b)| (numbers[a], numbers[b])).collect()
    };
    for (a, b) in cuts {
        namespaces::cut(a, b)?;
        namespaces::cut(b, a)?;
    }
    Ok(format!("a ring of {}", names(&numbers)))
}

/// Nobody hears one member, which hears all.
pub fn one_way(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let numbers = cluster.numbers();
    let mute = numbers[random.random_range(0..numbers.len())];
    for other in numbers.into_iter().filter(|number| *number != mute) {
        namespaces::cut(mute, other)?;
    }
    Ok(format!("nobody hears {}", names(&[mute])))
}

pub fn loss(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let share = random.random_range(0.05..0.35);
    for number in cluster.numbers() {
        namespaces::lose(number, share, cluster.members.len())?;
    }
    Ok(format!("{:.0} % of all packets between members are lost", share * 100.0))
}

pub fn slow(cluster: &Cluster, random: &mut SmallRng) -> anyhow::Result<String> {
    let numbers = some(cluster, random, cluster.members.len());
    for number in &numbers {
        namespaces::slow(*number)?;
    }
    Ok(format!("{} send at 2 Mbit/s", names(&numbers)))
}
