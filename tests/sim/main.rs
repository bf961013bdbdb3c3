//! Whole clusters in one deterministic process: the same seed gives the same trace.
//!
//! ```text
//!   seed ─▶ swarm: what there is, what is done to it, what goes wrong
//!            │
//!            ├─▶ hosts (members, each with a disk) ◀── faults, operator
//!            │     │ every step: invariants; every change: witness ─▶ history
//!            └─▶ traffic (keys, leases, watchers) ── every answer ──▶ history ─▶ replay, watches: the verdict
//! ```
//!
//! Most seeds are about the store alone, with the smaller half of all faults and habits; one in ten runs the whole
//! control plane. A seed that fails prints the line that replays it:
//!
//! ```text
//! CHORUS_SIM_SEED=17 cargo test --test sim
//! ```
//! `CHORUS_SIM_SEEDS` sets how many seeds run, `CHORUS_SIM_TRACE` prints the trace.
//!
//! - [`swarm`]: what a seed draws; [`run`]: one simulation from its seed to its verdict
//! - [`hosts`], [`member`]: the machines and what runs there; [`faults`]: what goes wrong; [`operator`]: changes of the
//!   membership
//! - [`traffic`]: what clients do; [`history`]: what is kept of it
//! - [`invariants`]: what holds after every step; [`audit`]: whether all is at rest
//! - [`replay`], [`watches`]: whether answers and watches were right
//! - [`cluster`]: the control plane and its users; [`objects`]: what the log says of their objects
//! - [`seeds`]: many seeds, each in a process of its own
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests stand outside the world they test")]

mod audit;
mod cluster;
mod faults;
mod history;
mod hosts;
mod invariants;
mod member;
mod objects;
mod operator;
mod replay;
mod run;
mod seeds;
mod swarm;
mod traffic;
mod watches;

use std::collections::BTreeSet;

/// How many seeds run unless `CHORUS_SIM_SEEDS` says otherwise. As many have to have seen everything.
const SEEDS: u64 = 120;

/// Seeds that found something once.
const FOUND_SOMETHING: &[u64] = &[26, 61, 65, 579, 599, 1069];

#[test]
fn every_seed_keeps_its_promises() {
    if let Some(seed) = seeds::asked_for() {
        return tell(seed);
    }
    let all: BTreeSet<u64> = FOUND_SOMETHING.iter().copied().chain(0..seeds::how_many().unwrap_or(SEEDS)).collect();
    let seeds = Vec::from_iter(all);
    let told = seeds::run_all(&seeds);
    println!("{} seeds: {}", seeds.len(), told.summary());
    if seeds.len() as u64 >= SEEDS {
        told.assert_that_all_happened(seeds.len());
    }
}

/// Runs one seed in this process.
fn tell(seed: u64) {
    let running = seeds::end_in_time();
    let history = run::run(seed);
    drop(running);
    for (what, times) in &history.records().counts {
        println!("count {times} {what}");
    }
    println!("trace {:016x}", history.hash());
}

/// Two processes, one trace.
#[test]
fn the_same_seed_gives_the_same_trace() {
    if seeds::asked_for().is_some() {
        return;
    }
    for seed in [1, 2, 3, 9] {
        let (first, second) = (seeds::replay(seed), seeds::replay(seed));
        let traces = [&first, &second].map(|told| told.as_ref().map(|told| told.trace.clone()));
        assert!(traces[0].is_some() && traces[0] == traces[1], "seed {seed} gave {traces:?}");
    }
}
