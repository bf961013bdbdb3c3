//! One run: a fresh cluster, a workload, a nemesis, a verdict.
//!
//! ```text
//!   quiet ──▶ fault, hold, heal ──▶ ... ──▶ heal all, wait until whole ──▶ last reads ──▶ checkers ──▶ files
//! ```

mod progress;
mod sessions;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chorus_terminal::sentence;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;

use crate::checker::{Anomaly, Report, Verdict, coverage};
use crate::cluster::{Cluster, MemberStatus, Plan, crashes, member};
use crate::history::{self, Event, Kind, Process, Recorder};
use crate::nemesis::{self, Fault, Impossible, membership};
use crate::report;
use crate::workload::Workload;
use progress::Progress;
use sessions::Sessions;

/// Before the first fault.
const QUIET: Duration = Duration::from_secs(3);
/// How long a healed cluster may take to be whole again; longer is a violation of its own.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// How long a damaged member gets to show whether it can start.
const DAMAGED_LIMIT: Duration = Duration::from_secs(10);
const STATUS_INTERVAL: Duration = Duration::from_millis(300);
/// How long the checkers may take.
const CHECK_LIMIT: Duration = Duration::from_secs(120);
/// The event of a member that did not do under a fault what it must; its value is the fault.
const NOT_ENDURED: &str = "not-endured";

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: Plan,
    pub faults: Vec<Fault>,
    pub time: Duration,
    /// Clients at work at the same time.
    pub sessions: u64,
    /// Operations a second, of all clients together.
    pub rate: f64,
    pub seed: u64,
}

/// Who led when, as seen while the run went on: nanoseconds, member, term.
pub type Leaders = Vec<(u64, Option<usize>, u64)>;

/// How a run ended.
pub struct Outcome {
    pub workload: &'static str,
    pub verdict: Verdict,
    pub reports: Vec<Report>,
    pub events: Vec<Event>,
    pub leaders: Leaders,
    pub caveat: Option<&'static str>,
    pub seed: u64,
    /// Where its files are.
    pub dir: PathBuf,
}

/// Runs `workload` once. An error is trouble of the harness, never a verdict.
pub async fn run(options: &Options, workload: Arc<dyn Workload>) -> anyhow::Result<Outcome> {
    let faults: Vec<Fault> =
        options.faults.iter().copied().filter(|fault| unbearable(&*workload, *fault).is_none()).collect();
    let plan = Plan {
        own_clocks: faults.iter().any(|fault| fault.moves_clocks()),
        nodes: workload.needs_nodes(),
        ..options.plan.clone()
    };
    let cluster = Rc::new(Cluster::start(plan).await?);
    let outcome = disturbed(options, &faults, workload, &cluster).await;
    // The next run needs its addresses, so nothing of it may linger.
    cluster.stop().await;
    outcome
}

async fn disturbed(
    options: &Options,
    faults: &[Fault],
    workload: Arc<dyn Workload>,
    cluster: &Rc<Cluster>,
) -> anyhow::Result<Outcome> {
    let recorder = Recorder::default();
    let mut sessions = Sessions::new(options, cluster.clone(), workload.clone(), recorder.clone());
    sessions.set_up().await?;

    let leaders: Rc<RefCell<Leaders>> = Rc::default();
    let mut looking = JoinSet::new();
    looking.spawn_local(follow_leader(cluster.clone(), recorder.clone(), leaders.clone()));
    let progress = Progress::start(workload.name(), options.time, recorder.clone(), leaders.clone());
    sessions.start()?;
    let disturbed = disturb(options, faults, cluster, &recorder, &progress).await;
    progress.say("healing");
    let recovered = recover(cluster, &recorder).await;
    sessions.stop().await;
    progress.say("last reads");
    sessions.finish().await?;
    looking.abort_all();
    progress.say("checking");
    disturbed?;

    let events = recorder.take();
    let leaders = leaders.borrow().clone();
    let mut reports = workload.check(&events, CHECK_LIMIT);
    reports.push(endurance(&events));
    reports.push(recovery(&recovered));
    reports.push(crash_report(cluster, faults));
    reports.push(coverage::check(&events, changes(&leaders), &floor(options, faults, &*workload)));
    drop(progress);
    let verdict = reports.iter().fold(Verdict::True, |all, report| all.and(report.verdict));
    let outcome = Outcome {
        workload: workload.name(),
        verdict,
        reports,
        events,
        leaders,
        caveat: workload.caveat(),
        seed: options.seed,
        dir: options.plan.dir.clone(),
    };
    write(&outcome, &*workload)?;
    Ok(outcome)
}

