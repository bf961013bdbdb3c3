//! One simulation from its seed to its verdict: a storm of faults under load, then calm, in which everything has to come
//! to rest as it should.

use std::time::Duration;

use chorus::cluster::member_plan::Origin;
use chorus::world::{MemoryDisk, Random, World};

use crate::faults::Faults;
use crate::history::History;
use crate::hosts::{Hosts, hear_panics};
use crate::invariants::Invariants;
use crate::member::{self, Seat};
use crate::operator::{self, Desk};
use crate::replay;
use crate::swarm::Swarm;
use crate::traffic::{self, Station};
use crate::{audit, cluster, objects};

/// Within this time after the last fault everything must have come to rest.
const CALM_MAX: Duration = Duration::from_secs(90);

/// Runs the simulation of `seed`. Panics where a promise is broken.
pub fn run(seed: u64) -> History {
    let random = Random::from_seed(seed);
    let swarm = Swarm::draw(seed, &random);
    let (history, desk) = (History::default(), Desk::default());
    history.note(format_args!("{swarm:?}"));
    hear_panics();
    let mut hosts = Hosts::new(network(&swarm, &random), history.clone());
    let members = member::first_members(&swarm);
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let machines = Machines { swarm: swarm.clone(), history: history.clone(), random: random.clone() };
    for name in &names {
        machines.add(&mut hosts, name, Origin::New { members: members.clone(), token: "sim".to_owned() });
    }
    let world_seed = random.u64();
    let (told, asked, tuned) = (history.clone(), desk.clone(), swarm.clone());
    hosts.add_clients(async move {
        let world = World::simulated(world_seed, MemoryDisk::new());
        clients(Station { world, number: 0, members: names, swarm: tuned, history: told }, asked).await
    });
    let mut faults = Faults::new(random, swarm.clone(), history.clone(), desk.clone());
    let mut invariants = Invariants::new(history.clone());
    let mut step = |hosts: &mut Hosts<'_>| {
        hosts.step();
        invariants.look(hosts);
        for (name, origin) in desk.joined() {
            machines.add(hosts, &name, origin);
        }
        for name in desk.removed() {
            hosts.seats[&name].state().removed = true;
        }
    };
    let storm = swarm.prelude..swarm.prelude + swarm.storm;
    while hosts.now() < storm.end {
        step(&mut hosts);
        if hosts.now() >= storm.start {
            faults.go_on(&mut hosts);
        }
    }
    faults.end_all(&mut hosts);
    history.end();
    while !history.is_settled() {
        assert!(hosts.now() < storm.end + CALM_MAX, "this did not come to rest");
        step(&mut hosts);
    }
    hosts.count_snapshots();
    if swarm.control_plane {
        objects::check(&history.records());
    } else {
        replay::check(&history.records());
    }
    history
}

fn network<'a>(swarm: &Swarm, random: &Random) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(random.u64())
        .simulation_duration(swarm.prelude + swarm.storm + 2 * CALM_MAX)
        .tick_duration(swarm.tick)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(swarm.latency_max)
        .tcp_capacity(4096)
        .build()
}

/// How machines for members are made.
struct Machines {
    swarm: Swarm,
    history: History,
    random: Random,
}

impl Machines {
    fn add(&self, hosts: &mut Hosts<'_>, name: &str, origin: Origin) {
        let seat = Seat::new(name.to_owned(), origin, Random::from_seed(self.random.u64()));
        let (swarm, history) = (self.swarm.clone(), self.history.clone());
        if swarm.control_plane {
            hosts.add(seat, move |seat| cluster::run(seat, swarm.clone(), history.clone()));
        } else {
            hosts.add(seat, move |seat| member::run(seat, swarm.clone(), history.clone()));
        }
    }
}

/// All that clients do, until everything has come to rest.
async fn clients(station: Station, desk: Desk) -> turmoil::Result {
    let Station { world, members, history, .. } = &station;
    if station.swarm.control_plane {
        while !history.is_satisfied() {
            world.clock.sleep(Duration::from_millis(500)).await;
        }
        while !audit::all_agree(world, members, history).await {
            world.clock.sleep(Duration::from_millis(500)).await;
        }
        history.settle();
        return std::future::pending().await;
    }
    let traffic = traffic::start(&station);
    world.spawner.task(operator::work(world.clone(), members.clone(), desk, history.clone()));
    for client in traffic {
        client.await?;
    }
    while !audit::all_agree(world, members, history).await {
        world.clock.sleep(Duration::from_millis(500)).await;
    }
    history.settle();
    std::future::pending().await
}
