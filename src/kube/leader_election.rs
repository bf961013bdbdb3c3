//! Leader election: of several equal components one leads, the holder of a `coordination.k8s.io/v1` Lease.
//!
//! ```text
//!   candidate ──get──▶ Lease ── held by another, fresh ──▶ look again when it could have run out
//!       ▲                └── free, released or stale ──▶ write own name ──▶ lead, renew ──▶ Leadership(true)
//!       └───────────── could not renew in time ◀────────────────────────────┘
//! ```
//!
//! A lease is stale when this candidate has not seen it change for its duration: clocks of two machines are never
//! compared. A leader that could not renew for [`Config::renew_deadline`] stops leading before another candidate may
//! begin.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::sync::watch;

use super::client::{Api, Client};
use super::status::Status;
use super::time;
use crate::actor::{Shutdown, Supervisor};
use crate::world::{Instant, World};

/// The lease, the candidate, and the times of the election.
#[derive(Clone, Debug)]
pub struct Config {
    pub namespace: String,
    pub name: String,
    /// Unique among the candidates.
    pub identity: String,
    /// How long a leader that does not renew is still taken for alive.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it gives up; shorter than the lease.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry_period: Duration,
}

impl Config {
    /// A Lease in `kube-system`, with the times that Kubernetes' own components use.
    pub fn new(name: &str, identity: &str) -> Config {
        Config {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// The same with another lease, its other times in the proportions of the default ones.
    pub fn lasting(self, lease_duration: Duration) -> Config {
        Config { lease_duration, renew_deadline: lease_duration * 2 / 3, retry_period: lease_duration * 2 / 15, ..self }
    }
}

/// Whether this component leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<bool>);

impl Leadership {
    /// For a component that needs no election.
    pub fn always() -> Leadership {
        Leadership(watch::channel(true).1)
    }

    /// For tests: leadership that the test sets, at first not held.
    #[cfg(test)]
    pub fn settable() -> (watch::Sender<bool>, Leadership) {
        let (sender, leadership) = watch::channel(false);
        (sender, Leadership(leadership))
    }

    /// Joins the candidates, until `shutdown`, and then releases a lease that it holds.
    pub fn campaign(world: &World, client: &Client, config: Config, shutdown: &Shutdown) -> Leadership {
        let (sender, leadership) = watch::channel(false);
        let api = client.api::<Lease>().namespaced(&config.namespace).field_manager(&config.identity);
        let name = format!("kube/leader_election/{}", config.name);
        let (inner, sender, end) = (world.clone(), Arc::new(sender), shutdown.clone());
        Supervisor::new(world, shutdown).task(name, move || {
            let (world, api, config, sender) = (inner.clone(), api.clone(), config.clone(), sender.clone());
            Candidate { world, api, config, sender, seen: None, renewed: None }.run(end.clone())
        });
        Leadership(leadership)
    }

    pub fn is_leader(&self) -> bool {
        *self.0.borrow()
    }

    /// Changes of leadership, the present state first.
    pub fn changes(&self) -> tokio_stream::wrappers::WatchStream<bool> {
        tokio_stream::wrappers::WatchStream::new(self.0.clone())
    }
}

/// A lease as this candidate saw it, and when it first saw it so.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    spec: LeaseSpec,
    at: Instant,
}

#[derive(Debug, PartialEq)]
enum Step {
    /// Write this spec.
    Write(LeaseSpec),
    /// Another leads; nothing to do before this time.
    WaitUntil(Instant),
}

/// What to do about a lease last seen as `seen`.
fn decide(config: &Config, seen: Option<&Seen>, now: Instant, wall: MicroTime) -> Step {
    let mine = LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(config.lease_duration.as_secs().max(1) as i32),
        acquire_time: Some(wall.clone()),
        renew_time: Some(wall),
        lease_transitions: Some(0),
        ..LeaseSpec::default()
    };
    let Some(Seen { spec, at }) = seen else { return Step::Write(mine) };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == config.identity {
        let acquire_time = spec.acquire_time.clone().or(mine.acquire_time);
        return Step::Write(LeaseSpec { acquire_time, lease_transitions: spec.lease_transitions, ..mine });
    }
    let duration = spec.lease_duration_seconds.map_or(config.lease_duration, |s| Duration::from_secs(s.max(0) as u64));
    if !holder.is_empty() && now < *at + duration {
        return Step::WaitUntil(*at + duration);
    }
    let lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
    Step::Write(LeaseSpec { lease_transitions, ..mine })
}

