//! A machine that remembers the commands it applied, with a durable part that lags behind as a store's does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::disk::space::is_full;
use crate::raft::encoding::{parse, record};
use crate::raft::machine::{Applied, Committed, Machine, Payload, Position, Snapshot, SnapshotFiles, Space, Validate};
use crate::world::Disk;
use crate::world::disk::{Access, Open};

/// Entries between two saves.
const SAVE_EVERY: u64 = 8;

#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    at: Option<Position>,
    membership: Option<(Position, Vec<u8>)>,
    commands: Vec<Vec<u8>>,
}

/// What tests look at: all commands that a member has applied, in order.
pub type Commands = Arc<Mutex<Vec<Bytes>>>;

pub struct Toy {
    disk: Disk,
    directory: PathBuf,
    state: State,
    durable: Option<Position>,
    seen: Commands,
    snapshots: u64,
    space: Space,
}

impl Toy {
    pub fn open(disk: Disk, directory: &Path, seen: Commands) -> Toy {
        disk.create_dir_all(directory, Access::Owner).unwrap();
        let file = directory.join("state");
        let state: State =
            if disk.exists(&file) { parse(&disk.read(&file).unwrap()).unwrap() } else { State::default() };
        let durable = state.at;
        let toy =
            Toy { disk, directory: directory.to_owned(), state, durable, seen, snapshots: 0, space: Space::new("toy") };
        toy.show();
        toy
    }

    fn show(&self) {
        *self.seen.lock().unwrap() = self.state.commands.iter().cloned().map(Bytes::from).collect();
    }

    fn save(&mut self) -> io::Result<()> {
        self.disk.replace(&self.directory.join("state"), &record(&self.state), Access::Owner)?;
        self.durable = self.state.at;
        self.space.suffice();
        Ok(())
    }
}

/// What a toy cannot apply.
pub const INDIGESTIBLE: &str = "indigestible";

impl Machine for Toy {
    fn validate(&self) -> Validate {
        |command| if command == INDIGESTIBLE { Err("as its name says".to_owned()) } else { Ok(()) }
    }

    fn applied(&self) -> Applied {
        let membership = self.state.membership.clone().map(|(at, bytes)| (at, Bytes::from(bytes)));
        Applied { at: self.state.at, membership }
    }

    fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        for entry in entries {
            let expected = self.state.at.map_or(1, |at| at.index + 1);
            assert_eq!(entry.at.index, expected, "entries come in order, each once");
            self.state.at = Some(entry.at);
            match entry.payload {
                Payload::Blank => (),
                Payload::Membership(bytes) => self.state.membership = Some((entry.at, bytes.to_vec())),
                Payload::Batch(commands) => {
                    assert!(!commands.iter().any(|command| command == INDIGESTIBLE));
                    self.seen.lock().unwrap().extend(commands.iter().cloned());
                    self.state.commands.extend(commands.iter().map(|command| command.to_vec()));
                }
            }
            if entry.at.index % SAVE_EVERY == 0 {
                match self.save() {
                    Err(error) if is_full(&error) => (),
                    saved => saved?,
                }
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        unreachable!("applying takes no room")
    }

    fn space(&self) -> Space {
        self.space.clone()
    }

    fn durable(&self) -> Option<Position> {
        self.durable
    }

    fn snapshot(&mut self) -> io::Result<Snapshot> {
        self.snapshots += 1;
        let file = self.directory.join(format!("snapshot-{}", self.snapshots));
        let (disk, space, content) = (self.disk.clone(), self.space.clone(), record(&self.state));
        let prepare = move || {
            if disk.exists(&file) {
                disk.remove(&file)?;
            }
            if let Err(error) = disk.open(&file, Open::CreateNew)?.write_all_at(&content, 0) {
                disk.remove(&file)?;
                space.run_short(&io::Error::new(error.kind(), "toy").into());
                return Err(error);
            }
            space.suffice();
            Ok(SnapshotFiles { paths: vec![file], keep: Box::new(()) })
        };
        Ok(Snapshot { applied: self.applied(), prepare: Box::new(prepare) })
    }

    fn incoming(&mut self) -> io::Result<PathBuf> {
        let directory = self.directory.join("incoming");
        if self.disk.exists(&directory) {
            self.disk.remove_dir_all(&directory)?;
        }
        self.disk.create_dir_all(&directory, Access::Owner)?;
        Ok(directory)
    }

    fn install(&mut self, directory: PathBuf) -> io::Result<Applied> {
        let name = self.disk.list(&directory)?.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        self.state = parse(&self.disk.read(&directory.join(name))?)?;
        self.save()?;
        self.show();
        Ok(self.applied())
    }
}
