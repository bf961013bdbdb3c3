//! The command line.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use chorus_terminal::{AnsiColor, OutputError, line, note, sentence};
use clap::{Parser, Subcommand};
use jepsen::campaign::{Ending, failover, power, prove, soak, upgrade};
use jepsen::checker::{Report, Verdict};
use jepsen::cluster::{Plan, is_chorus, namespaces};
use jepsen::nemesis::Fault;
use jepsen::run::{self, Options, Outcome};
use jepsen::{history, workload};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of what ended without a verdict.
const NOBODY_CAN_TELL: u8 = 2;

/// Says that this process is in the clients' namespace.
const INSIDE: &str = "JEPSEN_INSIDE";

/// Disturbs a real cluster on this machine and checks what its clients saw
///
/// Each member is a process in a network namespace and with a filesystem of its own, so this needs Linux and root, and
/// iproute2, iptables, e2fsprogs and mount. Exit code 0: nothing wrong was found; 1: a violation; 2: no verdict.
#[derive(Parser)]
#[command(name = "jepsen", version)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Runs workloads against a cluster while faults happen
    Run(RunArgs),
    /// Kills the leader again and again, and tells how long until the next write is acknowledged
    Failover(FailoverArgs),
    /// Cuts the power of all members under load again and again, and looks for every acknowledged write
    Power(PowerArgs),
    /// Runs workloads and faults of all kinds in turn, for hours
    Soak(SoakArgs),
    /// Gives the members of a cluster another binary, one after the other, under writes, and looks for every acknowledged one
    Upgrade(UpgradeArgs),
    /// Shows that checks bite: each planted bug must be caught by its check
    Prove(ProveArgs),
    /// Checks a history again; not of `watch` and `pods`, whose histories do not hold all that they are judged by
    Check {
        /// A history.jsonl
        history: PathBuf,
        /// The workload that made it
        #[arg(long)]
        workload: String,
    },
    /// Removes namespaces that an earlier run left behind
    Clean,
}

#[derive(clap::Args, Clone)]
struct ClusterArgs {
    /// The server: chorus, or any etcd
    #[arg(long, default_value = "target/release/chorus")]
    binary: PathBuf,
    /// Members of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Where histories, logs and reports go
    #[arg(long, default_value = "jepsen-runs")]
    out: PathBuf,
    #[arg(long, default_value_t = 1000)]
    election_timeout_ms: u64,
    /// Entries between two snapshots
    #[arg(long, default_value_t = 100)]
    snapshot_count: u64,
    /// A further flag for every member; may be repeated
    #[arg(long = "flag", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,
}

#[derive(clap::Args, Clone)]
struct RunArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Workloads, with commas between, or `all`
    #[arg(long, default_value = "append")]
    workload: String,
    /// Faults: names or groups of them with commas between, `all`, or `none`
    #[arg(long, default_value = "all")]
    nemesis: String,
    /// How long each workload runs: seconds, or with a unit, as in 5m
    #[arg(long, default_value = "60", value_parser = duration)]
    time: Duration,
    #[command(flatten)]
    load: Load,
}

#[derive(clap::Args, Clone)]
struct Load {
    /// Operations a second, of all clients together
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Clients at work at the same time
    #[arg(long, default_value_t = 12)]
    clients: u64,
    /// What the run draws from; a random one by default
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(clap::Args, Clone)]
struct FailoverArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
}

#[derive(clap::Args, Clone)]
struct PowerArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    cycles: u32,
    /// What the campaign draws from; a random one by default
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(clap::Args, Clone)]
struct UpgradeArgs {
    /// The binary with which the members begin
    #[arg(long)]
    from: PathBuf,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(clap::Args, Clone)]
struct SoakArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How long: seconds, or with a unit, as in 2h
    #[arg(long, default_value = "2h", value_parser = duration)]
    time: Duration,
    /// How long each run lasts
    #[arg(long, default_value = "60", value_parser = duration)]
    each: Duration,
    /// Workloads, with commas between; by default all that must hold
    #[arg(long, default_value = "all")]
    workload: String,
    /// Faults to draw from
    #[arg(long, default_value = "all,member")]
    nemesis: String,
    #[command(flatten)]
    load: Load,
}

