//! Whole clusters, control plane included, in one deterministic process: the same seed gives the same trace.
//!
//! Each seed runs one story: a cluster of three comes up, clients write and watch, a ReplicationController asks for
//! three pods; then the leader of the store is cut off, a node loses its power, both come back, and everything must be
//! as asked for. A seed that fails prints the line that replays it:
//!
//! ```text
//! CHORUS_SIM_SEED=17 cargo test --test sim
//! ```
//! `CHORUS_SIM_SEEDS` sets how many seeds run.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests stand outside the world they test")]

mod history;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

/// How many seeds run unless `CHORUS_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Each seed runs in a process of its own: simulations share no thread-local state, and one that hangs can be told.
#[test]
fn every_seed_keeps_its_promises() {
    if let Some(seed) = number("CHORUS_SIM_SEED") {
        println!("trace {:016x}", story::run(seed));
        return;
    }
    let seeds = number("CHORUS_SIM_SEEDS").unwrap_or(SEEDS);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let worker = |first| {
            move || (first..seeds).step_by(workers as usize).filter(|seed| replay(*seed).is_none()).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..workers).map(|first| scope.spawn(worker(first))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(
        failed.is_empty(),
        "failed; replay with: {}",
        failed.iter().map(|seed| line(*seed)).collect::<Vec<_>>().join("  or  ")
    );
}

/// Two processes, one trace.
#[test]
fn the_same_seed_gives_the_same_trace() {
    if number("CHORUS_SIM_SEED").is_some() {
        return;
    }
    for seed in [1, 2] {
        let (first, second) = (replay(seed), replay(seed));
        assert!(first.is_some() && first == second, "seed {seed} gave {first:?}, then {second:?}");
    }
}

fn line(seed: u64) -> String {
    format!("CHORUS_SIM_SEED={seed} cargo test --test sim")
}

/// Runs one seed in a process of its own; the hash of its trace, or `None` if it failed.
fn replay(seed: u64) -> Option<String> {
    let output = catch_unwind(AssertUnwindSafe(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "every_seed_keeps_its_promises", "--nocapture"])
            .env("CHORUS_SIM_SEED", seed.to_string())
            .output()
            .unwrap()
    }))
    .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let trace = text.lines().find_map(|line| line.strip_prefix("trace ").map(str::to_owned));
    if trace.is_none() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = errors.lines().rev().take(12).collect();
        eprintln!("seed {seed} failed ({}):\n{}", line(seed), tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    trace
}
