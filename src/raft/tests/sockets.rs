//! The room in the real world: members on threads of their own, real sockets, real files.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::toy::{Commands, Toy};
use crate::disk::log;
use crate::raft::{ClusterId, Config, Handle, Member, Replica, Rules};
use crate::world::{Disk, NodeId, World};

const PATIENCE: Duration = Duration::from_secs(30);
const COMMANDS: usize = 300;

#[test]
fn members_commit_over_sockets_and_come_back_with_all_they_had() {
    let directory = tempfile::tempdir().unwrap();
    let multi_thread = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    actix::System::with_tokio_rt(multi_thread).block_on(async {
        let world = World::real();
        let members = members(&world).await;
        let first = start_all(&world, &members, directory.path()).await;
        for (handle, _) in &first {
            for n in 0..COMMANDS {
                let command = Bytes::from(format!("{handle:?} {n}"));
                handle.propose(command, Box::new(|reason| panic!("refused: {reason}")));
            }
        }
        let order = applied_everywhere(&world, &first).await;
        for (handle, _) in &first {
            handle.read_index(Instant::now() + PATIENCE).await.unwrap();
        }
        for (handle, _) in &first {
            handle.shutdown().await;
        }
        let second = start_all(&world, &members, directory.path()).await;
        assert_eq!(applied_everywhere(&world, &second).await, order);
        for (handle, _) in &second {
            handle.shutdown().await;
        }
    });
}

async fn members(world: &World) -> Vec<Member> {
    let mut members = Vec::new();
    for id in 1..=3 {
        let address = world.net.listen("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let peer_urls = vec![format!("http://{address}")];
        members.push(Member { id: NodeId(id), name: format!("n{id}"), peer_urls, client_urls: vec![], learner: false });
    }
    members
}

async fn start_all(world: &World, members: &[Member], directory: &Path) -> Vec<(Handle, Commands)> {
    let start = async |member: &Member| {
        let commands = Commands::default();
        let data_dir = directory.join(&member.name);
        let config = Config {
            rules: Rules { strict: false, ..Rules::default() },
            log: log::Options { segment_bytes: 1 << 20, cache_bytes_max: 1 << 20 },
            ..Config::new(member.clone(), members.to_vec(), ClusterId(1), data_dir.clone())
        };
        let toy = Toy::open(Disk::real(), &data_dir.join("state"), commands.clone());
        (Replica::start(world.clone(), config, Box::new(toy)).await.unwrap(), commands)
    };
    futures::future::join_all(members.iter().map(start)).await
}

/// Waits until all members applied all commands, and gives their common order.
async fn applied_everywhere(world: &World, members: &[(Handle, Commands)]) -> Vec<Bytes> {
    let end = Instant::now() + PATIENCE;
    while members.iter().any(|(_, commands)| commands.lock().unwrap().len() < COMMANDS * members.len()) {
        assert!(Instant::now() < end, "not applied everywhere: {:?}", members[0].0.status());
        world.clock.sleep(Duration::from_millis(5)).await;
    }
    let order = members[0].1.lock().unwrap().clone();
    for (_, commands) in members {
        assert_eq!(*commands.lock().unwrap(), order);
    }
    order
}
