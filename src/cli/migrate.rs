//! `chorus migrate`: data directories of etcd, from and to.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{ArgGroup, Subcommand};

use super::terminal::line;
use crate::cluster::server::migrate::{self, From};
use crate::cluster::server::plan::initial_members;
use crate::world::World;

#[derive(clap::Args)]
#[command(
    after_help = "The source is not changed; no member may run on it meanwhile. `chorus etcd` also takes over etcd's \
                        data directory by itself when it is started on one."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a data directory from that of a stopped etcd member, or from a snapshot file
    FromEtcd(FromEtcd),
    /// Make a data directory of etcd from that of a stopped member
    ToEtcd(ToEtcd),
    /// Write the Raft log of a stopped member as etcd's, for etcd's tools
    ExportWal(ExportWal),
}

#[derive(clap::Args)]
#[command(group(ArgGroup::new("source").required(true).args(["data_dir", "snapshot"])))]
struct FromEtcd {
    /// Data directory of an etcd member (3.4 or newer)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory of its write-ahead log, if it is elsewhere
    #[arg(long, value_name = "DIR", requires = "data_dir")]
    wal_dir: Option<PathBuf>,
    /// A file that `etcdctl snapshot save` wrote
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Accept a database file without a checksum, such as a copied one
    #[arg(long, requires = "snapshot")]
    skip_hash_check: bool,
    /// Name of the new cluster's member that the directory is for
    #[arg(long, default_value = "default", requires = "snapshot")]
    name: String,
    /// All members of the new cluster: NAME=PEER-URL, separated by commas
    #[arg(long, default_value = "default=http://localhost:2380", requires = "snapshot")]
    initial_cluster: String,
    /// Token of the new cluster
    #[arg(long, default_value = "etcd-cluster", requires = "snapshot")]
    initial_cluster_token: String,
    /// The data directory to make, for `chorus etcd --data-dir`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(clap::Args)]
struct ToEtcd {
    /// Data directory of the member
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Which member of the cluster the new directory is for, by name or ID; by default, the one whose directory is read
    #[arg(long)]
    member: Option<String>,
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(clap::Args)]
struct ExportWal {
    /// Data directory of the member
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The directory to make for the files of the log
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub async fn run(world: World, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::FromEtcd(args) => from_etcd(&world, args).await?,
        Command::ToEtcd(args) => to_etcd(&world, args).await?,
        Command::ExportWal(args) => {
            let entries = migrate::export_wal(&world, &args.data_dir, &args.out).await?;
            line(format!("{}: {entries} entries", args.out.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn from_etcd(world: &World, args: FromEtcd) -> anyhow::Result<()> {
    if let Some(path) = &args.snapshot {
        ensure!(
            world.disk.exists(path),
            "there is no file {}: name one that `etcdctl snapshot save` wrote with --snapshot",
            path.display()
        );
    }
    let from = match (args.data_dir, args.snapshot) {
        (Some(path), _) => From::DataDir { path, wal_dir: args.wal_dir },
        (None, Some(path)) => From::Snapshot {
            path,
            skip_hash_check: args.skip_hash_check,
            name: args.name,
            members: initial_members(&args.initial_cluster)?,
            token: args.initial_cluster_token,
        },
        (None, None) => unreachable!("one of the two is required"),
    };
    let imported = migrate::from_etcd(world, &from, &args.out).await?;
    line(format!(
        "{}: member {:x} of cluster {}, {} members, revision {}, compacted {}, {} leases, {} entries to apply at start",
        args.out.display(),
        imported.node.0,
        imported.cluster,
        imported.members,
        imported.revision,
        imported.compacted,
        imported.leases,
        imported.entries
    ))?;
    Ok(())
}

async fn to_etcd(world: &World, args: ToEtcd) -> anyhow::Result<()> {
    let exported = migrate::to_etcd(world, &args.data_dir, &args.out, args.member).await?;
    line(format!(
        "{}: member {:?} ({:x}) of {}, revision {}, compacted {}, HashKV {}",
        args.out.display(),
        exported.member.name,
        exported.member.id.0,
        exported.members,
        exported.revision,
        exported.compacted,
        exported.hash
    ))?;
    Ok(())
}
