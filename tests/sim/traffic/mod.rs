//! What clients do, each in its own way, and what they keep in mind of it.
//!
//! - [`keys`]: reads and writes
//! - [`leases`]: sessions that are kept alive, ended, or left alone
//! - [`watchers`]: watches of all kinds

mod keys;
mod leases;
mod watchers;

use std::time::Duration;

use chorus::store::client::Client;
use chorus::store::{Remote, RemoteConfig};
use chorus::world::World;

use crate::history::History;
use crate::member::client_url;
use crate::swarm::{Swarm, one_of};

pub use leases::HELD;

/// What some clients do and others don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Delete,
    CompareAndSet,
    Transact,
    Range,
    ReadThePast,
    Compact,
    Lease,
    Watch,
}

impl Habit {
    pub const ALL: [Habit; 8] = [
        Habit::Delete,
        Habit::CompareAndSet,
        Habit::Transact,
        Habit::Range,
        Habit::ReadThePast,
        Habit::Compact,
        Habit::Lease,
        Habit::Watch,
    ];
}

/// Longer than an election takes, shorter than a server waits: some calls end without an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A client of those members.
pub fn client_of(world: &World, members: &[String]) -> Client {
    let mut config = RemoteConfig::new(members.iter().map(|name| client_url(name)).collect());
    config.request_timeout = PATIENCE;
    Client::new(Remote::new(world, config).expect("the URLs are well-formed"))
}

/// What every client is given.
#[derive(Clone)]
pub struct Station {
    pub world: World,
    pub number: u64,
    /// All members there were at first.
    pub members: Vec<String>,
    pub swarm: Swarm,
    pub history: History,
}

impl Station {
    /// A connection to one member or to all.
    fn connect(&self) -> Client {
        let random = &self.world.random;
        match random.within(0..2) {
            0 => client_of(&self.world, &[one_of(random, &self.members)]),
            _ => client_of(&self.world, &self.members),
        }
    }

    async fn rest(&self) {
        let pause = self.world.random.duration(self.swarm.pace.clone());
        self.world.clock.sleep(pause).await;
    }
}

/// Starts all clients of a simulation; each ends some time after everything is well again.
pub fn start(station: &Station) -> Vec<tokio::task::JoinHandle<()>> {
    let mut number = 0;
    let mut next = || {
        number += 1;
        // A world of its own for each would make clocks differ; randomness alone is enough.
        Station { number, ..station.clone() }
    };
    let spawner = &station.world.spawner;
    let mut clients = vec![spawner.task(keys::run(next())), spawner.task(keys::run(next()))];
    if station.swarm.habits.contains(&Habit::Lease) {
        clients.push(spawner.task(leases::run(next())));
        clients.push(spawner.task(leases::run(next())));
    }
    if station.swarm.habits.contains(&Habit::Watch) {
        clients.push(spawner.task(watchers::run(next())));
        clients.push(spawner.task(watchers::run(next())));
    }
    clients
}
