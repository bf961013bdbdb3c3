//! `chorus kv`: a small client with etcdctl's words and flags, for users without etcdctl.
//!
//! - `args`: keys and their options as requests, shared by the commands and by transactions
//! - `txn`: the grammar of transactions
//! - `watch`, `lease`: the commands that may run on
//! - `session`: what every command works with; `user`: in whose name
//! - `advice`: what a user can do about errors
//! - `print`: what is shown, plain or as JSON

mod advice;
mod args;
mod lease;
mod print;
mod session;
mod txn;
mod user;
mod watch;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use chorus_proto::etcdserverpb as pb;
use clap::Subcommand;

use self::advice::{Effect, Operation, advice};
use self::args::{Del, Get, Put};
use self::print::{Format, Printer};
use self::session::Session;
use self::user::{User, in_the_name_of};
use super::data_dir::{DATA_DIR, DATA_DIR_VARIABLE};
use super::endpoints::{endpoints, url};
use crate::store::client::Client;
use crate::store::{Remote, RemoteConfig};
use crate::world::{World, tls};

/// Read, write and watch keys of any etcd v3 store.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where the store's members listen; if one does not answer, the next one is tried. [default: those of the local
    /// cluster in the directory of `--data-dir`, or else 127.0.0.1:2379]
    #[arg(long, global = true, value_delimiter = ',', env = "CHORUS_ENDPOINTS")]
    endpoints: Vec<String>,
    /// Directory of a local cluster, used when no endpoints are given.
    #[arg(long, global = true, value_name = "DIR", default_value = DATA_DIR, env = DATA_DIR_VARIABLE)]
    data_dir: PathBuf,
    /// Format of the output.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Simple)]
    write_out: Format,
    /// How long a command may take, in seconds.
    #[arg(long, global = true, default_value_t = 5)]
    command_timeout: u64,
    /// The CA certificates to verify https endpoints with; by default, the system's.
    #[arg(long, global = true, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate to show to https endpoints.
    #[arg(long, global = true, value_name = "FILE", requires = "key_file")]
    cert: Option<PathBuf>,
    /// The key to that certificate.
    // Not called `key`: that is what most commands call the key that they read or write.
    #[arg(long = "key", global = true, value_name = "FILE", requires = "cert")]
    key_file: Option<PathBuf>,
    /// Accept any certificate of an https endpoint. Anyone on the network can then read and change everything.
    #[arg(long, global = true)]
    insecure_skip_tls_verify: bool,
    /// In whose name to ask a store with authentication.
    #[arg(long, global = true, value_name = "NAME:PASSWORD")]
    user: Option<User>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show a key, or the keys of a range or prefix.
    Get(Get),
    /// Write a key; without a value among the arguments, it is read from standard input.
    Put(Put),
    /// Delete a key, or the keys of a range or prefix.
    Del(Del),
    /// Run a transaction read from standard input: compares, a blank line, what to do if all hold, a blank line, what
    /// to do if not.
    Txn(txn::Args),
    /// Show the changes of a key, range or prefix until it is interrupted.
    Watch(watch::Args),
    /// Grant, renew and revoke leases.
    #[command(subcommand)]
    Lease(lease::Command),
    /// Forget all history before a revision.
    #[command(visible_alias = "compaction")]
    Compact {
        revision: i64,
        /// Wait until the space is reclaimed.
        #[arg(long)]
        physical: bool,
    },
}

impl Command {
    fn effect(&self) -> Effect {
        match self {
            Command::Get(_) | Command::Watch(_) => Effect::Reads,
            Command::Put(_) | Command::Del(_) | Command::Txn(_) => Effect::Writes,
            Command::Lease(lease) => lease.effect(),
            Command::Compact { .. } => Effect::Compacts,
        }
    }
}

/// Runs one command of `chorus kv`.
pub async fn run(world: World, args: Args) -> anyhow::Result<ExitCode> {
    let endpoints = endpoints(&world, &args.endpoints, &args.data_dir)?;
    let urls = endpoints.iter().map(|endpoint| url(endpoint)).collect::<anyhow::Result<Vec<_>>>()?;
    let operation = Operation {
        endpoints: endpoints.join(", "),
        effect: args.command.effect(),
        secure: urls.iter().any(|url| url.starts_with("https:") || url.starts_with("unixs:")),
        certificate: args.cert.is_some(),
    };
    let store = connect(&world, &args, urls, operation.secure)?;
    let executed = async {
        let store = in_the_name_of(args.user.as_ref(), store).await?;
        let session = Session { world, store, printer: Printer::new(args.write_out) };
        execute(&session, args.command).await
    };
    executed.await.map_err(|error| match error.downcast_ref().and_then(|error| advice(error, &operation)) {
        Some(sentence) => anyhow!(sentence),
        None => error,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn connect(world: &World, args: &Args, urls: Vec<String>, secure: bool) -> anyhow::Result<Client> {
    let tls = tls::Options {
        trusted_ca_file: args.cacert.clone(),
        cert_file: args.cert.clone(),
        key_file: args.key_file.clone(),
        insecure_skip_verify: args.insecure_skip_tls_verify,
        ..tls::Options::default()
    };
    let request_timeout = Duration::from_secs(args.command_timeout);
    let tls = secure.then(|| tls::Client::new(world, tls)).transpose()?;
    let config = RemoteConfig { request_timeout, tls, ..RemoteConfig::new(urls) };
    Ok(Client::new(Remote::new(world, config)?))
}

/// The definition of the requests in a transaction.
#[cfg(test)]
pub(super) fn transaction_requests() -> clap::Command {
    <txn::Op as clap::CommandFactory>::command()
}

async fn execute(session: &Session, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Get(get) => {
            let answer = session.store.range(get.request()?).await?;
            session.printer.range(&answer, &get)?;
        }
        Command::Put(put) => {
            let request = put.request(read_value)?;
            session.printer.put(&session.store.put(request).await?)?;
        }
        Command::Del(del) => session.printer.del(&session.store.delete_range(del.request()?).await?)?,
        Command::Txn(args) => txn::run(session, &args).await?,
        Command::Watch(args) => watch::run(session, args).await?,
        Command::Lease(command) => lease::run(session, command).await?,
        Command::Compact { revision, physical } => {
            let answer = session.store.compact(pb::CompactionRequest { revision, physical }).await?;
            session.printer.compacted(revision, &answer)?;
        }
    }
    Ok(())
}

fn read_value() -> anyhow::Result<Vec<u8>> {
    let mut value = vec![];
    std::io::stdin().read_to_end(&mut value).context("reading the value from standard input")?;
    Ok(value)
}