/// Why a fault takes from a workload what it needs, if it does.
fn unbearable(workload: &dyn Workload, fault: Fault) -> Option<&'static str> {
    if workload.needs_history() && fault.compacts() {
        Some("the workload needs the whole history of the store")
    } else if workload.needs_nodes() && fault.replaces_members() {
        Some("whole nodes are not replaced")
    } else {
        None
    }
}

/// Puts one fault after the other in place until the time is up. All take part before one comes again.
async fn disturb(
    options: &Options,
    faults: &[Fault],
    cluster: &Cluster,
    recorder: &Recorder,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut random = SmallRng::seed_from_u64(options.seed);
    let end = tokio::time::Instant::now() + options.time;
    tokio::time::sleep(QUIET.min(options.time)).await;
    let mut deck: Vec<Fault> = Vec::new();
    while tokio::time::Instant::now() < end {
        if deck.is_empty() {
            deck = faults.to_vec();
            deck.shuffle(&mut random);
        }
        let Some(fault) = deck.pop() else {
            tokio::time::sleep_until(end).await;
            break;
        };
        progress.say(fault.name());
        let in_place = install(fault, cluster, recorder, &mut random).await;
        if !fault.is_moment() || !in_place {
            let hold = fault.hold(&mut random);
            if in_place {
                tokio::time::sleep(hold).await;
                if let Err(error) = fault.endured(cluster).await {
                    let why = Some(sentence(&error));
                    recorder.note(Process::Nemesis, Kind::Info, NOT_ENDURED, json!(fault.name()), None, why);
                }
            }
            progress.say("healing");
            nemesis::heal(cluster).await?;
            if matches!(fault, Fault::BitFlip | Fault::Truncate) {
                mend(cluster, recorder).await?;
            }
            recorder.note(Process::Nemesis, Kind::Info, "heal", json!(fault.name()), None, None);
        }
        progress.say("");
        tokio::time::sleep(Duration::from_secs_f64(random.random_range(0.5..3.0))).await;
    }
    Ok(())
}

/// Whether the fault is in place now.
async fn install(fault: Fault, cluster: &Cluster, recorder: &Recorder, random: &mut SmallRng) -> bool {
    let note = |kind, value, error| recorder.note(Process::Nemesis, kind, fault.name(), value, None, error);
    note(Kind::Invoke, json!(null), None);
    // A fault that can't be put in place is part of the history; the coverage of the run shows whether that matters.
    match fault.install(cluster, random).await {
        Ok(what) => {
            note(Kind::Ok, json!(what), None);
            true
        }
        Err(error) => {
            match error.downcast_ref::<Impossible>() {
                Some(_) => note(Kind::Info, json!(coverage::SKIPPED), Some(format!("skipped: {}", sentence(&error)))),
                None => note(Kind::Fail, json!(null), Some(sentence(&error))),
            }
            false
        }
    }
}

