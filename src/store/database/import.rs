//! etcd's database as a state and its files.

use std::path::Path;

use bytes::Bytes;
use chorus_proto::authpb::{Role, User};
use chorus_proto::etcdserverpb::AlarmMember;
use chorus_proto::mvccpb::KeyValue;
use prost::Message;

use super::keys::{self, ConfState, DowngradeRow, LeaseRow, MemberRow};
use crate::disk::bbolt::Reader;
use crate::disk::segments::Options;
use crate::disk::{Error, Position, Segments, codec};
use crate::raft::Member;
use crate::store::auth::Auth;
use crate::store::checkpoint;
use crate::store::cluster_version::Release;
use crate::store::files::Files;
use crate::store::journal::Head;
use crate::store::mvcc::{Back, Change, Key, Rev, Slot};
use crate::store::state::State;
use crate::world::{NodeId, World};

/// Records that go into one frame.
const FRAME_RECORDS: usize = 1_000;
const FRAME_BYTES: usize = 4 << 20;

/// A database that something else wrote.
#[derive(Debug)]
pub struct Database<'a> {
    reader: Reader,
    path: &'a Path,
}

/// The log position and the members in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The last entry that the database holds; 0 when it does not say.
    pub index: u64,
    /// Its term; etcd before 3.5 does not say.
    pub term: Option<u64>,
    pub members: Vec<Member>,
    pub removed: Vec<NodeId>,
}

impl<'a> Database<'a> {
    pub fn open(world: &World, path: &'a Path) -> Result<Database<'a>, Error> {
        let reader = Reader::open(&world.disk, path)?;
        let database = Database { reader, path };
        if !database.reader.buckets()?.iter().any(|name| name == keys::KEY) {
            return Err(Error::Foreign {
                directory: path.to_owned(),
                what: "a database of etcd",
                reason: "it has no bucket \"key\"".to_owned(),
            });
        }
        Ok(database)
    }

    /// The log position and the members in the database.
    pub fn origin(&self) -> Result<Origin, Error> {
        let meta = self.rows(keys::META)?;
        let number = |name: &[u8]| {
            let found = meta.iter().find(|(key, _)| key == name);
            found.and_then(|(_, value)| Some(u64::from_be_bytes(value[..].try_into().ok()?)))
        };
        let conf = match meta.iter().find(|(key, _)| key == keys::CONF_STATE) {
            Some((_, value)) => self.parse_json::<ConfState>(value)?,
            None => ConfState::default(),
        };
        let mut members = Vec::new();
        for (_, value) in self.rows(keys::MEMBERS)? {
            let mut member = Member::from(self.parse_json::<MemberRow>(&value)?);
            member.learner |= conf.learners.contains(&member.id.0);
            members.push(member);
        }
        let removed = self.rows(keys::MEMBERS_REMOVED)?.into_iter();
        let removed = removed.map(|(key, _)| keys::parse_member_key(&key).ok_or_else(|| self.corrupt("a member's ID")));
        Ok(Origin {
            index: number(keys::CONSISTENT_INDEX).unwrap_or(0),
            term: number(keys::TERM).filter(|term| *term > 0),
            members,
            removed: removed.collect::<Result<_, _>>()?,
        })
    }

    /// Makes the state, and its files in `data_dir`, which has none yet. `at` is the entry up to which the log is in
    /// it, and the record of the members.
    pub fn import(&self, world: &World, data_dir: &Path, at: Option<(Position, Bytes)>) -> Result<State, Error> {
        let files = Files::open(world, data_dir)?;
        let segments = Segments::open(world, &files.directory(), Options::default())?;
        let mut state = State { applied: at.as_ref().map(|(at, _)| *at), membership: at, ..State::default() };
        self.import_leases(&mut state)?;
        self.import_alarms(&mut state)?;
        state.auth = self.import_auth()?;
        self.import_versions(&mut state)?;
        self.import_keys(&mut state, &segments)?;
        self.import_compaction(&mut state)?;
        segments.sync()?;
        checkpoint::write(world, &files.index(), &state, segments.end())?;
        Ok(state)
    }

    fn import_leases(&self, state: &mut State) -> Result<(), Error> {
        for (_, value) in self.rows(keys::LEASE)? {
            let row = LeaseRow::decode(&value[..]).map_err(|error| self.corrupt(format!("a lease: {error}")))?;
            let granted = state.leases.grant(row.id, row.ttl, 0);
            granted.map_err(|error| self.corrupt(format!("lease {:x}: {error}", row.id)))?;
            state.leases.set_remaining(row.id, u64::try_from(row.remaining_ttl).unwrap_or_default());
        }
        Ok(())
    }

    fn import_alarms(&self, state: &mut State) -> Result<(), Error> {
        for (key, _) in self.rows(keys::ALARM)? {
            let alarm = AlarmMember::decode(&key[..]).map_err(|error| self.corrupt(format!("an alarm: {error}")))?;
            state.alarms.insert((alarm.member_id, alarm.alarm));
        }
        Ok(())
    }

    fn import_auth(&self) -> Result<Auth, Error> {
        let settings = self.rows(keys::AUTH)?;
        let setting = |name: &[u8]| settings.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..]);
        let enabled = setting(keys::AUTH_ENABLED).is_some_and(|value| value == [1]);
        let revision = match setting(keys::AUTH_REVISION) {
            Some(value) => value.try_into().map(u64::from_be_bytes).map_err(|_| self.corrupt("a revision of users"))?,
            None => 0,
        };
        let users = self.messages::<User>(keys::AUTH_USERS, "a user")?;
        let roles = self.messages::<Role>(keys::AUTH_ROLES, "a role")?;
        Ok(Auth::import(enabled, revision, users, roles))
    }

    fn import_versions(&self, state: &mut State) -> Result<(), Error> {
        for (key, value) in self.rows(keys::CLUSTER)? {
            let release = |text: &str| text.parse::<Release>().map_err(|_| self.corrupt(format!("version {text:?}")));
            match &key[..] {
                keys::CLUSTER_VERSION => {
                    state.cluster_version.version = Some(release(&String::from_utf8_lossy(&value))?)
                }
                keys::DOWNGRADE => {
                    let row: DowngradeRow = self.parse_json(&value)?;
                    state.cluster_version.downgrade = row.enabled.then(|| release(&row.target)).transpose()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The messages that a small bucket holds.
    fn messages<M: Message + Default>(&self, bucket: &[u8], what: &str) -> Result<Vec<M>, Error> {
        let decode = |(_, value): (Vec<u8>, Vec<u8>)| {
            M::decode(&value[..]).map_err(|error| self.corrupt(format!("{what}: {error}")))
        };
        self.rows(bucket)?.into_iter().map(decode).collect()
    }

    fn import_keys(&self, state: &mut State, segments: &Segments) -> Result<(), Error> {
        let mut frame = Frame::default();
        self.reader.scan(keys::KEY, &mut |key, value| {
            let (at, is_deletion) =
                keys::parse_revision(key).ok_or_else(|| self.corrupt("a key that is no revision"))?;
            let kv = KeyValue::decode(value).map_err(|error| self.corrupt(format!("revision {}: {error}", at.main)))?;
            let change = change(state, at, is_deletion, kv);
            state.index.insert(at, change);
            state.index.revision = at.main;
            frame.add(at, value);
            if frame.is_full() { frame.write(state, segments) } else { Ok(()) }
        })?;
        frame.write(state, segments)
    }

    /// The revision may never be below a compaction, whose own tombstones may be gone.
    fn import_compaction(&self, state: &mut State) -> Result<(), Error> {
        for (key, value) in self.rows(keys::META)? {
            if key == keys::SCHEDULED_COMPACT || key == keys::FINISHED_COMPACT {
                let (at, _) = keys::parse_revision(&value).ok_or_else(|| self.corrupt("a compaction's revision"))?;
                state.index.compacted = state.index.compacted.max(at.main);
            }
        }
        state.index.revision = state.index.revision.max(state.index.compacted);
        Ok(())
    }

    /// All of a small bucket.
    fn rows(&self, bucket: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        let mut rows = Vec::new();
        self.reader.scan(bucket, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(())
        })?;
        Ok(rows)
    }

    fn parse_json<T: serde::de::DeserializeOwned>(&self, value: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(value).map_err(|error| self.corrupt(format!("a row of JSON: {error}")))
    }

    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.path, 0, reason)
    }
}

