//! The command line.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use jepsen::checker::{Report, Verdict};
use jepsen::cluster::{Plan, namespaces};
use jepsen::nemesis::Fault;
use jepsen::run::{self, Options, Outcome};
use jepsen::{failover, history, workload};

/// Says that this process is in the clients' namespace.
const INSIDE: &str = "JEPSEN_INSIDE";

/// Disturbs a real cluster on this machine and checks what its clients saw
///
/// Each member is a process in a network namespace and with a filesystem of its own, so this needs Linux and root, and
/// iproute2, iptables, e2fsprogs and mount. Exit code 0: nothing wrong was found; 1: a violation; 2: nobody can tell.
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
    /// Checks a history again
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
    /// Seconds each workload runs
    #[arg(long, default_value_t = 60)]
    time: u64,
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
    #[arg(long, default_value_t = 20)]
    kills: u32,
}

pub fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(verdict) => match verdict {
            Verdict::True => ExitCode::SUCCESS,
            Verdict::False => ExitCode::from(1),
            Verdict::Unknown => ExitCode::from(2),
        },
        Err(error) => {
            eprintln!("jepsen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn act(command: Action) -> anyhow::Result<Verdict> {
    match command {
        Action::Run(args) => {
            enter(usize::from(args.cluster.nodes))?;
            let outcome = local(run_all(&args));
            namespaces::remove();
            outcome
        }
        Action::Failover(args) => {
            enter(usize::from(args.cluster.nodes))?;
            let outcome = local(async {
                let plan = plan(&args.cluster, &args.cluster.out.join(format!("failover-{}", rand::random::<u32>())))?;
                let times = failover::measure(plan, args.kills).await?;
                println!("{times}");
                Ok(Verdict::True)
            });
            namespaces::remove();
            outcome
        }
        Action::Check { history, workload } => check(&history, &workload),
        Action::Clean => {
            namespaces::remove();
            Ok(Verdict::True)
        }
    }
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

fn local<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
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
        environment: Vec::new(),
    })
}

async fn run_all(args: &RunArgs) -> anyhow::Result<Verdict> {
    let faults = Fault::parse(&args.nemesis)?;
    let names: Vec<&str> = match args.workload.as_str() {
        "all" => workload::NAMES.to_vec(),
        names => names.split(',').map(str::trim).collect(),
    };
    let seed = args.seed.unwrap_or_else(rand::random);
    let mut all = Verdict::True;
    for name in names {
        let Some(chosen) = workload::find(name) else {
            bail!("there is no workload {name:?}; there are: all, {}", workload::NAMES.join(", "));
        };
        let options = Options {
            plan: plan(&args.cluster, &args.cluster.out.join(format!("{name}-{seed:016x}")))?,
            faults: faults.clone(),
            time: Duration::from_secs(args.time),
            sessions: args.clients,
            rate: args.rate,
            seed,
        };
        let outcome = run::run(&options, chosen).await?;
        tell(&outcome);
        all = all.and(outcome.verdict);
    }
    Ok(all)
}

fn tell(outcome: &Outcome) {
    println!("{:<10} {}  {}", outcome.workload, coloured(outcome.verdict), outcome.dir.join("report.html").display());
    reports(&outcome.reports);
    if let Some(caveat) = outcome.caveat.filter(|_| outcome.verdict == Verdict::False) {
        println!("  note: {caveat}");
    }
}

fn reports(reports: &[Report]) {
    for report in reports {
        println!("  {:<14} {}  {}", report.checker, coloured(report.verdict), report.notes.join("; "));
        for anomaly in report.anomalies.iter().take(5) {
            println!("    {}: {}", anomaly.name, anomaly.what);
        }
    }
}

fn coloured(verdict: Verdict) -> String {
    use anstyle::AnsiColor;
    let (word, colour) = match verdict {
        Verdict::True => ("true   ", AnsiColor::Green),
        Verdict::Unknown => ("unknown", AnsiColor::Yellow),
        Verdict::False => ("false  ", AnsiColor::Red),
    };
    if !std::io::stdout().is_terminal() {
        return word.to_owned();
    }
    let style = colour.on_default().bold();
    format!("{style}{word}{style:#}")
}

fn check(path: &Path, name: &str) -> anyhow::Result<Verdict> {
    let Some(workload) = workload::find(name) else {
        bail!("there is no workload {name:?}; there are: {}", workload::NAMES.join(", "));
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let events = history::from_json_lines(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let checked = workload.check(&events, Duration::from_secs(600));
    reports(&checked);
    Ok(checked.iter().fold(Verdict::True, |all, report| all.and(report.verdict)))
}
