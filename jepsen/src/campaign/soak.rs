//! Runs of all kinds in turn, for hours: each with a workload, a seed and a few faults of its own.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use chorus_terminal::{OutputError, sentence};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::Ending;
use crate::checker::Verdict;
use crate::history::{Kind, Process};
use crate::run::{self, Options, Outcome};
use crate::workload;

/// Faults that take part in one run: few enough that each surely happens.
const FAULTS: usize = 4;
/// At most this share of all runs may end without a verdict.
const UNKNOWN_SHARE_MAX: f64 = 0.01;

/// One run of many.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    seed: u64,
    faults: Vec<&'static str>,
    verdict: Verdict,
    acknowledged: usize,
    failed: usize,
    unknown: usize,
    /// What was found, or why there is no verdict.
    notes: Vec<String>,
}

/// All runs.
#[derive(Default, Serialize)]
pub struct Summary {
    runs: Vec<Row>,
}

impl Summary {
    fn count(&self, verdict: Verdict) -> usize {
        self.runs.iter().filter(|row| row.verdict == verdict).count()
    }

    /// False with a single violation; unknown when too many runs tell nothing.
    pub fn verdict(&self) -> Verdict {
        let unknown = self.count(Verdict::Unknown) as f64;
        match self.count(Verdict::False) {
            0 if !self.runs.is_empty() && unknown <= UNKNOWN_SHARE_MAX * self.runs.len() as f64 => Verdict::True,
            0 => Verdict::Unknown,
            _ => Verdict::False,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&Row) -> usize| self.runs.iter().map(of).sum::<usize>();
        write!(
            f,
            "{} runs: {} true, {} unknown, {} false; operations: {} acknowledged, {} failed, {} of unknown outcome",
            self.runs.len(),
            self.count(Verdict::True),
            self.count(Verdict::Unknown),
            self.count(Verdict::False),
            sum(|row| row.acknowledged),
            sum(|row| row.failed),
            sum(|row| row.unknown)
        )
    }
}

/// Goes on for `time`. `options` say what all runs share; their directory gets one of each run, and `summary.json`.
pub async fn soak(
    options: &Options,
    workloads: &[&str],
    time: Duration,
    ending: &Ending,
    summary: &mut Summary,
    mut tell: impl FnMut(&str, &Summary) -> Result<(), OutputError>,
) -> anyhow::Result<()> {
    let mut random = SmallRng::seed_from_u64(options.seed);
    let began = Instant::now();
    let (mut names, mut faults) = (Vec::new(), Vec::new());
    while began.elapsed() < time && !ending.has_begun() {
        let name = deal(&mut names, workloads, 1, &mut random)[0];
        let chosen = workload::find(name).ok_or_else(|| anyhow::anyhow!("there is no workload {name:?}"))?;
        let mut this = options.clone();
        this.seed = random.random();
        this.faults = deal(&mut faults, &options.faults, FAULTS, &mut random);
        this.plan.dir = options.plan.dir.join(format!("{name}-{:016x}", this.seed));
        std::fs::create_dir_all(&this.plan.dir)?;
        let row = row(&this, chosen.name(), run::run(&this, chosen).await);
        let line = format!("{:<9} {:?}  {}  {}", row.workload, row.verdict, row.faults.join(" "), row.notes.join("; "));
        let tells_nothing_more = row.verdict == Verdict::True;
        summary.runs.push(row);
        std::fs::write(options.plan.dir.join("summary.json"), serde_json::to_string_pretty(summary)?)?;
        tell(&line, summary)?;
        if tells_nothing_more {
            tidy(&this.plan.dir)?;
        }
    }
    Ok(())
}

/// The next `count` of a shuffled deck, which begins anew when it is used up.
fn deal<T: Copy + PartialEq>(deck: &mut Vec<T>, all: &[T], count: usize, random: &mut SmallRng) -> Vec<T> {
    let mut dealt = Vec::new();
    while dealt.len() < count.min(all.len()) {
        if deck.is_empty() {
            *deck = all.to_vec();
            deck.shuffle(random);
        }
        if let Some(card) = deck.pop().filter(|card| !dealt.contains(card)) {
            dealt.push(card);
        }
    }
    dealt
}

fn row(options: &Options, workload: &'static str, ended: anyhow::Result<Outcome>) -> Row {
    let mut row = Row {
        workload,
        seed: options.seed,
        faults: options.faults.iter().map(|fault| fault.name()).collect(),
        verdict: Verdict::Unknown,
        acknowledged: 0,
        failed: 0,
        unknown: 0,
        notes: Vec::new(),
    };
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(error) => {
            row.notes.push(format!("no verdict: {}", sentence(&error)));
            return row;
        }
    };
    row.verdict = outcome.verdict;
    for event in outcome.events.iter().filter(|event| event.process != Process::Nemesis) {
        match event.kind {
            Kind::Ok => row.acknowledged += 1,
            Kind::Fail => row.failed += 1,
            Kind::Info => row.unknown += 1,
            Kind::Invoke => {}
        }
    }
    for report in outcome.reports.iter().filter(|report| report.verdict != Verdict::True) {
        row.notes.extend(report.anomalies.iter().take(3).map(|anomaly| format!("{}: {}", anomaly.name, anomaly.what)));
        if report.anomalies.is_empty() {
            row.notes.push(format!("{}: {}", report.checker, report.notes.join(", ")));
        }
    }
    row
}

/// Of a run that found nothing, its report is enough.
fn tidy(dir: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let keep = ["report.html", "verdict.json"];
        if entry.file_type()?.is_file() && !keep.iter().any(|name| entry.file_name() == *name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_is_dealt_before_one_comes_again() {
        let (mut deck, mut random) = (Vec::new(), SmallRng::seed_from_u64(1));
        let all = [1, 2, 3, 4, 5, 6];
        let mut seen: Vec<i32> = (0..3).flat_map(|_| deal(&mut deck, &all, 2, &mut random)).collect();
        seen.sort();
        assert_eq!(seen, all);
        assert_eq!(deal(&mut deck, &[7], 4, &mut random), [7]);
    }

    #[test]
    fn one_run_in_a_hundred_may_tell_nothing() {
        let summary = |unknown: usize, wrong: usize| Summary {
            runs: (0..100)
                .map(|at| Row {
                    workload: "set",
                    seed: 1,
                    faults: Vec::new(),
                    verdict: match at {
                        at if at < unknown => Verdict::Unknown,
                        at if at < unknown + wrong => Verdict::False,
                        _ => Verdict::True,
                    },
                    acknowledged: 0,
                    failed: 0,
                    unknown: 0,
                    notes: Vec::new(),
                })
                .collect(),
        };
        assert_eq!(summary(1, 0).verdict(), Verdict::True);
        assert_eq!(summary(2, 0).verdict(), Verdict::Unknown);
        assert_eq!(summary(0, 1).verdict(), Verdict::False);
        assert_eq!(Summary::default().verdict(), Verdict::Unknown);
    }
}
