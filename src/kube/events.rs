//! Events: messages of components to users about objects. Best effort: events are lost when the queue is full or the
//! API does not answer.
//!
//! ```text
//!   Recorder::event ──try_send──▶ queue (bounded) ──▶ task: happened before? ─┬─ no: create an Event
//!                                                                             └─ yes: count it up, move its last time
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use super::client::{Client, Kind, PatchType};
use super::status::Status;
use super::time;
use crate::actor::{Shutdown, Supervisor};
use crate::world::World;

const QUEUED_MAX: usize = 1024;
/// Events remembered, to be counted up when they come again.
const REMEMBERED_MAX: usize = 4096;
const SEND_MAX: Duration = Duration::from_secs(10);
/// Longer messages are cut, as the API allows no more.
const MESSAGE_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Normal,
    Warning,
}

/// Records events of one component. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Occurrence>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Occurrence {
    about: About,
    severity: Severity,
    reason: String,
    message: String,
}

/// The parts of an [`ObjectReference`], in an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    field_path: String,
}

impl Recorder {
    /// A recorder for `component` (`default-scheduler`) on `host`, until `shutdown`.
    pub fn start(world: &World, client: &Client, component: &str, host: &str, shutdown: &Shutdown) -> Recorder {
        let (sender, receiver) = mpsc::channel(QUEUED_MAX);
        let name = format!("kube/events/{component}");
        let (inner, client, receiver) = (world.clone(), client.clone(), Arc::new(Mutex::new(receiver)));
        let (component, host, end) = (component.to_owned(), host.to_owned(), shutdown.clone());
        // It ends with the last recorder.
        Supervisor::new(world, shutdown).restart_on_panic_only().task(name, move || {
            let writer = Writer {
                world: inner.clone(),
                client: client.clone(),
                component: component.clone(),
                host: host.clone(),
                remembered: Remembered::default(),
            };
            let (receiver, end) = (receiver.clone(), end.clone());
            async move { writer.run(&mut *receiver.lock().await, end).await }
        });
        Recorder(sender)
    }

    /// Records an event about `object`.
    pub fn event<K: Kind>(&self, object: &K, severity: Severity, reason: &str, message: impl Into<String>) {
        self.event_about(&reference(object), severity, reason, message);
    }

    /// Records an event about what `object` refers to: a container of a pod, with its `fieldPath`.
    pub fn event_about(&self, object: &ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let (about, mut message) = (About::from(object), message.into());
        let end = (0..=MESSAGE_BYTES_MAX.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        if self.0.try_send(Occurrence { about, severity, reason: reason.to_owned(), message }).is_err() {
            tracing::debug!(reason, "an event is lost: the queue is full");
        }
    }
}

/// A reference to `object`, as events carry it.
pub fn reference<K: Kind>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

impl From<&ObjectReference> for About {
    fn from(object: &ObjectReference) -> About {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        About {
            api_version: text(&object.api_version),
            kind: text(&object.kind),
            namespace: text(&object.namespace),
            name: text(&object.name),
            uid: text(&object.uid),
            field_path: text(&object.field_path),
        }
    }
}

impl About {
    fn reference(&self) -> ObjectReference {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ObjectReference {
            api_version: some(&self.api_version),
            kind: some(&self.kind),
            namespace: some(&self.namespace),
            name: some(&self.name),
            uid: some(&self.uid),
            resource_version: None,
            field_path: some(&self.field_path),
        }
    }

    /// Events about cluster-scoped objects are in the namespace `default`.
    fn event_namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}

/// Events that were created, by what they say; the oldest are forgotten first.
#[derive(Default)]
struct Remembered {
    events: BTreeMap<Occurrence, Recorded>,
    order: VecDeque<Occurrence>,
}

#[derive(Clone, Debug, PartialEq)]
struct Recorded {
    name: String,
    count: i32,
}

impl Remembered {
    /// The event to count up, already counted.
    fn count_up(&mut self, occurrence: &Occurrence) -> Option<Recorded> {
        let recorded = self.events.get_mut(occurrence)?;
        recorded.count = recorded.count.saturating_add(1);
        Some(recorded.clone())
    }

