//! Packets that wait: the kernel hands what arrives at a member to a thread, which lets each packet go on when it is
//! due.
//!
//! ```text
//!   from n2 ── iptables: NFQUEUE 2 ──▶ Delayer: due at now + delay + jitter ──▶ accepted
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nfq::{Message, Queue};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::namespaces;

/// The queue has no descriptor to wait for, so it is asked this often.
const TICK: Duration = Duration::from_millis(1);
/// Packets that may wait of one link; the kernel drops more.
const WAITING_MAX: u32 = 20_000;

/// How packets that one member sends to another are held back.
#[derive(Clone, Debug)]
pub struct Link {
    pub from: usize,
    pub delay: Duration,
    /// At most so much comes on top.
    pub jitter: Duration,
    /// Whether a packet may overtake one that was sent before it.
    pub overtaking: bool,
}

/// Holds back what arrives at one member, until it is dropped.
pub struct Delayer {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delayer {
    /// Takes the queues of `links` at member `number`. An error says that this kernel has no such queues.
    pub fn start(number: usize, links: Vec<Link>, seed: u64) -> anyhow::Result<Delayer> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (ready, started) = std::sync::mpsc::channel();
        let stop = stopping.clone();
        let thread = std::thread::Builder::new().name(format!("delayer-n{number}")).spawn(move || {
            let queue = open(number, &links);
            let told = queue.as_ref().map(|_| ()).map_err(chorus_terminal::sentence);
            // Nobody listens when the starter has given up.
            let _ = ready.send(told);
            if let Ok(queue) = queue {
                delay(queue, Schedule::new(links, seed), &stop);
            }
        })?;
        let delayer = Delayer { stopping, thread: Some(thread) };
        started.recv().context("the thread of a delayed member ended")?.map_err(|error| anyhow!(error))?;
        Ok(delayer)
    }
}

impl Drop for Delayer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves this thread into the member's namespace, where its queues are.
fn open(number: usize, links: &[Link]) -> anyhow::Result<Queue> {
    let namespace = File::open(format!("/run/netns/{}", namespaces::namespace(number)))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("no way into the namespace")?;
    let mut queue = Queue::open().context("this kernel hands no packets to processes")?;
    for link in links {
        let number = queue_number(link.from);
        queue.bind(number).context("this kernel has no NFQUEUE")?;
        // What a packet says does not matter here.
        queue.set_copy_range(number, 0)?;
        queue.set_queue_max_len(number, WAITING_MAX)?;
    }
    queue.set_nonblocking(true);
    Ok(queue)
}

/// Where packets from a member are queued.
pub fn queue_number(from: usize) -> u16 {
    u16::try_from(from).expect("a cluster is small")
}

fn delay(mut queue: Queue, mut schedule: Schedule, stopping: &AtomicBool) {
    let mut waiting: BTreeMap<(Instant, u64), Message> = BTreeMap::new();
    let mut count = 0;
    loop {
        let ending = stopping.load(Ordering::Relaxed);
        loop {
            match queue.recv() {
                Ok(message) => {
                    let due = schedule.due(usize::from(message.get_queue_num()), Instant::now());
                    waiting.insert((due, count), message);
                    count += 1;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let now = Instant::now();
        while let Some(first) = waiting.first_entry().filter(|first| ending || first.key().0 <= now) {
            // Packets are accepted unless told otherwise. One that can't be let go is lost, as on any network.
            let _ = queue.verdict(first.remove());
        }
        if ending {
            return;
        }
        std::thread::sleep(TICK);
    }
}

/// When each packet goes on.
struct Schedule {
    /// With when the last packet of each is due.
    links: BTreeMap<usize, (Link, Option<Instant>)>,
    random: SmallRng,
}

impl Schedule {
    fn new(links: Vec<Link>, seed: u64) -> Schedule {
        let links = links.into_iter().map(|link| (link.from, (link, None))).collect();
        Schedule { links, random: SmallRng::seed_from_u64(seed) }
    }

    fn due(&mut self, from: usize, now: Instant) -> Instant {
        let Some((link, last)) = self.links.get_mut(&from) else { return now };
        let due = now + link.delay + link.jitter.mul_f64(self.random.random());
        let due = if link.overtaking { due } else { due.max(last.unwrap_or(due)) };
        *last = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_wait_and_overtake_only_where_they_may() {
        let (delay, jitter) = (Duration::from_millis(20), Duration::from_millis(30));
        let now = Instant::now();
        for overtaking in [false, true] {
            let mut schedule = Schedule::new(vec![Link { from: 2, delay, jitter, overtaking }], 7);
            let due: Vec<Instant> = (0..50).map(|_| schedule.due(2, now)).collect();
            assert!(due.iter().all(|due| (now + delay..=now + delay + jitter).contains(due)));
            assert_eq!(due.is_sorted(), !overtaking);
            assert_eq!(schedule.due(3, now), now, "nothing is said of that link");
        }
    }
}
