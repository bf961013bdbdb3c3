//! Many seeds, each in a process of its own: simulations share no thread-local state, and one that hangs can be told.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::faults::Fault;

/// Seeds take seconds; on a busy machine perhaps a minute.
const DEADLINE: Duration = Duration::from_secs(600);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The one seed that this process is to run.
pub fn asked_for() -> Option<u64> {
    number("CHORUS_SIM_SEED")
}

pub fn how_many() -> Option<u64> {
    number("CHORUS_SIM_SEEDS")
}

/// What happened with one seed, or with many.
#[derive(Debug, Default)]
pub struct Tally {
    /// A hash of everything that happened.
    pub trace: String,
    counts: BTreeMap<String, u64>,
}

impl Tally {
    fn parse(text: &str) -> Option<Tally> {
        let counted = text.lines().filter_map(|line| line.strip_prefix("count ")?.split_once(' '));
        let counts = counted.filter_map(|(times, what)| Some((what.to_owned(), times.parse().ok()?))).collect();
        let trace = text.lines().find_map(|line| line.strip_prefix("trace "))?;
        Some(Tally { trace: trace.to_owned(), counts })
    }

    fn add(&mut self, other: Tally) {
        for (what, times) in other.counts {
            *self.counts.entry(what).or_default() += times;
        }
    }

    pub fn summary(&self) -> String {
        self.counts.iter().map(|(what, times)| format!("{what} {times}")).collect::<Vec<_>>().join(", ")
    }

    /// A set of `seeds` in which a fault never happened, or nobody ever took over, says nothing about it.
    pub fn assert_that_all_happened(&self, seeds: usize) {
        let others =
            ["bit flip told", "snapshots received", "compactions", "leases kept alive", "learner promoted", "wishes"];
        for what in Fault::ALL.map(Fault::name).into_iter().chain(others) {
            assert!(self.counts.contains_key(what), "in no seed there was: {what}");
        }
        let leaders = self.counts.get("leaders").copied().unwrap_or_default();
        assert!(leaders > seeds as u64, "there were only {leaders} leaders in {seeds} seeds");
    }
}

/// Runs `seeds` on all cores and adds up what they told. Panics with the lines that replay those that failed.
pub fn run_all(seeds: &[u64]) -> Tally {
    let (next, sum, failed) = (AtomicUsize::new(0), Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            match replay(*seed) {
                Some(told) => sum.lock().unwrap().add(told),
                None => failed.lock().unwrap().push(line(*seed)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} failed; replay with: {}", failed.len(), seeds.len(), failed.join("  or  "));
    sum.into_inner().unwrap()
}

fn line(seed: u64) -> String {
    format!("CHORUS_SIM_SEED={seed} cargo test --test sim")
}

/// Ends this process, which runs one seed, when what is returned is held far too long: what hangs has failed, too.
pub fn end_in_time() -> mpsc::Sender<()> {
    let (running, ended) = mpsc::channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("after {} s the simulation had not ended", DEADLINE.as_secs());
            std::process::exit(1);
        }
    });
    running
}

/// Runs one seed in a process of its own; `None` if it failed.
pub fn replay(seed: u64) -> Option<Tally> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "every_seed_keeps_its_promises", "--nocapture"])
        .env("CHORUS_SIM_SEED", seed.to_string())
        .output()
        .unwrap();
    let told = Tally::parse(&String::from_utf8_lossy(&output.stdout));
    if told.is_none() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let cut: Vec<String> = errors.lines().take(12).map(|line| line.chars().take(2000).collect()).collect();
        eprintln!("seed {seed} failed ({}):\n{}", line(seed), cut.join("\n"));
    }
    told
}
