//! The long-lived components of a process: each actor and each task that lasts as long as its node, under a name that
//! says whose part it is (`raft/proposer`), with its lane, how often it was started, and what waits for it.
//!
//! It fills itself: [`Spawner::start`](super::Spawner::start), [`Spawner::keep`](super::Spawner::keep) and the
//! supervisor, which [registers](Roster::register) what it starts again and again, are the only ways to run something for
//! long. Short tasks, one a request or connection, are not in it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::Instant;

use super::lane::Lane;

/// Components that ended are remembered up to this many, so that what comes and goes (a pod's actor) does not pile up.
const ENDED_MAX: usize = 64;
/// Of why a component ended no more than this is kept: a panic may print whatever it finds.
const LAST_EXIT_BYTES_MAX: usize = 1024;

/// What waits for a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    pub waiting: usize,
    /// No more than this wait; further ones are refused or held back at their source.
    pub limit: usize,
    /// How long the oldest has waited, or where that is not kept how long the last one took.
    #[serde(serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub age: Duration,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// How a component is asked for its [`Backlog`].
pub type Measure = Arc<dyn Fn() -> Backlog + Send + Sync>;

/// A [`Backlog`] that its component keeps up to date itself. Clones share it.
#[derive(Clone, Debug)]
pub struct Meter {
    limit: usize,
    /// How many wait, and since when the oldest.
    now: Arc<Mutex<(usize, Option<Instant>)>>,
}

impl Meter {
    pub fn new(limit: usize) -> Meter {
        Meter { limit, now: Arc::default() }
    }

    pub fn set(&self, waiting: usize, oldest: Option<Instant>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (waiting, oldest);
    }

    pub fn measure(&self) -> Measure {
        let meter = self.clone();
        Arc::new(move || {
            let (waiting, oldest) = *meter.now.lock().unwrap_or_else(PoisonError::into_inner);
            Backlog { waiting, limit: meter.limit, age: oldest.map(|oldest| oldest.elapsed()).unwrap_or_default() }
        })
    }
}

/// One component as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub name: String,
    /// The lane of an actor; nothing for a task on the shared runtime.
    pub lane: Option<Lane>,
    pub running: bool,
    /// Since it was started last.
    #[serde(serialize_with = "seconds", deserialize_with = "from_seconds")]
    pub age: Duration,
    /// How often it was restarted after it had ended.
    pub restarts: u64,
    /// Why it ended last, where it was to be restarted.
    #[serde(default)]
    pub last_exit: Option<String>,
    pub backlog: Option<Backlog>,
}

/// Tells whether a component still runs.
type Alive = Box<dyn Fn() -> bool + Send>;

struct Entry {
    lane: Option<Lane>,
    started: Instant,
    restarts: u64,
    last_exit: Option<String>,
    /// It ended, and is not yet restarted.
    pauses: bool,
    alive: Alive,
    backlog: Option<Measure>,
}

/// Clones share what they hold.
#[derive(Clone, Default)]
pub struct Roster(Arc<Mutex<BTreeMap<String, Entry>>>);

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

impl Roster {
    /// Everything there is, by name.
    pub fn components(&self) -> Vec<Component> {
        let mut entries = self.lock();
        forget(&mut entries);
        let component = |(name, entry): (&String, &Entry)| {
            let running = !entry.pauses && (entry.alive)();
            Component {
                name: name.clone(),
                lane: entry.lane,
                running,
                age: entry.started.elapsed(),
                restarts: entry.restarts,
                last_exit: entry.last_exit.clone(),
                backlog: entry.backlog.as_ref().filter(|_| running).map(|measure| measure()),
            }
        };
        entries.iter().map(component).collect()
    }

