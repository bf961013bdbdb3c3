//! The load: many clients over some connections, each with one call under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::kv_client::KvClient;
use tonic::transport::{Channel, Endpoint};

use super::latency::Latencies;
use crate::store::error::Error;
use crate::world::{Instant, World};

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Put,
    /// Every key once.
    Fill,
    Range,
    /// The percentage of reads.
    Mixed(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Load {
    pub kind: Kind,
    pub clients: usize,
    pub end: End,
    pub key_bytes: usize,
    pub value_bytes: usize,
    pub key_space: u64,
    pub serializable: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Calls(u64),
    After(Duration),
}

/// The outcome of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub elapsed: Duration,
    pub latencies: Latencies,
    /// How often each error text came.
    pub errors: BTreeMap<String, u64>,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    fn merge(&mut self, other: Outcome) {
        self.latencies.merge(&other.latencies);
        for (text, count) in other.errors {
            *self.errors.entry(text).or_default() += count;
        }
    }
}

/// A client gives up after so many errors in a row.
const ERRORS_MAX: u64 = 10;
const ERROR_PAUSE: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const WINDOW_BYTES: u32 = 8 << 20;

/// Connections to one cluster, spread over its endpoints.
pub(super) struct Target {
    pub name: String,
    connections: Vec<Channel>,
}

impl Target {
    /// Connects, so that a wrong address shows before the first round.
    pub async fn connect(world: &World, urls: &[String], connections: usize) -> anyhow::Result<Target> {
        let mut channels = Vec::with_capacity(connections);
        for url in urls.iter().cycle().take(connections.max(1)) {
            let endpoint = Endpoint::from_shared(url.clone())?
                .connect_timeout(CONNECT_TIMEOUT)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES);
            channels.push(world.net.channel(endpoint));
        }
        for (url, channel) in urls.iter().zip(&channels) {
            let probe = pb::RangeRequest { key: "bench".into(), ..Default::default() };
            let mut client = KvClient::new(channel.clone());
            let answered = client.range(probe).await;
            answered.map_err(|status| match Error::from_wire(status.code() as i32, status.message()) {
                Error::UserEmpty => anyhow!("{url} asks for a user: bench measures only stores without authentication"),
                _ => anyhow!("{url} does not answer ({}); check the address", status.message()),
            })?;
        }
        Ok(Target { name: urls.join(","), connections: channels })
    }

    /// Runs `load` to its end.
    pub async fn run(&self, world: &World, load: &Load) -> Outcome {
        let begun = world.clock.now();
        let until = match load.end {
            End::Calls(_) => None,
            End::After(duration) => Some(begun + duration),
        };
        let calls = match load.end {
            End::Calls(calls) => calls,
            End::After(_) => u64::MAX,
        };
        let budget = Arc::new(Budget { left: AtomicU64::new(calls), until });
        let clients: Vec<_> = (0..load.clients)
            .map(|index| {
                let client = Client {
                    world: world.clone(),
                    kv: KvClient::new(self.connections[index % self.connections.len()].clone()),
                    load: load.clone(),
                    random: Random(world.random.u64()),
                    outcome: Outcome::default(),
                };
                world.spawner.task(client.run(budget.clone()))
            })
            .collect();
        let mut total = Outcome::default();
        for client in clients {
            total.merge(client.await.expect("a client does not panic"));
        }
        total.elapsed = world.clock.now() - begun;
        total
    }
}

/// What is left to do, shared by all clients.
struct Budget {
    left: AtomicU64,
    until: Option<Instant>,
}

impl Budget {
    /// Takes one call; its number is how many were left.
    fn take(&self, now: Instant) -> Option<u64> {
        if self.until.is_some_and(|until| now >= until) {
            return None;
        }
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()
    }
}

struct Client {
    world: World,
    kv: KvClient<Channel>,
    load: Load,
    random: Random,
    outcome: Outcome,
}

impl Client {
    async fn run(mut self, budget: Arc<Budget>) -> Outcome {
        let value = Bytes::from(vec![b'v'; self.load.value_bytes]);
        let mut errors_in_a_row = 0;
        let mut now = self.world.clock.now();
        while errors_in_a_row < ERRORS_MAX {
            let Some(number) = budget.take(now) else { break };
            let begun = now;
            let called = self.call(number, &value).await;
            now = self.world.clock.now();
            match called {
                Ok(()) => {
                    errors_in_a_row = 0;
                    self.outcome.latencies.record(now - begun);
                }
                Err(status) => {
                    errors_in_a_row += 1;
                    *self.outcome.errors.entry(status.message().to_owned()).or_default() += 1;
                    self.world.clock.sleep(ERROR_PAUSE).await;
                }
            }
        }
        self.outcome
    }

    async fn call(&mut self, number: u64, value: &Bytes) -> Result<(), tonic::Status> {
        let number = if matches!(self.load.kind, Kind::Fill) { number } else { self.random.next() };
        let key = key(number % self.load.key_space, self.load.key_bytes);
        let reads = match self.load.kind {
            Kind::Put | Kind::Fill => false,
            Kind::Range => true,
            Kind::Mixed(percent) => self.random.next() % 100 < percent,
        };
        if reads {
            let range = pb::RangeRequest { key, serializable: self.load.serializable, ..Default::default() };
            self.kv.range(range).await.map(drop)
        } else {
            self.kv.put(pb::PutRequest { key, value: value.clone(), ..Default::default() }).await.map(drop)
        }
    }
}

/// The key with this number, as long as asked for.
fn key(number: u64, bytes: usize) -> Bytes {
    let digits = format!("{number:0bytes$}");
    let mut key = BytesMut::with_capacity(digits.len());
    key.extend_from_slice(digits.as_bytes());
    key.freeze()
}

/// splitmix64: a client must not share a generator with the others.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
