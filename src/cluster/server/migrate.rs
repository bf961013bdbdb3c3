//! A server's data directory from etcd's and back: where the files lie, and which file says who the member is.

use std::path::{Path, PathBuf};

use super::plan::FILES;
use crate::cluster::identity::Identity;
use crate::cluster::member::MemberError;
use crate::cluster::member_plan::InitialMember;
use crate::raft::{self, identity};
use crate::store::migrate::{self, Error, Exported, Imported, NewCluster, ToEtcd};
use crate::world::disk::Access;
use crate::world::{NodeId, World};

/// Where a member's data comes from.
#[derive(Clone, Debug)]
pub enum From {
    /// The data directory of a stopped member, whose log may lie elsewhere.
    DataDir { path: PathBuf, wal_dir: Option<PathBuf> },
    /// A snapshot, with which the named member of a new cluster begins.
    Snapshot { path: PathBuf, skip_hash_check: bool, name: String, members: Vec<InitialMember>, token: String },
}

/// Takes over, in place, what a member of etcd left in `data_dir`.
pub async fn take_over(world: &World, data_dir: &Path, wal_dir: Option<&Path>) -> Result<(), MemberError> {
    let to = data_dir.join(FILES);
    let taken = migrate::take_over(world, data_dir, wal_dir, &to, |imported| identity_of(imported).file()).await;
    taken.map_err(MemberError::NotTakenOver)?;
    Ok(())
}

/// Makes a data directory from etcd's; `to` must not hold a member.
pub async fn from_etcd(world: &World, from: &From, to: &Path) -> Result<Imported, MemberError> {
    let files = to.join(FILES);
    if world.disk.exists(&files) {
        return Err(Error::Exists(files).into());
    }
    let making = files.with_extension("new");
    if world.disk.exists(&making) {
        world.disk.remove_dir_all(&making)?;
    }
    let imported = match from {
        From::DataDir { path, wal_dir } => migrate::from_data_dir(world, path, wal_dir.as_deref(), &making).await?,
        From::Snapshot { path, skip_hash_check, name, members, token } => {
            let cluster = new_cluster(name, members, token)?;
            migrate::from_snapshot(world, path, *skip_hash_check, &making, cluster).await?
        }
    };
    let (name, content) = identity_of(&imported).file();
    world.disk.replace(&making.join(name), &content, Access::Owner)?;
    world.disk.rename(&making, &files)?;
    for directory in files.ancestors().skip(1).take(2) {
        world.disk.sync_dir(directory)?;
    }
    Ok(imported)
}

/// Makes a data directory of etcd from that of a stopped member.
pub async fn to_etcd(
    world: &World,
    data_dir: &Path,
    to: &Path,
    member: Option<String>,
) -> Result<Exported, MemberError> {
    let (files, wanted) = find(world, data_dir, member)?;
    let _lock = world.disk.lock_dir(&files)?;
    Ok(migrate::to_etcd(world, &files, to, &wanted).await?)
}

/// Writes the log of a stopped member as etcd's; says how many entries there are.
pub async fn export_wal(world: &World, data_dir: &Path, to: &Path) -> Result<u64, MemberError> {
    let (files, wanted) = find(world, data_dir, None)?;
    let _lock = world.disk.lock_dir(&files)?;
    Ok(migrate::export_wal(world, &files, to, &wanted).await?)
}

/// The member's files below a data directory, or the directory itself where it is a member's.
fn find(world: &World, data_dir: &Path, member: Option<String>) -> Result<(PathBuf, ToEtcd), MemberError> {
    for files in [data_dir.join(FILES), data_dir.to_owned()] {
        if let Some(identity) = Identity::read(&world.disk, &files)? {
            return Ok((files, ToEtcd { node: identity.node, cluster: identity.cluster(), member }));
        }
    }
    let reason = "there is no member in it; name the data directory of one, such as chorus-data/n1".to_owned();
    Err(Error::Unfit { path: data_dir.to_owned(), reason }.into())
}

fn identity_of(imported: &Imported) -> Identity {
    Identity::new(imported.node, imported.cluster)
}

fn new_cluster(name: &str, members: &[InitialMember], token: &str) -> Result<NewCluster, MemberError> {
    let members: Vec<raft::Member> = members
        .iter()
        .map(|member| raft::Member {
            id: identity::member_id(&member.peer_urls, token),
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            learner: false,
        })
        .collect();
    let node: Option<NodeId> = members.iter().find(|member| member.name == name).map(|member| member.id);
    let node = node.ok_or_else(|| MemberError::NotInitial { name: name.to_owned() })?;
    let cluster = raft::ClusterId(identity::cluster_id(members.iter().map(|member| member.id)));
    Ok(NewCluster { node, cluster, members })
}