    fn remember(&mut self, occurrence: Occurrence, name: String) {
        if self.events.insert(occurrence.clone(), Recorded { name, count: 1 }).is_none() {
            self.order.push_back(occurrence);
        }
        while self.order.len() > REMEMBERED_MAX {
            let oldest = self.order.pop_front().expect("it is longer than its limit");
            self.events.remove(&oldest);
        }
    }
}

struct Writer {
    world: World,
    client: Client,
    component: String,
    host: String,
    remembered: Remembered,
}

impl Writer {
    async fn run(mut self, queue: &mut mpsc::Receiver<Occurrence>, shutdown: Shutdown) {
        let clock = self.world.clock.clone();
        loop {
            let next = tokio::select! {
                () = shutdown.wait() => return,
                next = queue.recv() => next,
            };
            let Some(next) = next else { return };
            match clock.timeout(SEND_MAX, self.write(next)).await {
                Ok(Ok(())) => {}
                Ok(Err(status)) => tracing::debug!(%status, "an event is lost"),
                Err(_) => tracing::debug!("an event is lost: the API did not answer in time"),
            }
        }
    }

    async fn write(&mut self, occurrence: Occurrence) -> Result<(), Status> {
        let events = self.client.api::<Event>().namespaced(occurrence.about.event_namespace());
        let now = time::now(&self.world.clock);
        if let Some(Recorded { name, count }) = self.remembered.count_up(&occurrence) {
            let patch = json!({ "count": count, "lastTimestamp": now });
            match events.patch(&name, PatchType::Merge, &patch).await {
                Err(status) if status.is_not_found() => {} // It expired: create a new one.
                other => return other.map(|_| ()),
            }
        }
        let event = self.event(&occurrence, now);
        let name = event.metadata.name.clone().expect("a new event was given a name");
        events.create(&event).await?;
        self.remembered.remember(occurrence, name);
        Ok(())
    }

    fn event(&self, occurrence: &Occurrence, now: Time) -> Event {
        let Occurrence { about, severity, reason, message } = occurrence;
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:016x}", about.name, self.world.random.u64())),
                namespace: Some(about.event_namespace().to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: about.reference(),
            type_: Some(format!("{severity:?}")),
            reason: Some(reason.clone()),
            message: Some(message.clone()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some(self.component.clone()), host: Some(self.host.clone()) }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use tokio::task::LocalSet;

    use super::*;
    use crate::kube::client::fake::Fake;
    use crate::world::MemoryDisk;

    #[tokio::test(start_paused = true)]
    async fn an_event_that_repeats_is_counted_up_and_said_anew_once_it_expired() {
        LocalSet::new()
            .run_until(async {
                let (world, fake) = (World::simulated(1, MemoryDisk::default()), Fake::default());
                let recorder = Recorder::start(&world, &fake.client(), "tester", "n1", &Shutdown::new());
                let pod: Pod =
                    serde_json::from_value(json!({"metadata": {"namespace": "default", "name": "www"}})).unwrap();
                let say = || recorder.event(&pod, Severity::Warning, "BackOff", "no luck");
                (0..3).for_each(|_| say());
                fake.until(|fake| fake.all("events").iter().any(|event| event["count"] == 3)).await;
                let event = fake.all("events").remove(0);
                assert_eq!(event["involvedObject"]["kind"], "Pod");
                assert_eq!((&event["type"], &event["reportingComponent"]), (&json!("Warning"), &json!("tester")));
                let name = event["metadata"]["name"].as_str().unwrap();
                fake.remove("events", &crate::kube::object::Key::new("default", name));
                say();
                fake.until(|fake| fake.all("events").iter().any(|event| event["count"] == 1)).await;
                assert_eq!(fake.all("events").len(), 1);
            })
            .await;
    }

    fn occurrence(message: &str) -> Occurrence {
        let about = About { name: "www".to_owned(), ..About::default() };
        Occurrence { about, severity: Severity::Warning, reason: "Failed".to_owned(), message: message.to_owned() }
    }

    #[test]
    fn what_is_said_again_is_counted_and_what_is_old_is_forgotten() {
        let mut remembered = Remembered::default();
        assert_eq!(remembered.count_up(&occurrence("a")), None);
        remembered.remember(occurrence("a"), "a.1".to_owned());
        assert_eq!(remembered.count_up(&occurrence("a")), Some(Recorded { name: "a.1".to_owned(), count: 2 }));
        for other in 0..REMEMBERED_MAX {
            remembered.remember(occurrence(&format!("{other}")), String::new());
        }
        assert_eq!(remembered.count_up(&occurrence("a")), None);
        assert_eq!(remembered.events.len(), REMEMBERED_MAX);
    }
}