/// The change that a row stands for. A row without a value is a revision that was raised when a snapshot was restored:
/// it counts as a put of the empty key, which no request can name.
fn change(state: &mut State, at: Rev, is_deletion: bool, kv: KeyValue) -> Change {
    let (key, prev, old_lease) = match state.index.latest(&kv.key) {
        Some((prev, change)) => (change.key.clone(), prev, change.lease),
        None => (Key::new(&kv.key), Rev::NONE, 0),
    };
    let lease = if is_deletion { 0 } else { kv.lease };
    state.leases.reattach(&key, old_lease, lease);
    let slot = Slot::Pending(0);
    match is_deletion {
        true => Change { key, create: 0, version: 0, lease, prev, back: Back::default(), slot },
        false if kv.version == 0 => {
            Change { key, create: at.main, version: 1, lease, prev, back: Back::default(), slot }
        }
        false => {
            Change { key, create: kv.create_revision, version: kv.version, lease, prev, back: Back::default(), slot }
        }
    }
}

/// Changes whose records are not in a segment yet.
#[derive(Default)]
struct Frame {
    changes: Vec<Rev>,
    records: Vec<Vec<u8>>,
    bytes: usize,
}

impl Frame {
    fn add(&mut self, at: Rev, record: &[u8]) {
        self.bytes += record.len();
        self.changes.push(at);
        self.records.push(record.to_vec());
    }

    fn is_full(&self) -> bool {
        self.records.len() >= FRAME_RECORDS || self.bytes >= FRAME_BYTES
    }

    fn write(&mut self, state: &mut State, segments: &Segments) -> Result<(), Error> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let head = Head::Moved { changes: self.changes.clone() };
        let head = codec::encode(&head).map_err(|error| Error::Io(error.into()))?;
        let records: Vec<&[u8]> = self.records.iter().map(|record| &record[..]).collect();
        let places = segments.append(&head, &records)?;
        for (at, place) in self.changes.drain(..).zip(places) {
            state.index.relocate(at, Slot::Stored(place));
        }
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }
}