/// Replaces members that refuse to start on what was damaged, as an operator would.
async fn mend(cluster: &Cluster, recorder: &Recorder) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + DAMAGED_LIMIT;
    for number in cluster.numbers() {
        loop {
            if cluster.status(number).await.is_some() {
                break;
            }
            let gone = !cluster.members[number - 1].lock().await.runs();
            if gone || tokio::time::Instant::now() > deadline {
                let told = membership::replace_member(cluster, number).await;
                let what = told.unwrap_or_else(|error| format!("not replaced: {}", sentence(&error)));
                recorder.note(Process::Nemesis, Kind::Info, "mend", json!(what), None, None);
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// Heals everything and waits until the cluster is whole; how long that took.
async fn recover(cluster: &Cluster, recorder: &Recorder) -> anyhow::Result<Duration> {
    let began = tokio::time::Instant::now();
    loop {
        nemesis::heal(cluster).await?;
        // A process that ends at once is started again with the next round.
        let whole = cluster.wait_until_whole(Duration::from_secs(5)).await;
        match whole {
            Ok(()) => break,
            Err(error) if began.elapsed() > RECOVERY_LIMIT => return Err(error),
            Err(_) => {}
        }
    }
    recorder.note(Process::Nemesis, Kind::Info, "whole", json!(null), None, None);
    Ok(began.elapsed())
}

async fn follow_leader(cluster: Rc<Cluster>, recorder: Recorder, leaders: Rc<RefCell<Leaders>>) {
    loop {
        let statuses: Vec<Option<MemberStatus>> =
            futures::future::join_all(cluster.numbers().into_iter().map(|number| cluster.status(number))).await;
        let newest =
            statuses.iter().flatten().filter(|status| status.leader != 0).max_by_key(|status| status.term).copied();
        let leader = newest.and_then(|newest| {
            let leads = |status: &Option<MemberStatus>| status.is_some_and(|status| status.member == newest.leader);
            statuses.iter().position(leads).map(|at| at + 1)
        });
        leaders.borrow_mut().push((recorder.now(), leader, newest.map_or(0, |newest| newest.term)));
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

/// How often one leader followed another, or itself in a later term.
fn changes(leaders: &Leaders) -> u64 {
    let mut terms: Vec<u64> =
        leaders.iter().filter(|(_, leader, _)| leader.is_some()).map(|(.., term)| *term).collect();
    terms.dedup();
    terms.len().saturating_sub(1) as u64
}

/// What the run must have seen. `faults` are those of the options that the workload bears.
fn floor(options: &Options, faults: &[Fault], workload: &dyn Workload) -> coverage::Floor {
    // A fault holds for about three seconds and rests for two: there must have been time for all.
    let needed: Duration = faults.iter().map(|fault| fault.time_for_one()).sum();
    let time_for_all = options.time > needed;
    let why = |fault: Fault| match unbearable(workload, fault) {
        Some(why) => Some(why.to_owned()),
        None if time_for_all => None,
        None => {
            let (time, needed) = (options.time.as_secs(), needed.as_secs());
            Some(format!("the faults asked for need more than {needed} s, and the run took {time} s"))
        }
    };
    let spared = options.faults.iter().filter_map(|fault| Some((fault, why(*fault)?)));
    let unsettles = faults.iter().any(|fault| {
        matches!(
            fault,
            Fault::Kill
                | Fault::Pause
                | Fault::FreezeLeader
                | Fault::PartitionLeaderMinority
                | Fault::PowerAll
                | Fault::PowerSome
        )
    });
    coverage::Floor {
        faults: options.faults.iter().map(|fault| fault.name().to_owned()).collect(),
        spared: spared.map(|(fault, why)| (fault.name().to_owned(), format!("skipped: {why}"))).collect(),
        operations: options.time.as_secs() * workload.operations_per_s_min(),
        leader_changes: u64::from(unsettles && time_for_all),
    }
}

/// What members must go on doing under a fault, as the nemesis saw it.
fn endurance(events: &[Event]) -> Report {
    let seen = events.iter().filter(|event| event.process == Process::Nemesis && event.f == NOT_ENDURED);
    let anomalies = seen.map(|event| Anomaly {
        name: NOT_ENDURED.to_owned(),
        what: format!("{}: {}", event.value.as_str().unwrap_or_default(), event.error.as_deref().unwrap_or_default()),
        events: vec![event.index],
        because: Vec::new(),
    });
    Report::of("endurance", anomalies.collect())
}

fn recovery(recovered: &anyhow::Result<Duration>) -> Report {
    match recovered {
        Ok(took) => Report::of("recovery", Vec::new()).note(format!("whole {:.1} s after healing", took.as_secs_f64())),
        Err(error) => Report::of(
            "recovery",
            vec![Anomaly {
                name: "not-whole".to_owned(),
                what: format!("healed, and not whole after {} s: {}", RECOVERY_LIMIT.as_secs(), sentence(error)),
                events: Vec::new(),
                because: Vec::new(),
            }],
        ),
    }
}

/// What crashed. A member may end itself when its disk fails, if it says so; any other crash is a bug.
fn crash_report(cluster: &Cluster, faults: &[Fault]) -> Report {
    let read = |number| String::from_utf8_lossy(&std::fs::read(cluster.log(number)).unwrap_or_default()).into_owned();
    let logs: Vec<(String, String)> =
        cluster.numbers().into_iter().map(|number| (member::name(number), read(number))).collect();
    judge_crashes(&logs, faults)
}

fn judge_crashes(logs: &[(String, String)], faults: &[Fault]) -> Report {
    let reasons: Vec<&str> = faults.iter().flat_map(|fault| fault.last_words()).copied().collect();
    let (mut anomalies, mut notes) = (Vec::new(), Vec::new());
    for (name, log) in logs {
        let (explained, bugs): (Vec<_>, Vec<_>) = crashes(log).into_iter().partition(|crash| crash.says(&reasons));
        if let Some(first) = explained.first() {
            notes.push(format!("{name}: {} crashes that a fault explains, as {:?}", explained.len(), first.line));
        }
        if let Some(first) = bugs.first() {
            let what = format!("{name}: {} crashes that no fault explains, as {:?}", bugs.len(), first.line);
            anomalies.push(Anomaly { name: "crash".to_owned(), what, events: Vec::new(), because: Vec::new() });
        }
    }
    notes.into_iter().fold(Report::of("crashes", anomalies), Report::note)
}

fn write(outcome: &Outcome, workload: &dyn Workload) -> anyhow::Result<()> {
    let mut files = vec![
        ("history.jsonl".to_owned(), history::to_json_lines(&outcome.events)),
        ("history.edn".to_owned(), history::to_edn(&outcome.events)),
        ("verdict.json".to_owned(), serde_json::to_string_pretty(&outcome.reports)?),
        ("report.html".to_owned(), report::page(outcome)),
    ];
    files.extend(workload.attachments());
    for (name, text) in files {
        let path = outcome.dir.join(&name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn a_fault_that_need_not_happen_is_told_with_the_reason() {
        let spared = |name: &str, faults: &str, time_s: u64| {
            let options = Options {
                plan: Plan {
                    binary: PathBuf::new(),
                    members: 3,
                    dir: PathBuf::new(),
                    election_timeout_ms: 1000,
                    snapshot_count: 100,
                    flags: Vec::new(),
                    own_clocks: false,
                    nodes: false,
                },
                faults: Fault::parse(faults).unwrap(),
                time: Duration::from_secs(time_s),
                sessions: 1,
                rate: 1.0,
                seed: 1,
            };
            let workload = workload::find(name).unwrap();
            let borne = options.faults.iter().copied().filter(|fault| unbearable(&*workload, *fault).is_none());
            let floor = floor(&options, &borne.collect::<Vec<_>>(), &*workload);
            assert_eq!(floor.faults.len(), options.faults.len(), "all that was asked for");
            floor.spared.into_keys().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(spared("set", "kill,compact", 21), "");
        assert_eq!(spared("set", "kill,compact", 20), "compact kill");
        assert_eq!(spared("watch", "kill,compact", 20), "compact");
        assert_eq!(spared("pods", "kill,member", 20), "member");
    }

    #[test]
    fn only_a_crash_that_names_what_a_fault_did_is_excused() {
        let judged = |log: &str, faults: &[Fault]| judge_crashes(&[("n1".to_owned(), log.to_owned())], faults).verdict;
        let broken =
            "thread 'x' panicked at src/a.rs:1:2:\nsync failed: Os { code: 5, message: \"Input/output error\" }\n";
        assert_eq!(judged(broken, &[Fault::Kill, Fault::PowerAll]), Verdict::True);
        assert_eq!(judged(broken, &[Fault::Kill, Fault::DiskFull]), Verdict::False);
        let bug = "thread 'x' panicked at src/a.rs:1:2:\nindex out of bounds\n";
        assert_eq!(judged(bug, &Fault::ALL), Verdict::False);
        assert_eq!(judged("ready\n", &[]), Verdict::True);
    }

    #[test]
    fn a_member_that_refuses_what_a_fault_is_no_excuse_for_is_a_violation() {
        let recorder = Recorder::default();
        recorder.note(Process::Nemesis, Kind::Ok, "disk-full-all", json!("the disks are full"), None, None);
        assert_eq!(endurance(&recorder.take()).verdict, Verdict::True);
        let why = Some("n2 does not answer".to_owned());
        recorder.note(Process::Nemesis, Kind::Info, NOT_ENDURED, json!("disk-full-all"), None, why);
        let report = endurance(&recorder.take());
        assert_eq!((report.verdict, report.anomalies[0].events.as_slice()), (Verdict::False, &[1][..]));
        assert_eq!(report.anomalies[0].what, "disk-full-all: n2 does not answer");
    }
}
