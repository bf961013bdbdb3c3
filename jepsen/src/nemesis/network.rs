//! Networks that split, lose, crawl and come late. Clients reach every member all the while.

use std::time::Duration;

use anyhow::Context;
use chorus_terminal::sentence;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::{Impossible, minority, names, some};
use crate::cluster::delayer::{Delayer, Link, queue_number};
use crate::cluster::{Cluster, namespaces};

/// A link may be so late: a good part of an election, but not all of it.
const DELAY_MS_MAX: u64 = 200;
const JITTER_MS_MAX: u64 = 100;

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

/// Each link between members gets a delay and a jitter of its own.
pub fn delay(cluster: &Cluster, random: &mut SmallRng, overtaking: bool) -> anyhow::Result<String> {
    let numbers = cluster.numbers();
    let mut most = Duration::ZERO;
    for number in &numbers {
        let mut links = Vec::new();
        for from in numbers.iter().copied().filter(|from| from != number) {
            let delay = Duration::from_millis(random.random_range(0..=DELAY_MS_MAX));
            let jitter = Duration::from_millis(random.random_range(1..=JITTER_MS_MAX));
            most = most.max(delay + jitter);
            links.push(Link { from, delay, jitter, overtaking });
        }
        let delayer = Delayer::start(*number, links.clone(), random.random())
            .map_err(|error| Impossible(format!("packets can't be held back: {}", sentence(&error))))?;
        cluster.delayers.borrow_mut().push(delayer);
        for link in links {
            namespaces::queue(*number, link.from, queue_number(link.from))
                .map_err(|error| Impossible(format!("packets can't be held back: {}", sentence(&error))))?;
        }
    }
    let how = if overtaking { "overtake each other" } else { "are late" };
    Ok(format!("packets between members {how}, by up to {} ms", most.as_millis()))
}

/// Lets all packets go their way again.
pub fn heal(cluster: &Cluster) -> anyhow::Result<()> {
    namespaces::heal(cluster.members.len())?;
    // No packet is queued any more, so those that wait can be let go.
    cluster.delayers.borrow_mut().clear();
    Ok(())
}