struct Candidate {
    world: World,
    api: Api<Lease>,
    config: Config,
    sender: Arc<watch::Sender<bool>>,
    seen: Option<Seen>,
    /// When the last successful renewal was begun, while leading.
    renewed: Option<Instant>,
}

/// One that is gone renews nothing.
impl Drop for Candidate {
    fn drop(&mut self) {
        self.announce(false);
    }
}

impl Candidate {
    async fn run(mut self, shutdown: Shutdown) {
        loop {
            let next = tokio::select! {
                () = shutdown.wait() => break,
                next = self.round() => next,
            };
            tokio::select! {
                () = shutdown.wait() => break,
                () = self.world.clock.sleep_until(next) => {}
            }
        }
        self.release().await;
    }

    /// One try. Returns when to try again.
    async fn round(&mut self) -> Instant {
        let begun = self.world.clock.now();
        let limit = match self.renewed {
            // Whatever happens, lead no longer than this.
            Some(renewed) => renewed + self.config.renew_deadline,
            None => begun + self.config.renew_deadline,
        };
        let tried = self.world.clock.clone().timeout_at(limit, self.attempt()).await;
        let now = self.world.clock.now();
        let retry = now + self.config.retry_period;
        match tried {
            Ok(Ok(Step::Write(_))) => {
                self.renewed = Some(begun);
                self.announce(true);
                return retry;
            }
            Ok(Ok(Step::WaitUntil(at))) => {
                self.renewed = None;
                self.announce(false);
                return retry.min(at.max(now));
            }
            Ok(Err(status)) => tracing::debug!(lease = self.config.name, %status, "the lease was not written"),
            Err(_) => tracing::debug!(lease = self.config.name, "the API did not answer in time about the lease"),
        }
        if self.renewed.is_some_and(|renewed| now >= renewed + self.config.renew_deadline) {
            self.renewed = None;
            self.announce(false);
        }
        let give_up = self.renewed.map_or(retry, |renewed| renewed + self.config.renew_deadline);
        retry.min(give_up)
    }

    async fn attempt(&mut self) -> Result<Step, Status> {
        let lease = self.api.get_opt(&self.config.name).await?;
        let now = self.world.clock.now();
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        match (&mut self.seen, spec) {
            (Some(seen), Some(spec)) if seen.spec == spec => {}
            (seen, spec) => *seen = spec.map(|spec| Seen { spec, at: now }),
        }
        let step = decide(&self.config, self.seen.as_ref(), now, time::micro_now(&self.world.clock));
        if let Step::Write(spec) = &step {
            self.write(lease, spec.clone()).await?;
        }
        Ok(step)
    }

