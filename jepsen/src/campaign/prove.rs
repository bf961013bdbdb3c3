//! Do the checks bite? For each planted bug the cheapest check that catches it, and for some also what users see of
//! it, is run with the bug, and must fail for the right reason; and once without, and must pass.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chorus_terminal::line;
use tokio::process::Command;

use crate::cluster::namespaces;

/// Longer than any check takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// What catches a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// A test of the library, by its full name: simulated members, or one rule.
    Test(&'static str),
    /// A run of this program.
    Run { workload: &'static str, nemesis: &'static str, seconds: u64 },
}

/// A planted bug and its check.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    pub bug: &'static str,
    pub check: Check,
    /// What the check says when it fails because of this bug. Where it may see the bug in several ways, there are bars
    /// between.
    pub says: &'static str,
}

impl Proof {
    /// Whether a check that failed and `said` this failed because of the bug.
    fn is_shown_by(&self, said: &str) -> bool {
        self.says.split('|').any(|text| said.contains(text))
    }
}

/// The programs that checks need, built with the feature `planted`.
pub struct Programs {
    /// The tests of the library.
    tests: Option<PathBuf>,
    server: Option<PathBuf>,
    /// Where runs leave their files.
    out: PathBuf,
}

impl Programs {
    /// Builds what the checks of `proofs` need and is not given.
    pub async fn build(
        proofs: &[Proof],
        mut tests: Option<PathBuf>,
        mut server: Option<PathBuf>,
        out: PathBuf,
    ) -> anyhow::Result<Programs> {
        let (of_tests, runs): (Vec<&Proof>, Vec<&Proof>) =
            proofs.iter().partition(|proof| matches!(proof.check, Check::Test(_)));
        if tests.is_none() && !of_tests.is_empty() {
            tests = Some(built(&["test", "--lib", "--no-run"], "chorus").await?);
        }
        if server.is_none() && !runs.is_empty() {
            server = Some(built(&["build", "--bin", "chorus"], "chorus").await?);
        }
        let whole = |path: Option<PathBuf>| path.map(|path| path.canonicalize()).transpose();
        Ok(Programs { tests: whole(tests)?, server: whole(server)?, out })
    }
}

/// What is built in: the same as in the build whose failpoints are tested, so that one build serves both.
const FEATURES: &str = "failpoints,planted";

/// The executable that cargo makes of `arguments`.
async fn built(arguments: &[&str], name: &str) -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo")
        .args(arguments)
        .args(["--workspace", "--features", FEATURES, "--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()
        .await
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed", arguments.join(" "));
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let executables = messages.filter(|message| message["target"]["name"] == name);
    let mut paths = executables.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    paths.next_back().with_context(|| format!("cargo {} made no executable", arguments.join(" ")))
}

/// How a check ended.
enum Ended {
    Passed,
    /// With all that it said.
    Failed(String),
    TooLate,
}

impl Ended {
    /// A few lines for the reader.
    fn told(&self) -> String {
        match self {
            Ended::Passed => "the check passed".to_owned(),
            Ended::Failed(said) => tail(said),
            Ended::TooLate => format!("the check took more than {LIMIT:?}"),
        }
    }
}

impl Check {
    fn command(self, programs: &Programs) -> anyhow::Result<Command> {
        Ok(match self {
            Check::Test(name) => {
                let mut command = Command::new(programs.tests.as_ref().context("its tests are built")?);
                command.args(["--exact", name, "--nocapture"]);
                command
            }
            Check::Run { workload, nemesis, seconds } => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["run", "--workload", workload, "--nemesis", nemesis, "--time", &seconds.to_string()]);
                let server = programs.server.as_ref().context("its server is built")?;
                command.arg("--binary").arg(server).arg("--out").arg(&programs.out);
                command
            }
        })
    }

    async fn run(self, programs: &Programs, bug: Option<&str>) -> anyhow::Result<(Ended, Duration)> {
        std::fs::create_dir_all(&programs.out)?;
        let said = programs.out.join("check.log");
        let file = std::fs::File::create(&said)?;
        let mut command = self.command(programs)?;
        command.env("CHORUS_PLANTED", bug.unwrap_or_default()).stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file);
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let Ok(status) = tokio::time::timeout(LIMIT, child.wait()).await else {
            child.kill().await?;
            // A run that is killed can't remove its own.
            if let Check::Run { .. } = self {
                namespaces::remove();
            }
            return Ok((Ended::TooLate, began.elapsed()));
        };
        let status = status?;
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&std::fs::read(&said)?).into_owned();
        let ran = !said.contains("running 0 tests");
        Ok((if status.success() && ran { Ended::Passed } else { Ended::Failed(said) }, took))
    }

    /// The command that a person would give.
    pub fn shown(self) -> String {
        match self {
            Check::Test(name) => format!("cargo test --features planted --lib {name}"),
            Check::Run { workload, nemesis, seconds } => {
                format!("jepsen run --workload {workload} --nemesis {nemesis} --time {seconds}")
            }
        }
    }
}