    /// [`components`](Roster::components) as a JSON list, with durations in seconds.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.components()).expect("names and numbers are JSON");
        text.push('\n');
        text
    }

    /// Notes that `name` runs from now on, and is restarted whenever it ends.
    pub fn register(&self, name: String, lane: Option<Lane>, backlog: Option<Measure>) -> Registration {
        let kept = Arc::new(());
        let seen = Arc::downgrade(&kept);
        let name = self.enter(name, lane, backlog, Box::new(move || seen.strong_count() > 0));
        Registration { roster: self.clone(), name, _kept: kept }
    }

    /// Notes that `name` runs from now on for as long as `alive` says so; again, if it did before. Gives the name under
    /// which it is found.
    pub(super) fn enter(&self, name: String, lane: Option<Lane>, backlog: Option<Measure>, alive: Alive) -> String {
        let mut entries = self.lock();
        // Several of one kind may run at once, such as two informers of pods.
        let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}#{number}")));
        let is_free = |name: &String| entries.get(name).is_none_or(|before| !(before.alive)());
        let name = names.into_iter().find(is_free).expect("the numbers do not end");
        let before = entries.get(&name);
        let restarts = before.map_or(0, |before| before.restarts + 1);
        let last_exit = before.and_then(|before| before.last_exit.clone());
        let entry = Entry { lane, started: Instant::now(), restarts, last_exit, pauses: false, alive, backlog };
        entries.insert(name.clone(), entry);
        // What comes and goes goes from here, too, whenever there is more of it than of anything else.
        if entries.len() > ENDED_MAX && entries.len().is_power_of_two() {
            forget(&mut entries);
        }
        name
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place in the [`Roster`] of a component that is started again and again; it is given up when this is dropped.
pub struct Registration {
    roster: Roster,
    name: String,
    _kept: Arc<()>,
}

impl Registration {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It ended, and will be restarted.
    pub fn ended(&self, why: &str) {
        self.change(|entry| {
            entry.last_exit = Some(why[..why.floor_char_boundary(LAST_EXIT_BYTES_MAX)].to_owned());
            entry.pauses = true;
        });
    }

    /// It is restarted.
    pub fn restarted(&self) {
        self.change(|entry| {
            entry.restarts += 1;
            entry.started = Instant::now();
            entry.pauses = false;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.roster.lock().get_mut(&self.name) {
            change(entry);
        }
    }
}

/// Leaves of those that ended the last [`ENDED_MAX`].
fn forget(entries: &mut BTreeMap<String, Entry>) {
    let ended = entries.iter().filter(|(_, entry)| !(entry.alive)());
    let mut ended: Vec<(Instant, String)> = ended.map(|(name, entry)| (entry.started, name.clone())).collect();
    ended.sort();
    ended.truncate(ended.len().saturating_sub(ENDED_MAX));
    for (_, name) in ended {
        entries.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(roster: &Roster, name: &str, backlog: Option<Measure>) -> Arc<()> {
        let running = Arc::new(());
        let seen = Arc::downgrade(&running);
        roster.enter(name.to_owned(), None, backlog, Box::new(move || seen.strong_count() > 0));
        running
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_starts_again_is_counted() {
        let roster = Roster::default();
        let backlog: Measure = Arc::new(|| Backlog { waiting: 3, limit: 8, age: Duration::ZERO });
        let first = enter(&roster, "raft/probe", Some(backlog));
        let seen = roster.components();
        assert_eq!((seen[0].running, seen[0].restarts, seen[0].backlog.unwrap().waiting), (true, 0, 3));
        drop(first);
        assert!(!roster.components()[0].running);
        let _second = enter(&roster, "raft/probe", None);
        let seen = roster.components();
        assert_eq!((seen.len(), seen[0].running, seen[0].restarts), (1, true, 1));
        let _beside = enter(&roster, "raft/probe", None);
        let seen = roster.components();
        assert_eq!((seen.len(), seen[1].name.as_str(), seen[1].restarts), (2, "raft/probe#2", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_reason_is_cut() {
        let roster = Roster::default();
        let registration = roster.register("raft/probe".to_owned(), None, None);
        registration.ended(&format!("!{}", "\u{e9}".repeat(1000)));
        assert_eq!(roster.components()[0].last_exit.as_ref().map(String::len), Some(1023));
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_ended_do_not_pile_up() {
        let roster = Roster::default();
        let _lasting = enter(&roster, "agent", None);
        for pod in 0..10_000 {
            drop(enter(&roster, &format!("agent/pod/{pod}"), None));
            assert!(roster.lock().len() <= 4 * ENDED_MAX);
        }
        let seen = roster.components();
        assert_eq!(seen.iter().filter(|component| !component.running).count(), ENDED_MAX);
        assert!(seen.iter().any(|component| component.name == "agent" && component.running));
    }
}
