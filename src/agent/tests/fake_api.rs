//! An API in memory for this room's tests: objects by path, versions, watches, patches. No defaulting, no
//! validation; deletion of a pod waits for a deletion with grace 0, as the real one's does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::kube::client::{
    Client, DeleteOptions, List, PatchType, Request, Response, Target, Transport, Verb, WatchOptions,
};
use crate::kube::object::{Object, WatchEvent};
use crate::kube::patch;
use crate::kube::resources::Table;
use crate::kube::schema::Schemas;
use crate::kube::status::Status;

/// An API in memory. Clones share it.
#[derive(Clone)]
pub struct FakeApi(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    events: broadcast::Sender<(String, WatchEvent)>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By `resource/namespace/name`.
    objects: BTreeMap<String, Value>,
    history: Vec<(u64, String, WatchEvent)>,
    away: bool,
}

impl State {
    fn tell(&mut self, events: &broadcast::Sender<(String, WatchEvent)>, path: &str, event: WatchEvent) {
        self.history.push((self.version, path.to_owned(), event.clone()));
        // Nobody watching is fine.
        let _ = events.send((path.to_owned(), event));
    }
}

fn key(target: &Target) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}/{}", target.resource, part(&target.namespace), part(&target.name))
}

fn object(value: &Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("a test writes whole objects"))
}

impl FakeApi {
    pub fn new() -> FakeApi {
        let (events, _) = broadcast::channel(1024);
        FakeApi(Arc::new(Inner { state: Mutex::default(), events }))
    }

    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()))
    }

    /// While it is away every call fails.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Writes an object as it is.
    pub fn put(&self, path: &str, mut value: Value) {
        let mut state = self.lock();
        state.version += 1;
        value["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let is_new = state.objects.insert(path.to_owned(), value.clone()).is_none();
        let event = if is_new { WatchEvent::Added(object(&value)) } else { WatchEvent::Modified(object(&value)) };
        state.tell(&self.0.events, path, event);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    /// Removes an object at once.
    pub fn remove(&self, path: &str) {
        let mut state = self.lock();
        state.version += 1;
        if let Some(mut value) = state.objects.remove(path) {
            value["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.tell(&self.0.events, path, WatchEvent::Deleted(object(&value)));
        }
    }

    /// Asks for a pod's deletion with a grace period, as a client does.
    pub fn delete_pod(&self, path: &str, grace_seconds: i64) {
        let mut pod = self.get(path).expect("a pod to delete");
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace_seconds);
        self.put(path, pod);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self, target: &Target) -> Result<Value, Status> {
        let found = self.get(&key(target));
        found.ok_or_else(|| Status::new(404, "NotFound", format!("{} not found", key(target))))
    }

    fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Response, Status> {
        self.present(target)?;
        assert!(target.resource != "pods" || options.grace_period_seconds == Some(0), "agents confirm deletions");
        self.remove(&key(target));
        Ok(Response::Done)
    }
}

/// As the real API patches it.
fn patched(target: &Target, kind: PatchType, body: &[u8], object: &Value) -> Result<Value, Status> {
    let table = Table::builtin();
    let resource = table.get(&target.group, &target.version, &target.resource).expect("agents patch what there is");
    patch::patch(&Schemas::builtin(), &resource.definition, kind, body, object)
}

#[async_trait]
impl Transport for FakeApi {
    async fn call(&self, Request { target, verb, .. }: Request) -> Result<Response, Status> {
        if self.lock().away {
            return Err(Status::new(503, "ServiceUnavailable", "away"));
        }
        let parse = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("clients send JSON");
        let mut target = target;
        match verb {
            Verb::Get => Ok(Response::Object(object(&self.present(&target)?))),
            Verb::List(_) => {
                let state = self.lock();
                let items = state.objects.iter().filter(|(path, _)| path.starts_with(&format!("{}/", target.resource)));
                Ok(Response::List(List {
                    items: items.map(|(_, value)| object(value)).collect(),
                    resource_version: state.version.to_string(),
                    ..List::default()
                }))
            }
            Verb::Create { body } => {
                let mut value = parse(&body);
                target.name = value["metadata"]["name"].as_str().map(str::to_owned);
                value["metadata"]["uid"] = json!(format!("uid-of-{}", key(&target)));
                self.put(&key(&target), value);
                Ok(Response::Object(object(&self.present(&target)?)))
            }
            Verb::Update { body } => {
                self.present(&target)?;
                self.put(&key(&target), parse(&body));
                Ok(Response::Object(object(&self.present(&target)?)))
            }
            Verb::Patch { kind, body, .. } => {
                let value = self.present(&target)?;
                self.put(&key(&target), patched(&target, kind, &body, &value)?);
                Ok(Response::Object(object(&self.present(&target)?)))
            }
            Verb::Delete(options) => self.delete(&target, &options),
            Verb::DeleteCollection(..) => panic!("agents delete one object at a time"),
        }
    }

    async fn watch(
        &self,
        target: Target,
        options: WatchOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        if self.lock().away {
            return Err(Status::new(503, "ServiceUnavailable", "away"));
        }
        let from: u64 = options.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default();
        let prefix = format!("{}/", target.resource);
        let state = self.lock();
        let live = BroadcastStream::new(self.0.events.subscribe()).map(|item| item.expect("a test never lags"));
        let past = state.history.iter().filter(|(version, ..)| *version > from);
        let past: Vec<_> = past.map(|(_, path, event)| (path.clone(), event.clone())).collect();
        let all = futures::stream::iter(past).chain(live);
        Ok(all
            .filter_map(move |(path, event)| std::future::ready(path.starts_with(&prefix).then_some(Ok(event))))
            .boxed())
    }
}