/// Runs the checks of `proofs`, each `times` with its bug, and once without if `without_bugs`; whether all did as they
/// must. Tells about each as a row of a table.
pub async fn prove(proofs: &[Proof], times: u32, without_bugs: bool, programs: &Programs) -> anyhow::Result<bool> {
    let mut uncaught = 0;
    line("| bug | caught | in | by |")?;
    line("|---|---|---|---|")?;
    for proof in proofs {
        let (mut caught, mut slowest, mut other) = (0, Duration::ZERO, String::new());
        for _ in 0..times {
            let (ended, took) = proof.check.run(programs, Some(proof.bug)).await?;
            slowest = slowest.max(took);
            match ended {
                Ended::Failed(said) if proof.is_shown_by(&said) => caught += 1,
                ended => other = ended.told(),
            }
        }
        uncaught += usize::from(caught < times);
        line(format!(
            "| {} | {caught}/{times} | {:.1} s | `{}` |",
            proof.bug,
            slowest.as_secs_f64(),
            proof.check.shown()
        ))?;
        if !other.is_empty() {
            line(format!("  not caught: {other}"))?;
        }
    }
    let checks: BTreeSet<Check> = proofs.iter().filter(|_| without_bugs).map(|proof| proof.check).collect();
    let mut failing = 0;
    for check in &checks {
        let (ended, _) = check.run(programs, None).await?;
        if !matches!(ended, Ended::Passed) {
            failing += 1;
            line(format!("fails without a bug: {}: {}", check.shown(), ended.told()))?;
        }
    }
    line(format!(
        "\ncaught every time: {} of {}; checks that pass without a bug: {} of {}",
        proofs.len() - uncaught,
        proofs.len(),
        checks.len() - failing,
        checks.len()
    ))?;
    Ok(uncaught == 0 && failing == 0)
}

fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n    ")
}

/// The proofs of the bugs named `only`, or of all.
pub fn chosen(only: &[String]) -> anyhow::Result<Vec<Proof>> {
    if let Some(unknown) = only.iter().find(|name| PROOFS.iter().all(|proof| proof.bug != **name)) {
        let known: Vec<&str> = PROOFS.iter().map(|proof| proof.bug).collect();
        bail!("there is no planted bug {unknown:?}; there are: {}", known.join(", "));
    }
    Ok(PROOFS.iter().filter(|proof| only.is_empty() || only.iter().any(|name| name == proof.bug)).copied().collect())
}

const fn test(bug: &'static str, name: &'static str, says: &'static str) -> Proof {
    Proof { bug, check: Check::Test(name), says }
}

const fn run(
    bug: &'static str,
    workload: &'static str,
    nemesis: &'static str,
    seconds: u64,
    says: &'static str,
) -> Proof {
    Proof { bug, check: Check::Run { workload, nemesis, seconds }, says }
}

