//! How many connections others may have open to this process at once.
//!
//! Every connection takes a file descriptor, and so do the files of the log and the store: without a bound, anybody who
//! reaches a port could keep those from being opened. Above the bound a connection on which nothing is asked gives way
//! to a new one, the longest idle first; where there is none, the new one is refused.
//!
//! Answers that clients do not read wait in memory, and are bounded together, too. When they take too much, connections
//! whose clients have read nothing for a while are closed. Until there is room, nothing new is answered on those that
//! hold much of it; when it takes twice as much, nothing on any.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

use crate::world::Clock;

/// File descriptors that connections of clients leave for everything else: files, peers, what this process dials. etcd
/// has the same.
const RESERVED: u64 = 150;
/// Connections of peers, which are a few for each member.
const PEERS_MAX: usize = 64;
/// With fewer a process is of no use; where even that is too many, files wait for descriptors.
const CLIENTS_MIN: usize = 16;
/// Each takes some ten kilobytes, too.
const CLIENTS_MAX: usize = 32_768;
/// Connections that were told to give way and are still there; with more of them, new ones are refused.
const LEAVING_MAX: usize = 16;

/// Calls under way on all connections together, streams among them.
const CALLS_MAX: usize = 65_536;
/// Bytes of answers on their way to clients, of all connections together.
const UNREAD_BYTES_MAX: u64 = 512 << 20;
/// When there are more, connections that hold more than this part of the maximum are refused what they ask; when there
/// are twice as many, all are.
const LARGE_PART: u64 = 16;
/// Smaller pieces of answers are not followed: the calls that are under way bound them.
const FOLLOWED_BYTES: usize = 4 << 10;
/// How long a client may read nothing when answers take more than half of that.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// The bounds on connections of clients and of peers for a process that may have so many file descriptors.
pub(super) fn within(descriptors_max: u64) -> (usize, usize) {
    let clients = usize::try_from(descriptors_max.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    (clients.clamp(CLIENTS_MIN, CLIENTS_MAX), PEERS_MAX)
}

/// Connections that are bounded together. Clones share the bound.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    max: usize,
    open: Mutex<Open>,
    /// Counts moments at which a connection became idle.
    ticks: AtomicU64,
    refused: AtomicU64,
    displaced: AtomicU64,
    abandoned: AtomicU64,
    /// Bytes of answers on their way to clients.
    unread: AtomicU64,
    unread_max: u64,
    stalled: AtomicU64,
    calls: AtomicUsize,
    calls_refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    guests: BTreeMap<u64, Arc<Connection>>,
    leaving: usize,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Connection {
    calls: AtomicUsize,
    /// The moment since when nothing is asked, if nothing is.
    idle_since: AtomicU64,
    gives_way: AtomicBool,
    /// Changed under the lock.
    leaving: AtomicBool,
    leave: Notify,
    /// Bytes of its answers that are on their way, and how often some arrived.
    unread: AtomicU64,
    progress: AtomicU64,
}

impl Connection {
    fn is_idle(&self) -> bool {
        let leaving = self.leaving.load(Ordering::Relaxed);
        self.gives_way.load(Ordering::Relaxed) && !leaving && self.calls.load(Ordering::Relaxed) == 0
    }
}

impl Connections {
    pub fn at_most(max: usize) -> Connections {
        Connections::bounded(max, UNREAD_BYTES_MAX)
    }

    /// At most `max`, with at most about `unread_max` bytes of answers on their way.
    pub fn bounded(max: usize, unread_max: u64) -> Connections {
        Connections(Arc::new(Inner { max, unread_max, ..Inner::default() }))
    }

    /// Takes a connection in, unless there are too many of which none can give way.
    pub fn enter(&self) -> Option<Guest> {
        let mut open = self.0.lock();
        if open.guests.len() - open.leaving >= self.0.max && !self.displace(&mut open) {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (id, connection) = (open.next, Arc::new(Connection::default()));
        connection.idle_since.store(self.0.tick(), Ordering::Relaxed);
        open.next += 1;
        open.guests.insert(id, connection.clone());
        Some(Guest(Some(Arc::new(Entered { connections: self.clone(), id, connection }))))
    }

    /// Tells the one that is idle longest to leave.
    fn displace(&self, open: &mut Open) -> bool {
        let idle = open.guests.values().filter(|connection| connection.is_idle());
        let longest = idle.min_by_key(|connection| connection.idle_since.load(Ordering::Relaxed));
        let Some(connection) = longest.filter(|_| open.leaving < LEAVING_MAX) else { return false };
        connection.leaving.store(true, Ordering::Relaxed);
        connection.leave.notify_one();
        open.leaving += 1;
        self.0.displaced.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.0.lock().guests.len()
    }

    /// How many were refused, because there were too many.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// How many idle ones gave way to others.
    pub fn displaced(&self) -> u64 {
        self.0.displaced.load(Ordering::Relaxed)
    }

    /// How many were closed because they never said what they speak.
    pub fn abandoned(&self) -> u64 {
        self.0.abandoned.load(Ordering::Relaxed)
    }

    /// Bytes of answers that clients have yet to read.
    pub fn unread(&self) -> u64 {
        self.0.unread.load(Ordering::Relaxed)
    }

    /// Calls under way.
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Calls that were refused, because there were too many or too much of their answers was unread.
    pub fn calls_refused(&self) -> u64 {
        self.0.calls_refused.load(Ordering::Relaxed)
    }

    /// How many were closed because their clients did not read.
    pub fn stalled(&self) -> u64 {
        self.0.stalled.load(Ordering::Relaxed)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }
}

/// One connection that was taken in. Clones share it; the last one to go makes room for another. By default it is that of
/// a connection that this process dialled, which is not counted.
#[derive(Clone, Debug, Default)]
pub struct Guest(Option<Arc<Entered>>);

#[derive(Debug)]
struct Entered {
    connections: Connections,
    id: u64,
    connection: Arc<Connection>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.connections.0.lock();
        open.guests.remove(&self.id);
        open.leaving -= usize::from(self.connection.leaving.load(Ordering::Relaxed));
    }
}

impl Guest {
    /// From here on it gives way while nothing is asked: whoever serves it waits for [`displaced`](Guest::displaced).
    pub fn gives_way(&self) {
        if let Some(entered) = &self.0 {
            entered.connection.gives_way.store(true, Ordering::Relaxed);
        }
    }

    /// From here on it does not, whether something is asked or not.
    pub fn stays(&self) {
        if let Some(entered) = &self.0 {
            entered.connection.gives_way.store(false, Ordering::Relaxed);
        }
    }

    /// Resolves when the connection has to give way to another one.
    pub async fn displaced(&self) {
        match &self.0 {
            Some(entered) => entered.connection.leave.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The connection never said what it speaks, and is closed for it.
    pub fn abandon(&self) {
        if let Some(entered) = &self.0 {
            entered.connections.0.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Resolves when the connection has to be closed: its client reads nothing while answers take too much memory.
    pub async fn stalled(&self, clock: &Clock) {
        let Some(entered) = &self.0 else { return std::future::pending().await };
        let connections = &entered.connections;
        let mut seen = None;
        loop {
            clock.sleep(STALL_LIMIT / 2).await;
            let progress = entered.connection.progress.load(Ordering::Relaxed);
            let waits = entered.connection.unread.load(Ordering::Relaxed) > 0;
            let is_short = connections.unread() > connections.0.unread_max / 2;
            seen = match seen {
                Some((before, looks)) if waits && before == progress => Some((progress, looks + 1)),
                _ if waits => Some((progress, 0)),
                _ => None,
            };
            if is_short && seen.is_some_and(|(_, looks)| looks >= 2) {
                tracing::warn!("a connection is closed: its client does not read, and answers take too much memory");
                connections.0.stalled.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Follows bytes of an answer until they are sent.
    fn follow(&self, bytes: Bytes) -> Bytes {
        match &self.0 {
            Some(entered) if bytes.len() >= FOLLOWED_BYTES => {
                let length = bytes.len() as u64;
                entered.connection.unread.fetch_add(length, Ordering::Relaxed);
                entered.connections.0.unread.fetch_add(length, Ordering::Relaxed);
                Bytes::from_owner(Unread { bytes, entered: entered.clone() })
            }
            _ => bytes,
        }
    }

    /// Something is asked on the connection until the answer is dropped: it does not give way. `None`: there is no room
    /// for one more, of this connection or any other.
    pub fn call(&self) -> Option<Call> {
        if let Some(entered) = &self.0 {
            let connections = &*entered.connections.0;
            let fits = |calls: usize| (calls < CALLS_MAX).then_some(calls + 1);
            let (unread, max) = (entered.connections.unread(), connections.unread_max);
            let holds_much = entered.connection.unread.load(Ordering::Relaxed) > max / LARGE_PART;
            let is_full = unread >= max.saturating_mul(2) || unread >= max && holds_much;
            if is_full || connections.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
                connections.calls_refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            entered.connection.calls.fetch_add(1, Ordering::Relaxed);
        }
        Some(Call(self.clone()))
    }
}

/// Something that is asked on a connection.
#[derive(Debug)]
pub struct Call(Guest);

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(entered) = &self.0.0 {
            let (connections, connection) = (&*entered.connections.0, &*entered.connection);
            connections.calls.fetch_sub(1, Ordering::Relaxed);
            // Before the count: who looks in between sees it asked still.
            connection.idle_since.store(connections.tick(), Ordering::Relaxed);
            connection.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Bytes of an answer on their way.
struct Unread {
    bytes: Bytes,
    entered: Arc<Entered>,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let length = self.bytes.len() as u64;
        self.entered.connection.unread.fetch_sub(length, Ordering::Relaxed);
        self.entered.connection.progress.fetch_add(1, Ordering::Relaxed);
        self.entered.connections.0.unread.fetch_sub(length, Ordering::Relaxed);
    }
}

/// The body of an answer, until which its connection is not idle.
#[derive(Debug)]
pub struct Answering<B> {
    body: B,
    /// None for a refusal, which is small.
    call: Option<Call>,
}

impl<B> Answering<B> {
    pub fn new(body: B, call: Option<Call>) -> Answering<B> {
        Answering { body, call }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let follow = |bytes| match &self.call {
            Some(Call(guest)) => guest.follow(bytes),
            None => bytes,
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(follow))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn idle(connections: &Connections) -> Guest {
        connections.enter().inspect(Guest::gives_way).unwrap()
    }

    #[test]
    fn clients_leave_descriptors_for_files_and_peers() {
        assert_eq!(within(1024), (874, PEERS_MAX));
        assert_eq!(within(200).0, 50);
        assert_eq!((within(20).0, within(u64::MAX).0), (CLIENTS_MIN, CLIENTS_MAX));
    }

    #[test]
    fn the_one_that_is_idle_longest_gives_way() {
        let connections = Connections::at_most(2);
        let (first, second) = (idle(&connections), idle(&connections));
        // It is idle since the end of this.
        drop(first.call().unwrap());
        let third = connections.enter().unwrap();
        assert!(second.displaced().now_or_never().is_some() && first.displaced().now_or_never().is_none());
        assert_eq!((connections.open(), connections.displaced()), (3, 1));
        drop(second);
        assert_eq!(connections.open(), 2);
        drop((first, third));
        assert_eq!(connections.open(), 0);
    }

    #[test]
    fn whoever_asks_something_stays_and_the_newcomer_is_refused() {
        let connections = Connections::at_most(1);
        let guest = idle(&connections);
        let calls = (guest.call().unwrap(), guest.call().unwrap());
        assert!(connections.enter().is_none());
        drop(calls.0);
        assert!(connections.enter().is_none(), "one call is under way still");
        drop(calls.1);
        assert!(connections.enter().is_some());
        assert!(guest.displaced().now_or_never().is_some());
        assert_eq!((connections.refused(), connections.displaced()), (2, 1));
        // What was told to leave may be asked something at that very moment.
        drop(guest.call().unwrap());
    }

    #[test]
    fn those_that_do_not_leave_keep_others_out() {
        let connections = Connections::at_most(1);
        let enter = || connections.enter().inspect(Guest::gives_way);
        let guests: Vec<Guest> = std::iter::from_fn(enter).take(100).collect();
        assert_eq!(guests.len(), 1 + LEAVING_MAX);
        drop(guests);
        assert!(connections.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_do_not_read_are_let_go_when_that_takes_too_much() {
        let (connections, clock) = (Connections::bounded(9, 100 << 10), Clock::simulated());
        let (reads, stalls) = (idle(&connections), idle(&connections));
        let sent =
            |guest: &Guest, count| (0..count).map(|_| guest.follow(vec![0; 10 << 10].into())).collect::<Vec<_>>();
        let few = sent(&stalls, 5);
        assert!(clock.timeout(Duration::from_secs(600), stalls.stalled(&clock)).await.is_err(), "there is room");
        let more = sent(&stalls, 4);
        let mut read = sent(&reads, 1);
        assert_eq!((connections.unread(), reads.call().is_some()), (100 << 10, false));
        let reading = async {
            loop {
                clock.sleep(STALL_LIMIT / 3).await;
                read = sent(&reads, 1);
            }
        };
        tokio::select! {
            () = stalls.stalled(&clock) => {}
            () = reads.stalled(&clock) => panic!("it reads"),
            () = reading => {}
        }
        assert_eq!(connections.stalled(), 1);
        drop((few, more, stalls));
        assert!(reads.call().is_some());
        drop(read);
        assert_eq!(connections.unread(), 0);
    }

    #[test]
    fn those_that_hold_much_are_refused_before_others() {
        let connections = Connections::bounded(9, 160 << 10);
        let (holds, reads) = (idle(&connections), idle(&connections));
        let follow = |guest: &Guest, kilobytes: usize| guest.follow(vec![0; kilobytes << 10].into());
        let much = follow(&holds, 160);
        assert!(holds.call().is_none() && reads.call().is_some());
        let little = follow(&reads, 10);
        assert!(reads.call().is_some());
        let more = follow(&holds, 150);
        assert!(reads.call().is_none(), "that is twice as much as there may be");
        drop((more, much));
        assert!(holds.call().is_some() && reads.call().is_some());
        drop(little);
    }

    #[test]
    fn calls_of_all_connections_together_are_bounded() {
        let connections = Connections::at_most(2);
        let (one, other) = (idle(&connections), idle(&connections));
        let calls: Vec<_> = std::iter::from_fn(|| one.call()).take(2 * CALLS_MAX).collect();
        assert_eq!((calls.len(), connections.calls()), (CALLS_MAX, CALLS_MAX));
        assert!(other.call().is_none() && connections.calls_refused() == 2);
        drop(calls);
        assert!(other.call().is_some() && connections.calls() == 0);
    }

    #[test]
    fn whoever_does_not_give_way_stays() {
        let connections = Connections::at_most(1);
        let _guest = connections.enter().unwrap();
        assert!(connections.enter().is_none());
    }
}
