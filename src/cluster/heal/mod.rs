//! Healing a member whose stored files are damaged, with what its peers hold.
//!
//! ```text
//!   damaged files ──▶ peers: remove this member, add a new one at its place ──▶ `healing` written ──▶ files aside
//!                                                                  ──▶ new identity ──▶ start as one that joins
//! ```
//!
//! What was damaged is kept in a directory beside the new files. A crash on the way either leaves the damage as it was,
//! to be healed anew, or a file `healing`, from which the next start goes on.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::identity::{Identity, IdentityError};
use super::member_plan::{MemberPlan, Origin};
use super::server::existing::{self, KnownMember};
use crate::raft::{self, identity};
use crate::world::disk::Access;
use crate::world::{Disk, NodeId, World, tls};

/// For the peers to make room for the new member: they first have to see that this one is gone.
const REPLACE_LIMIT: Duration = Duration::from_secs(60);
/// What is under way, in the data directory.
const HEALING: &str = "healing";

/// Why a member was not healed. Surface it: nothing of its files was changed.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    #[error("there is nobody to heal from: no other member is named in the initial cluster")]
    NoPeers,
    #[error("there is nobody to heal from: no peer answers at {0}")]
    NoAnswer(String),
    #[error("the peers did not make room for a new member, for which a majority of the members must be up: {0}")]
    Refused(#[from] raft::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The peers have made room for `identity`; the files of the member before it go to `aside`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Healing {
    identity: Identity,
    aside: String,
}

/// Has the member replaced by a new one, moves its files aside, and tells how the new one starts.
pub async fn heal(world: &World, plan: &MemberPlan) -> Result<Origin, HealError> {
    let (cluster, known) = ask_peers(world, plan).await?;
    let now = world.clock.unix().as_secs();
    let urls = |member: &KnownMember| member.peer_urls.iter().any(|url| plan.peer_urls.contains(url));
    let (this, others): (Vec<_>, Vec<_>) = known.into_iter().partition(urls);
    let (old, learner) = (this.first().map(|member| NodeId(member.id)), this.first().is_some_and(|this| this.learner));
    let node = identity::added_member_id(&plan.peer_urls, now);
    let new = raft::Member {
        id: node,
        name: plan.name.clone(),
        peer_urls: plan.peer_urls.clone(),
        client_urls: plan.client_urls.clone(),
        learner,
    };
    let others: Vec<raft::Member> = others.into_iter().map(member).collect();
    tracing::warn!(old = ?old, new = %node, "asking the peers to replace this member");
    let identity = Identity::new(node, cluster);
    let healing = Healing { identity, aside: format!("damaged-{now}") };
    let content = serde_json::to_vec(&healing).expect("numbers and a name are JSON");
    // Without room for it there would be nobody to start as the new member.
    let note = world.disk.stage(&plan.data_dir.join(HEALING), &content, Access::Owner)?;
    let config = plan.replica_config(identity, raft::Bootstrap::Join);
    raft::replace(world, &config, &others, old, new, REPLACE_LIMIT).await?;
    note.commit()?;
    finish(&world.disk, &plan.data_dir)?;
    Ok(Origin::Existing { node, cluster })
}

/// Goes on with what a crash interrupted, if there is anything.
pub fn finish(disk: &Disk, data_dir: &Path) -> Result<(), HealError> {
    let path = data_dir.join(HEALING);
    if !disk.exists(&path) {
        return Ok(());
    }
    let healing: Result<Healing, _> = serde_json::from_slice(&disk.read(&path)?);
    let healing =
        healing.map_err(|error| IdentityError::Unreadable { path: path.clone(), message: error.to_string() })?;
    let aside = data_dir.join(&healing.aside);
    disk.create_dir_all(&aside, Access::Owner)?;
    for name in Identity::FILES_OF_A_MEMBER {
        let (from, to) = (data_dir.join(name), aside.join(name));
        if disk.exists(&from) && !disk.exists(&to) {
            disk.rename(&from, &to)?;
        }
    }
    disk.sync_dir(&aside)?;
    healing.identity.keep(disk, data_dir)?;
    disk.remove(&path)?;
    disk.sync_dir(data_dir)?;
    tracing::warn!(aside = %aside.display(), "the damaged files are kept here; remove them when nobody needs them");
    Ok(())
}

fn member(known: KnownMember) -> raft::Member {
    let KnownMember { id, peer_urls, name, learner } = known;
    raft::Member { id: NodeId(id), name, peer_urls, client_urls: Vec::new(), learner }
}

/// What the first peer that answers knows of the members.
async fn ask_peers(world: &World, plan: &MemberPlan) -> Result<(raft::ClusterId, Vec<KnownMember>), HealError> {
    let Origin::New { members, .. } = &plan.origin else { return Err(HealError::NoPeers) };
    let others = members.iter().flat_map(|member| &member.peer_urls).filter(|url| !plan.peer_urls.contains(url));
    let urls: Vec<&String> = others.collect();
    if urls.is_empty() {
        return Err(HealError::NoPeers);
    }
    let secure = urls.iter().any(|url| url.starts_with("https://") || url.starts_with("unixs:"));
    let tls = secure.then(|| tls::Client::new(world, plan.security.tls.clone())).transpose()?;
    for url in &urls {
        match existing::members(world, url, tls.clone()).await {
            Ok(known) => return Ok(known),
            Err(error) => tracing::warn!(peer = url, error, "a peer does not say who the members are"),
        }
    }
    let urls: Vec<&str> = urls.into_iter().map(String::as_str).collect();
    Err(HealError::NoAnswer(urls.join(", ")))
}

#[cfg(test)]
mod tests;