/// `90`, `90s`, `5m`, `2h`
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a time such as 90, 90s, 5m or 2h"))?;
    Ok(Duration::from_secs(number.saturating_mul(unit_s)))
}

#[derive(clap::Args, Clone)]
struct ProveArgs {
    /// A planted bug; may be repeated. All by default
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only the checks that are tests of the library, with their bugs: needs neither root nor a server
    #[arg(long)]
    tests_only: bool,
    /// How often each must be caught
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// The tests of the library, built with the feature `planted`; built now by default
    #[arg(long)]
    tests: Option<PathBuf>,
    /// The server, built with the feature `planted`; built now by default
    #[arg(long)]
    binary: Option<PathBuf>,
    #[arg(long, default_value = "jepsen-runs")]
    out: PathBuf,
}

pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(shown) => return show(&shown),
    };
    match act(command) {
        Ok(verdict) => match verdict {
            Verdict::True => ExitCode::SUCCESS,
            Verdict::False => ExitCode::from(1),
            Verdict::Unknown => ExitCode::from(NOBODY_CAN_TELL),
        },
        Err(error) => chorus_terminal::fail(&error, NOBODY_CAN_TELL),
    }
}

/// Shows help, or what is wrong with the arguments.
fn show(shown: &clap::Error) -> ExitCode {
    match shown.print().map_err(OutputError::from) {
        Err(error) if !shown.use_stderr() => chorus_terminal::fail(&error.into(), NOBODY_CAN_TELL),
        _ => ExitCode::from(u8::try_from(shown.exit_code()).unwrap_or(NOBODY_CAN_TELL)),
    }
}

fn act(command: Action) -> anyhow::Result<Verdict> {
    let ending = Ending::default();
    match command {
        Action::Run(args) => inside(&args.cluster, None, run_all(&args)),
        Action::Failover(args) => inside(&args.cluster, Some(&ending), async {
            let plan = plan(&args.cluster, &args.cluster.out.join(format!("failover-{}", rand::random::<u32>())))?;
            let mut times = failover::Times::default();
            let ended = failover::measure(plan, args.kills, &ending, &mut times).await;
            line(times.to_string())?;
            concluded(times.verdict(), ended)
        }),
        Action::Power(args) => inside(&args.cluster, Some(&ending), power_cycles(&args, &ending)),
        Action::Soak(args) => inside(&args.cluster, Some(&ending), soak_all(&args, &ending)),
        Action::Upgrade(args) => inside(&args.cluster, Some(&ending), upgrade_all(&args, &ending)),
        Action::Prove(args) => local(prove_all(args), None),
        Action::Check { history, workload } => check(&history, &workload),
        Action::Clean => {
            namespaces::remove();
            Ok(Verdict::True)
        }
    }
}

/// The verdict of a campaign over what it found. Trouble that ended it is told, and makes no violation undone.
fn concluded(found: Verdict, ended: anyhow::Result<()>) -> anyhow::Result<Verdict> {
    match ended {
        Ok(()) => Ok(found),
        Err(error) if found == Verdict::False => {
            note(format!("jepsen: {}", sentence(&error)));
            Ok(found)
        }
        Err(error) => Err(error),
    }
}

async fn prove_all(args: ProveArgs) -> anyhow::Result<Verdict> {
    let mut proofs = prove::chosen(&args.only)?;
    if args.tests_only {
        proofs.retain(|proof| matches!(proof.check, prove::Check::Test(_)));
    }
    let programs = prove::Programs::build(&proofs, args.tests, args.binary, args.out).await?;
    let without_bugs = !args.tests_only;
    let shown = prove::prove(&proofs, args.times, without_bugs, &programs).await?;
    Ok(if shown { Verdict::True } else { Verdict::False })
}

