//! The replicated log as openraft wants it, over the write-ahead log of the disk room.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, RaftLogReader};

use super::encoding::{decode, encode, parse, record};
use super::types::{Entry, LogId, Types, Vote, log_id, position};
use crate::disk::{self, LogHandle};

/// Entries read in one go while applying or replicating.
const ENTRIES_PER_READ: u64 = 256;
/// Payload bytes that one replication request carries before it is cut short; it holds one entry at least.
const REPLICATION_BYTES_MAX: usize = 4 << 20;

/// The log. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    log: LogHandle,
    saved: Arc<Mutex<Saved>>,
}

/// The small records beside the entries, as last written.
#[derive(Default)]
struct Saved {
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl LogStore {
    /// Over a log that was just opened, and what it held.
    pub(super) fn new(log: LogHandle, recovered: &disk::Recovered) -> io::Result<LogStore> {
        let vote = recovered.vote.as_deref().map(parse).transpose()?;
        let committed = recovered.committed.as_deref().map(parse).transpose()?;
        Ok(LogStore { log, saved: Arc::new(Mutex::new(Saved { vote, committed })) })
    }

    fn saved<T>(&self, with: impl FnOnce(&mut Saved) -> T) -> T {
        with(&mut self.saved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.log.read(start + 1..end + 1)?.into_iter().map(entry).collect()
    }
}

fn entry(stored: disk::Entry) -> io::Result<Entry> {
    Ok(Entry { log_id: log_id(stored.at), payload: decode(stored.payload)? })
}

fn stored(entry: Entry) -> disk::Entry {
    disk::Entry { at: position(&entry.log_id), payload: encode(&entry.payload) }
}

/// First and end index of a range, as half open.
fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last + 1,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX - 1,
    };
    (start, end)
}

/// How many of the first entries fit into `bytes_max`; one at least.
fn fitting(sizes: impl Iterator<Item = usize>, bytes_max: usize) -> usize {
    let mut total = 0;
    let fit = sizes
        .take_while(|size| {
            total += size;
            total <= bytes_max
        })
        .count();
    fit.max(1)
}

impl RaftLogReader<Types> for LogStore {
    /// In small reads, so that a long range is never in memory at once.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = half_open(&range);
        let log = self.clone();
        stream::unfold(start, move |next| {
            let chunk = (next < end).then(|| log.read(next, end.min(next.saturating_add(ENTRIES_PER_READ))));
            async move {
                let chunk = chunk?;
                let after = match &chunk {
                    Ok(entries) => entries.last()?.log_id.index + 1,
                    Err(_) => u64::MAX,
                };
                let items = match chunk {
                    Ok(entries) => entries.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                };
                Some((stream::iter(items), after))
            }
        })
        .flatten()
        .boxed()
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = half_open(&range);
        self.read(start, end)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = self.log.read(start + 1..end.min(start + ENTRIES_PER_READ) + 1)?;
        let fit = fitting(entries.iter().map(|entry| entry.payload.len()), REPLICATION_BYTES_MAX);
        entries.truncate(fit);
        entries.into_iter().map(entry).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.saved(|saved| saved.vote))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let last_purged_log_id = self.log.purged().map(log_id);
        let last_log_id = self.log.last().map(log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(record(vote)).await?;
        self.saved(|saved| saved.vote = Some(*vote));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.log.save_committed(record(&committed));
        }
        self.saved(|saved| saved.committed = committed);
        Ok(())
    }

    /// The write-ahead log keeps the newest committed position that was written, which may be behind what was saved
    /// last, and may be ahead of the entries that survived.
    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let last = self.get_log_state().await?.last_log_id;
        Ok(self.saved(|saved| saved.committed).filter(|committed| Some(*committed) <= last))
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(stored).collect();
        self.log.append(entries, move |result| done.io_completed(result));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.log.truncate_after(last.map_or(0, |id| position(&id).index));
        Ok(())
    }

    async fn purge(&mut self, up_to: LogId) -> io::Result<()> {
        self.log.purge(position(&up_to));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_half_open() {
        assert_eq!(half_open(&(3..7)), (3, 7));
        assert_eq!(half_open(&(3..=7)), (3, 8));
        assert_eq!(half_open(&(..)).0, 0);
    }

    #[test]
    fn a_request_holds_what_fits_and_one_entry_at_least() {
        assert_eq!(fitting([10, 10, 10].into_iter(), 25), 2);
        assert_eq!(fitting([100].into_iter(), 25), 1);
        assert_eq!(fitting([1, 100].into_iter(), 25), 1);
    }
}