/// Every planted bug, and what catches it.
const PROOFS: &[Proof] = &[
    test(
        "skip-vote-sync",
        "disk::log::tests::what_was_answered_survives_a_power_failure",
        "a vote that was given is lost",
    ),
    test(
        "ack-before-sync",
        "disk::log::tests::what_was_answered_survives_a_power_failure",
        "an acknowledged entry is lost",
    ),
    test("torn-frame", "disk::log::tests::a_flipped_bit_is_refused_by_file_and_offset", ".wal bit"),
    test("skip-checksum", "disk::segments::tests::a_flipped_bit_is_never_served", "unwrap_err"),
    test("read-without-quorum", "raft::tests::chaos::faults_lose_nothing_and_reads_are_never_stale", "a stale read:"),
    test(
        "removed-member-counts",
        "raft::tests::membership::who_is_removed_is_a_member_no_more",
        "no end of its membership",
    ),
    test(
        "forward-twice",
        "raft::tests::chaos::faults_lose_nothing_and_reads_are_never_stale",
        "applied a command twice",
    ),
    test(
        "snapshot-misses-end",
        "store::tests::recovery::a_snapshot_carries_the_whole_state_to_another_member",
        "the state is not the one of the snapshot",
    ),
    test("stale-step", "store::tests::background::nothing_of_one_generation_is_done_to_the_next", "state/g00000001/"),
    test(
        "unlink-held",
        "store::tests::background::a_segment_that_goes_while_a_snapshot_is_made_is_in_it_all_the_same",
        "NotFound",
    ),
    test(
        "forget-applied",
        "store::tests::recovery::a_restart_brings_back_everything_from_segments_or_from_the_index",
        "the applied position is lost",
    ),
    test("lost-update", "store::tests::golden::requests_are_answered_as_etcd_does", "result: Less, target: Mod,"),
    test(
        "delete-leaves-one",
        "store::tests::model::every_revision_reads_as_the_model_says",
        "not the keys that a delete took",
    ),
    test("wrong-prev-kv", "store::tests::history::a_watch_replays_history_and_goes_on_live", "-a@5 prev a{2,2,1,"),
    test(
        "compact-drops-live",
        "store::tests::model::every_revision_reads_as_the_model_says",
        "not what lives at revision",
    ),
    test(
        "lease-stays",
        "store::tests::golden::requests_are_answered_as_etcd_does",
        "a key that is put again leaves its lease",
    ),
    test(
        "auth-unchecked",
        "store::tests::auth::a_write_is_judged_again_by_the_users_at_its_place_in_the_log",
        "unwrap_err",
    ),
    test("watch-drops", "store::tests::history::after_a_loss_watchers_read_the_history", "left: [2, 3]"),
    test(
        "watch-repeats",
        "store::tests::history::a_slow_client_loses_nothing_and_fills_no_memory",
        "client sees each revision once",
    ),
    test("watch-reorders", "store::tests::history::what_happens_together_is_told_in_order", "left: [(6,"),
    test(
        "progress-early",
        "store::tests::history::progress_is_told_after_everything_before_it",
        "progress waits for the events before it",
    ),
    test("renew-expired", "store::lease::expiry::tests::a_lease_ends_unless_it_is_renewed", "Expired"),
    test(
        "two-lessors",
        "store::lease::expiry::tests::who_does_not_lead_ends_no_lease",
        "a former leader ends no lease",
    ),
    test(
        "stale-cache",
        "apiserver::tests::stories::a_cache_that_is_behind_answers_nobody_who_must_see_more",
        "a stale view",
    ),
    test("double-bind", "apiserver::subresources::binding::tests::a_pod_is_bound_once", "unwrap_err"),
    test(
        "dead-endpoints",
        "controllers::addresses::tests::ready_and_unready_pods_are_told_apart_under_the_named_port",
        "left: \"10.0.0.1\"",
    ),
    test(
        "counts-terminating",
        "controllers::pods::tests::what_has_ended_or_is_about_to_is_not_active",
        "deletionTimestamp",
    ),
    test("orphan-pod", "controllers::garbage::tests::what_goes_and_what_stays", "without a/o Background"),
    // What users see of some of them.
    run("forward-twice", "register", "none", 12, "nonlinearizable"),
    run("lost-update", "append", "none", 10, "incompatible-order"),
    run("wrong-prev-kv", "watch", "none", 10, "prev_kv:"),
    run("watch-drops", "watch", "none", 10, "never delivered"),
    run("watch-repeats", "watch", "none", 10, "unique:|resumable:"),
    run("watch-reorders", "watch", "none", 10, "ordered:"),
    run("progress-early", "watch", "none", 10, "bookmarkable:"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_fails_for_another_reason_catches_nothing() {
        let vague = "panicked at src/x.rs:1:2:\nassertion `left == right` failed\n  left: 1\n right: 0";
        assert!(PROOFS.iter().all(|proof| !proof.is_shown_by(vague)));
        let repeats =
            PROOFS.iter().find(|proof| proof.bug == "watch-repeats" && proof.is_shown_by("    resumable: ..."));
        assert!(
            repeats.is_some_and(|proof| proof.is_shown_by("    unique: ...") && !proof.is_shown_by("watch  false"))
        );
    }

    #[test]
    fn of_a_long_log_the_end_is_shown() {
        let said: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let told = Ended::Failed(said).told();
        assert!(told.starts_with("line 92\n") && told.ends_with("line 99"), "{told}");
    }
}