/// Does `work` among the namespaces of a cluster, which are gone afterwards.
fn inside(
    args: &ClusterArgs,
    ending: Option<&Ending>,
    work: impl Future<Output = anyhow::Result<Verdict>>,
) -> anyhow::Result<Verdict> {
    enter(usize::from(args.nodes))?;
    let outcome = local(work, ending);
    namespaces::remove();
    outcome
}

/// Goes on in the clients' namespace: makes the network and runs this program again inside.
fn enter(members: usize) -> anyhow::Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return namespaces::share_mounts();
    }
    if !rustix::process::geteuid().is_root() {
        bail!("namespaces and mounts need root: run it with sudo");
    }
    namespaces::make(members)?;
    let error = Command::new("ip")
        .args(["netns", "exec", namespaces::CLIENT])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("cannot enter the clients' namespace")
}

/// Interrupted once, a campaign ends with what it has so far; twice, or without `ending`, all ends at once.
fn local<T>(work: impl Future<Output = anyhow::Result<T>>, ending: Option<&Ending>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            if !ending.is_some_and(Ending::begin) {
                bail!("interrupted");
            }
            note("ending with what there is so far; again to end at once");
        }
    }))
}

fn plan(args: &ClusterArgs, dir: &Path) -> anyhow::Result<Plan> {
    let binary = args.binary.canonicalize().with_context(|| {
        format!("there is no {}: build it with `cargo build --release`, or say --binary", args.binary.display())
    })?;
    std::fs::create_dir_all(dir)?;
    Ok(Plan {
        binary,
        members: usize::from(args.nodes),
        dir: dir.canonicalize()?,
        election_timeout_ms: args.election_timeout_ms,
        snapshot_count: args.snapshot_count,
        flags: args.flags.clone(),
        own_clocks: false,
        nodes: false,
    })
}

/// The workloads of that name, or names with commas between. Of `all`, those that this binary can run.
fn workloads<'a>(text: &'a str, binary: &Path) -> anyhow::Result<Vec<&'a str>> {
    let runs = |name: &str| workload::find(name).is_some_and(|found| !found.needs_nodes() || is_chorus(binary));
    if text == "all" {
        return Ok(workload::NAMES.into_iter().filter(|name| runs(name)).collect());
    }
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    for name in &names {
        if workload::find(name).is_none() {
            bail!("there is no workload {name:?}; there are: all, {}", workload::NAMES.join(", "));
        }
        if !runs(name) {
            bail!("the workload {name} asks a Kubernetes API, which {} has not", binary.display());
        }
    }
    Ok(names)
}

fn options(cluster: &ClusterArgs, nemesis: &str, each: Duration, load: &Load, dir: &str) -> anyhow::Result<Options> {
    let seed = load.seed.unwrap_or_else(rand::random);
    Ok(Options {
        plan: plan(cluster, &cluster.out.join(format!("{dir}-{seed:016x}")))?,
        faults: Fault::parse(nemesis)?,
        time: each,
        sessions: load.clients,
        rate: load.rate,
        seed,
    })
}

async fn run_all(args: &RunArgs) -> anyhow::Result<Verdict> {
    let mut all = Verdict::True;
    let seed = args.load.seed.unwrap_or_else(rand::random);
    let load = Load { seed: Some(seed), ..args.load.clone() };
    for name in workloads(&args.workload, &args.cluster.binary)? {
        let options = options(&args.cluster, &args.nemesis, args.time, &load, name)?;
        let chosen = workload::find(name).context("its name was checked")?;
        let outcome = match run::run(&options, chosen).await {
            Ok(outcome) => outcome,
            Err(error) => return concluded(all, Err(error)),
        };
        tell(&outcome)?;
        all = all.and(outcome.verdict);
    }
    Ok(all)
}

async fn power_cycles(args: &PowerArgs, ending: &Ending) -> anyhow::Result<Verdict> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let plan = plan(&args.cluster, &args.cluster.out.join(format!("power-{seed:016x}")))?;
    let mut tally = power::Tally::default();
    let ended = power::measure(plan, args.cycles, seed, ending, &mut tally).await;
    line(tally.to_string())?;
    for violation in tally.violations.iter().take(20) {
        line(format!("  {violation}"))?;
    }
    concluded(tally.verdict(), ended)
}