    /// Fails with a conflict if the lease was written since it was read.
    async fn write(&mut self, lease: Option<Lease>, spec: LeaseSpec) -> Result<(), Status> {
        let written = match lease {
            Some(lease) => self.api.update(&Lease { spec: Some(spec), ..lease }).await?,
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                };
                self.api.create(&Lease { metadata, spec: Some(spec) }).await?
            }
        };
        self.seen = written.spec.map(|spec| Seen { spec, at: self.world.clock.now() });
        Ok(())
    }

    /// Lets another take over at once.
    async fn release(&mut self) {
        if self.renewed.take().is_none() {
            return;
        }
        self.announce(false);
        let release = async {
            let lease = self.api.get(&self.config.name).await?;
            let spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_deref() == Some(&self.config.identity) {
                let spec = LeaseSpec { holder_identity: Some(String::new()), lease_duration_seconds: Some(1), ..spec };
                self.api.update(&Lease { spec: Some(spec), ..lease }).await?;
            }
            Ok::<(), Status>(())
        };
        if let Ok(Err(status)) = self.world.clock.timeout(self.config.retry_period, release).await {
            tracing::debug!(lease = self.config.name, %status, "the lease was not released");
        }
    }

    fn announce(&self, leads: bool) {
        let changed = self.sender.send_if_modified(|known| std::mem::replace(known, leads) != leads);
        if changed {
            let Config { name, identity, .. } = &self.config;
            tracing::info!(lease = name, identity, leads, "leadership changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::kube::client::fake::Fake;
    use crate::kube::object::Key;
    use crate::world::MemoryDisk;

    const SECOND: Duration = Duration::from_secs(1);

    fn held_by(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_silent_for_its_duration() {
        let config = Config::new("scheduler", "n1");
        let (start, wall) = (Instant::now(), MicroTime(jiff::Timestamp::UNIX_EPOCH));
        let written = |seen: Option<LeaseSpec>, after: Duration| {
            let seen = seen.map(|spec| Seen { spec, at: start });
            match decide(&config, seen.as_ref(), start + after, wall.clone()) {
                Step::Write(spec) => {
                    assert_eq!(spec.holder_identity.as_deref(), Some("n1"));
                    spec.lease_transitions
                }
                Step::WaitUntil(at) => {
                    assert_eq!(at, start + SECOND * 15);
                    None
                }
            }
        };
        assert_eq!(written(None, SECOND), Some(0), "there is none yet");
        assert_eq!(written(Some(held_by("n1", 4)), SECOND), Some(4), "renewed");
        assert_eq!(written(Some(held_by("n2", 4)), SECOND * 14), None, "another leads");
        assert_eq!(written(Some(held_by("n2", 4)), SECOND * 15), Some(5), "the other is gone");
        assert_eq!(written(Some(held_by("", 4)), SECOND), Some(5), "released");
    }

    async fn leads(leadership: &Leadership) {
        leadership.0.clone().wait_for(|leads| *leads).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_takes_over_at_once_when_the_leader_leaves_and_soon_when_it_is_gone() {
        LocalSet::new()
            .run_until(async {
                let (world, fake) = (World::simulated(1, MemoryDisk::default()), Fake::default());
                let campaign = |identity: &str, shutdown: &Shutdown| {
                    Leadership::campaign(&world, &fake.client(), Config::new("scheduler", identity), shutdown)
                };
                let (one, two) = (Shutdown::new(), Shutdown::new());
                let first = campaign("n1", &one);
                leads(&first).await;
                let second = campaign("n2", &two);
                world.clock.sleep(SECOND * 60).await;
                assert!(first.is_leader() && !second.is_leader());
                let begun = world.clock.now();
                one.begin();
                leads(&second).await;
                assert!(world.clock.now() - begun <= SECOND * 3, "it saw that the lease was released");
                assert!(!first.is_leader());
                // A leader that vanished: it holds the lease, and does not renew it.
                two.begin();
                let key = Key::new("kube-system", "scheduler");
                fake.until(|fake| fake.get("leases", &key).unwrap()["spec"]["holderIdentity"] == "").await;
                fake.edit("leases", &key, |lease| {
                    lease["spec"]["holderIdentity"] = "gone".into();
                    lease["spec"]["leaseDurationSeconds"] = 15.into();
                });
                let begun = world.clock.now();
                leads(&campaign("n3", &Shutdown::new())).await;
                let waited = world.clock.now() - begun;
                assert!(waited >= SECOND * 15 && waited <= SECOND * 16, "{waited:?}");
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_cut_off_from_the_api_stops_before_another_may_begin() {
        LocalSet::new()
            .run_until(async {
                let (world, fake) = (World::simulated(1, MemoryDisk::default()), Fake::default());
                let config = Config::new("scheduler", "n1");
                let leadership = Leadership::campaign(&world, &fake.client(), config, &Shutdown::new());
                leads(&leadership).await;
                let cut_off = world.clock.now();
                fake.fail((0..1000).map(|_| Status::service_unavailable("away")));
                leadership.0.clone().wait_for(|leads| !*leads).await.unwrap();
                let led_on = world.clock.now() - cut_off;
                assert!(led_on <= SECOND * 10, "{led_on:?}");
            })
            .await;
    }
}
