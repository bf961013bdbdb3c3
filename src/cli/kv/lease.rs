//! `lease`: keys that live as long as somebody renews them.

use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use clap::Subcommand;

use super::advice::Effect;
use super::args::lease_id;
use super::session::Session;

/// A lease is renewed when a third of its time has passed.
const RENEWALS_PER_TTL: u32 = 3;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Make a lease that lives for TTL seconds unless it is renewed.
    Grant { ttl: i64 },
    /// End a lease and delete its keys.
    Revoke {
        #[arg(value_parser = lease_id)]
        id: i64,
    },
    /// Show how long a lease has left.
    #[command(name = "timetolive")]
    TimeToLive {
        #[arg(value_parser = lease_id)]
        id: i64,
        /// Show the keys of the lease, too.
        #[arg(long)]
        keys: bool,
    },
    /// Renew a lease until the command is interrupted.
    KeepAlive {
        #[arg(value_parser = lease_id)]
        id: i64,
        /// Renew it once.
        #[arg(long)]
        once: bool,
    },
    /// List the leases.
    List,
}

impl Command {
    pub fn effect(&self) -> Effect {
        match self {
            Command::Grant { .. } | Command::Revoke { .. } => Effect::Writes,
            Command::TimeToLive { .. } | Command::KeepAlive { .. } | Command::List => Effect::Reads,
        }
    }
}

pub(super) async fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    let (store, printer) = (&session.store, &session.printer);
    match command {
        Command::Grant { ttl } => printer.granted(&store.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await?)?,
        Command::Revoke { id } => printer.revoked(id, &store.lease_revoke(pb::LeaseRevokeRequest { id }).await?)?,
        Command::TimeToLive { id, keys } => {
            let answer = store.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await?;
            printer.time_to_live(&answer, keys)?;
        }
        Command::KeepAlive { id, once } => keep_alive(session, id, once).await?,
        Command::List => printer.leases(&store.lease_leases(pb::LeaseLeasesRequest {}).await?)?,
    }
    Ok(())
}

async fn keep_alive(session: &Session, id: i64, once: bool) -> anyhow::Result<()> {
    loop {
        let answer = session.store.lease_keep_alive(pb::LeaseKeepAliveRequest { id }).await?;
        session.printer.kept_alive(&answer)?;
        if once || answer.ttl <= 0 {
            return Ok(());
        }
        let ttl = Duration::from_secs(answer.ttl.unsigned_abs());
        session.world.clock.sleep(ttl / RENEWALS_PER_TTL).await;
    }
}