async fn upgrade_all(args: &UpgradeArgs, ending: &Ending) -> anyhow::Result<Verdict> {
    let dir = args.cluster.out.join(format!("upgrade-{}", rand::random::<u32>()));
    let newer = plan(&args.cluster, &dir)?.binary;
    let older = plan(&ClusterArgs { binary: args.from.clone(), ..args.cluster.clone() }, &dir)?;
    let mut tally = upgrade::Tally::default();
    let ended = upgrade::measure(older, &newer, ending, &mut tally).await;
    line(tally.to_string())?;
    for violation in tally.violations.iter().take(20) {
        line(format!("  {violation}"))?;
    }
    concluded(tally.verdict(), ended)
}

/// The workloads of a soak: what is known to fail tells nothing there.
fn soaked<'a>(text: &'a str, binary: &Path) -> anyhow::Result<Vec<&'a str>> {
    let mut names = workloads(text, binary)?;
    names.retain(|name| workload::find(name).is_some_and(|found| found.caveat().is_none()));
    if names.is_empty() {
        bail!("{text} is known to fail on any store, which tells nothing here; choose another workload, or `run` it");
    }
    Ok(names)
}

async fn soak_all(args: &SoakArgs, ending: &Ending) -> anyhow::Result<Verdict> {
    let names = soaked(&args.workload, &args.cluster.binary)?;
    let options = options(&args.cluster, &args.nemesis, args.each, &args.load, "soak")?;
    let mut summary = soak::Summary::default();
    let tell = |run: &str, summary: &soak::Summary| line(format!("{run}\n  {summary}"));
    let ended = soak::soak(&options, &names, args.time, ending, &mut summary, tell).await;
    let file = options.plan.dir.join("summary.json");
    line(format!("{}  {summary}  {}", coloured(summary.verdict()), file.display()))?;
    concluded(summary.verdict(), ended)
}

fn tell(outcome: &Outcome) -> Result<(), OutputError> {
    let report = outcome.dir.join("report.html");
    line(format!("{:<10} {}  {}", outcome.workload, coloured(outcome.verdict), report.display()))?;
    reports(&outcome.reports)?;
    if let Some(caveat) = outcome.caveat.filter(|_| outcome.verdict == Verdict::False) {
        line(format!("  note: {caveat}"))?;
    }
    Ok(())
}

fn reports(reports: &[Report]) -> Result<(), OutputError> {
    for report in reports {
        line(format!("  {:<14} {}  {}", report.checker, coloured(report.verdict), report.notes.join("; ")))?;
        for anomaly in report.anomalies.iter().take(5) {
            line(format!("    {}: {}", anomaly.name, anomaly.what))?;
        }
    }
    Ok(())
}

fn coloured(verdict: Verdict) -> String {
    let (word, colour) = match verdict {
        Verdict::True => ("true   ", AnsiColor::Green),
        Verdict::Unknown => ("unknown", AnsiColor::Yellow),
        Verdict::False => ("false  ", AnsiColor::Red),
    };
    chorus_terminal::coloured(word, colour)
}

fn check(path: &Path, name: &str) -> anyhow::Result<Verdict> {
    let Some(workload) = workload::find(name) else {
        bail!("there is no workload {name:?}; there are: {}", workload::NAMES.join(", "));
    };
    if !workload.is_judged_by_history() {
        bail!(
            "the workload {name} is judged by what its watches and last reads told, too, which no history holds: \
             run it again with `run --workload {name} --seed` and the seed of its report"
        );
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let events = history::from_json_lines(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let checked = workload.check(&events, Duration::from_secs(600));
    reports(&checked)?;
    Ok(checked.iter().fold(Verdict::True, |all, report| all.and(report.verdict)))
}

#[cfg(test)]
mod documents;

#[cfg(test)]
mod tests;
