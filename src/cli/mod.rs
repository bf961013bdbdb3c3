//! The command line: argument parsing and calls into the rooms below; nothing is decided here.
//!
//! - [`up`]: launch a local cluster, watch it, end it
//! - [`local`]: `status`, `down`, `kill`, `pause`, `resume`, `start`, `logs`
//! - [`node`]: run one node in the foreground
//! - [`etcd`]: a drop-in etcd process
//! - [`kv`]: a small etcd client
//! - [`migrate`]: data directories of etcd
//! - [`bench`]: a load generator for any etcd v3
//! - `data_dir`, `endpoints`: which cluster a command is for
//! - `signals`: those that ask a process to end
//! - [`terminal`]: lines, tables, errors, progress

pub mod bench;
mod data_dir;
mod endpoints;
pub mod etcd;
pub mod kv;
mod local;
mod migrate;
mod node;
mod signals;
mod terminal;
#[cfg(test)]
mod tests;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::terminal::OutputError;
use crate::world::{World, process};

/// A drop-in etcd v3 and a Kubernetes-compatible control plane on that store, in one binary.
#[derive(Parser)]
#[command(name = "chorus", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Start here:\n  chorus up                    launch three nodes on this machine\n  \
                        chorus status                how they are\n  \
                        kubectl --kubeconfig chorus-data/kubeconfig get nodes\n  \
                        etcdctl --endpoints 127.0.0.1:2379 endpoint health")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Launch a local cluster and wait until it is ready; Ctrl-C ends it, and a later `up` carries on
    Up(up::Args),
    /// Show the nodes of a local cluster
    Status(local::Status),
    /// End a local cluster; its data stays
    Down(local::Cluster),
    /// Kill a node at once, as a crash would
    Kill(local::Node),
    /// Freeze a node's process
    Pause(local::Node),
    /// Let a frozen node go on
    Resume(local::Node),
    /// Start a node that was killed
    Start(local::Start),
    /// Print what a node's process has written
    Logs(local::Logs),
    /// Run one node in the foreground
    Node(node::Args),
    /// Run a drop-in etcd process, with etcd's own flags; so does this binary under the name `etcd`
    #[command(disable_help_flag = true)]
    Etcd {
        /// etcd's flags; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<std::ffi::OsString>,
    },
    /// Read, write and watch keys of any etcd v3 store
    Kv(kv::Args),
    /// Measure throughput and latency of a store, or of two side by side
    Bench(bench::Args),
    /// Move data between etcd and Chorus
    Migrate(migrate::Args),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The exit code of a command that failed.
const FAILURE: u8 = 1;

/// Runs the command that the arguments name. Errors go to stderr, in one line where one is enough.
pub fn main() -> ExitCode {
    let command = match etcd_flags() {
        Some(flags) => Command::Etcd { flags },
        None => match Args::try_parse() {
            Ok(args) => args.command,
            Err(shown) => return show(&shown),
        },
    };
    process::raise_descriptors();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the system gives threads and sockets")
    };
    actix::System::with_tokio_rt(runtime).block_on(async {
        let world = World::real();
        match run(world, command).await {
            Ok(code) => code,
            Err(error) => terminal::fail(&error, FAILURE),
        }
    })
}

/// Shows help, or what is wrong with the arguments.
fn show(shown: &clap::Error) -> ExitCode {
    match shown.print().map_err(OutputError::from) {
        // Help was asked for, so a failure to print it is a failure of the command. An error message may get lost.
        Err(error) if !shown.use_stderr() => terminal::fail(&error.into(), FAILURE),
        _ => ExitCode::from(u8::try_from(shown.exit_code()).unwrap_or(1)),
    }
}

/// The arguments, if the program was started under the name `etcd`, or as `chorus etcd`, whose flags are not clap's.
fn etcd_flags() -> Option<Vec<std::ffi::OsString>> {
    let mut words = std::env::args_os();
    let program = words.next()?;
    if std::path::Path::new(&program).file_name().is_some_and(|name| name == "etcd") {
        return Some(words.collect());
    }
    (words.next()? == "etcd").then(|| words.collect())
}

async fn run(world: World, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(world, args).await,
        Command::Status(args) => local::status(world, args).await,
        Command::Down(args) => local::down(world, args).await,
        Command::Kill(args) => local::kill(world, args).await,
        Command::Pause(args) => local::pause(world, args),
        Command::Resume(args) => local::resume(world, args),
        Command::Start(args) => local::start(world, args).await,
        Command::Logs(args) => local::logs(world, args).await,
        Command::Node(args) => node::run(world, args).await,
        Command::Etcd { flags } => Ok(etcd::run(world, flags).await),
        Command::Kv(args) => kv::run(world, args).await,
        Command::Bench(args) => bench::run(world, args).await,
        Command::Migrate(args) => migrate::run(world, args).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "chorus", &mut script);
            terminal::print(script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
