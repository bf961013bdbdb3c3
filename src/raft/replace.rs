//! Replacing a member whose files are lost or damaged. While it does not run, the other members are asked to do so.
//!
//! A member that lost its vote or entries that it acknowledged must never act under its ID again: it could vote twice in
//! a term, or help to commit without what it once promised to hold. So the others remove that ID for good and add
//! another one, which starts with nothing and votes once it has caught up.

use std::time::Duration;

use super::change::{Change, ChangeError, ChangeRequest, ChangeResult};
use super::peers::{Peers, Purpose, head};
use super::wire::CHANGE;
use super::{Config, Error, Member};
use crate::world::{NodeId, World};

/// Pause between two rounds of asking.
const PACE: Duration = Duration::from_millis(500);

/// Asks the `others` to remove `old`, if they still know it, and to add `new` in its place, within `limit`. `config` is
/// that of the member that asks.
pub async fn replace(
    world: &World,
    config: &Config,
    others: &[Member],
    old: Option<NodeId>,
    new: Member,
    limit: Duration,
) -> Result<(), Error> {
    let peers = Peers::new(world.clone(), config)?;
    for other in others {
        peers.know(other.id.0, &other.peer(!other.learner));
    }
    let asking = Asking { world, config, peers, others };
    let work = async {
        if let Some(old) = old {
            asking.insist(Change::Remove { id: old.0 }).await?;
        }
        asking.insist(Change::Add { id: new.id.0, peer: new.peer(!new.learner) }).await
    };
    world.clock.timeout(limit, work).await.map_err(|_| Error::Timeout)?
}

struct Asking<'a> {
    world: &'a World,
    config: &'a Config,
    peers: Peers,
    others: &'a [Member],
}

impl Asking<'_> {
    /// Asks one member after the other until the change is made or proves impossible.
    async fn insist(&self, change: Change) -> Result<(), Error> {
        loop {
            for other in self.others {
                match self.ask(other.id, change.clone()).await {
                    Some(Ok(_)) => return Ok(()),
                    // An answer to an earlier round may have been lost.
                    Some(Err(ChangeError::NotFound(_))) if matches!(change, Change::Remove { .. }) => return Ok(()),
                    Some(Err(ChangeError::Exists(_))) if matches!(change, Change::Add { .. }) => return Ok(()),
                    Some(Err(reason @ (ChangeError::LastVoter | ChangeError::TooManyLearners))) => {
                        return Err(reason.into_error());
                    }
                    Some(Err(reason)) => {
                        tracing::info!(member = %other.id, ?reason, "the membership was not changed yet")
                    }
                    None => (),
                }
            }
            self.world.clock.sleep(PACE).await;
        }
    }

    async fn ask(&self, other: NodeId, change: Change) -> Option<ChangeResult> {
        let request = ChangeRequest { change, rules: self.config.rules };
        let limit = self.config.timings.election.end * 3;
        let answer = self.peers.call(other.0, Purpose::Control, CHANGE, head(&request), limit).await;
        answer.inspect_err(|error| tracing::info!(member = %other, %error, "a peer did not answer")).ok()
    }
}
