//! `chorus bench`: load on any etcd v3 store, or on two in turns, since only runs side by side can be compared.
//!
//! - `load`: the clients and their connections
//! - `latency`: the histogram

mod latency;
mod load;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;

use self::load::{End, Kind, Load, Outcome, Target};
use super::data_dir::DataDir;
use super::endpoints::{endpoints, url};
use super::terminal::{OutputError, line};
use crate::world::World;

/// Measure throughput and latency of a store, or of two side by side.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What the clients do.
    #[arg(value_enum)]
    workload: Workload,
    /// Where the store's members listen; connections are spread over them. [default: those of the local cluster in the
    /// directory of `--data-dir`, or else 127.0.0.1:2379]
    #[arg(long, value_delimiter = ',', env = "CHORUS_ENDPOINTS")]
    endpoints: Vec<String>,
    #[command(flatten)]
    dir: DataDir,
    /// A second store: rounds alternate between both, and their ratio is shown.
    #[arg(long, value_delimiter = ',')]
    against: Vec<String>,
    /// Clients, each with one call under way.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Connections the clients share.
    #[arg(long, default_value_t = 10)]
    conns: usize,
    /// End a round after so many calls.
    #[arg(long, conflicts_with = "time")]
    total: Option<u64>,
    /// End a round after so many seconds. [default: 5]
    #[arg(long)]
    time: Option<u64>,
    /// Rounds. [default: 1, or 5 with --against]
    #[arg(long)]
    rounds: Option<usize>,
    /// Bytes of a key.
    #[arg(long, default_value_t = 16)]
    key_size: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    val_size: usize,
    /// Different keys.
    #[arg(long, default_value_t = 10_000)]
    key_space: u64,
    /// Percentage of reads among the calls of `mixed`.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(..=100))]
    read_percent: u64,
    /// Read from one member, without a quorum.
    #[arg(long)]
    serializable: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    Put,
    Range,
    Mixed,
}

const DEFAULT_TIME: Duration = Duration::from_secs(5);
const ROUNDS_SIDE_BY_SIDE: usize = 5;
/// Writes that fill the key space before a measurement, so that reads find something.
const FILL_CLIENTS: usize = 100;

pub async fn run(world: World, args: Args) -> anyhow::Result<ExitCode> {
    ensure!(args.clients > 0 && args.key_space > 0, "--clients and --key-space must be at least 1");
    let endpoints = endpoints(&world, &args.endpoints, &args.dir.data_dir)?;
    let mut targets = vec![connect(&world, &args, &endpoints).await?];
    if !args.against.is_empty() {
        targets.push(connect(&world, &args, &args.against).await?);
    }
    let load = load(&args);
    let rounds = args.rounds.unwrap_or(if targets.len() > 1 { ROUNDS_SIDE_BY_SIDE } else { 1 });
    for target in &targets {
        fill(&world, target, &load).await;
    }
    head()?;
    let (mut ratios, mut failed) = (vec![], false);
    for round in 1..=rounds {
        let mut rates = vec![];
        for target in &targets {
            let outcome = target.run(&world, &load).await;
            row(round, &target.name, &outcome)?;
            failed |= outcome.latencies.count() == 0;
            rates.push(outcome.per_second());
        }
        if let [first, second] = rates[..] {
            ratios.push(first / second.max(f64::EPSILON));
        }
    }
    conclude(&targets, ratios)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn connect(world: &World, args: &Args, endpoints: &[String]) -> anyhow::Result<Target> {
    let urls = endpoints.iter().map(|endpoint| url(endpoint)).collect::<anyhow::Result<Vec<_>>>()?;
    Target::connect(world, &urls, args.conns.max(urls.len())).await
}

fn load(args: &Args) -> Load {
    Load {
        kind: match args.workload {
            Workload::Put => Kind::Put,
            Workload::Range => Kind::Range,
            Workload::Mixed => Kind::Mixed(args.read_percent),
        },
        clients: args.clients,
        end: match (args.total, args.time) {
            (Some(calls), _) => End::Calls(calls),
            (None, Some(seconds)) => End::After(Duration::from_secs(seconds)),
            (None, None) => End::After(DEFAULT_TIME),
        },
        key_bytes: args.key_size,
        value_bytes: args.val_size,
        key_space: args.key_space,
        serializable: args.serializable,
    }
}

async fn fill(world: &World, target: &Target, load: &Load) {
    if matches!(load.kind, Kind::Put) {
        return;
    }
    let fill = Load { kind: Kind::Fill, clients: FILL_CLIENTS, end: End::Calls(load.key_space), ..load.clone() };
    target.run(world, &fill).await;
}

fn head() -> Result<(), OutputError> {
    line(format!(
        "{:>5}  {:<40} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  errors",
        "round", "store", "calls/s", "mean ms", "p50", "p90", "p99", "p99.9", "max"
    ))
}

fn row(round: usize, name: &str, outcome: &Outcome) -> Result<(), OutputError> {
    let latencies = &outcome.latencies;
    line(format!(
        "{round:>5}  {name:<40} {:>10.0} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2}  {}",
        outcome.per_second(),
        latencies.mean_ms(),
        latencies.quantile_ms(500),
        latencies.quantile_ms(900),
        latencies.quantile_ms(990),
        latencies.quantile_ms(999),
        latencies.max_ms(),
        outcome.errors.values().sum::<u64>(),
    ))?;
    outcome.errors.iter().try_for_each(|(text, count)| line(format!("{:>5}  {count} x {text}", "")))
}

fn conclude(targets: &[Target], mut ratios: Vec<f64>) -> Result<(), OutputError> {
    let [first, second] = targets else { return Ok(()) };
    if ratios.is_empty() {
        return Ok(());
    }
    ratios.sort_by(f64::total_cmp);
    line(format!(
        "{} does {:.2} times the calls of {} (median of {} rounds; lowest {:.2}, highest {:.2})",
        first.name,
        ratios[ratios.len() / 2],
        second.name,
        ratios.len(),
        ratios[0],
        ratios[ratios.len() - 1],
    ))
}
