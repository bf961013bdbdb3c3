//! An API of objects in memory, for tests of what speaks to one: versions, conflicts, watches with history, bindings
//! and finalizers as in the real one; no schemas, no authorization, no selectors.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Client, DeleteOptions, List, PatchType, Request, Response, Target, Transport, Verb, WatchOptions};
use crate::kube::object::{Key, Object, WatchEvent};
use crate::kube::status::Status;

/// A handle on the API; clones share it.
#[derive(Clone, Default)]
pub struct Fake(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Notified of every change; the number of times that watches were cut.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<(String, Key), Value>,
    history: Vec<(u64, Target, WatchEvent)>,
    /// History up to here is gone.
    compacted: u64,
    failures: VecDeque<Status>,
    calls: Vec<String>,
}

impl Fake {
    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()))
    }

    /// Puts an object of a `resource` there, as another client would; one of that name keeps its uid.
    pub fn put(&self, resource: &str, mut object: Value) {
        let key = key_of(&object);
        self.change(|state| {
            if let Some(before) = state.objects.get(&(resource.to_owned(), key.clone())) {
                object["metadata"]["uid"] = before["metadata"]["uid"].clone();
            }
            state.write(resource, key, object);
        });
    }

    /// Changes an object in place.
    pub fn edit(&self, resource: &str, key: &Key, edit: impl FnOnce(&mut Value)) {
        self.change(|state| {
            let mut object = state.objects[&(resource.to_owned(), key.clone())].clone();
            edit(&mut object);
            state.write(resource, key.clone(), object);
        });
    }

    pub fn remove(&self, resource: &str, key: &Key) {
        self.change(|state| {
            state.erase(resource, key);
        });
    }

    pub fn get(&self, resource: &str, key: &Key) -> Option<Value> {
        self.0.state.lock().unwrap().objects.get(&(resource.to_owned(), key.clone())).cloned()
    }

    pub fn all(&self, resource: &str) -> Vec<Value> {
        let state = self.0.state.lock().unwrap();
        state.objects.iter().filter(|((kind, _), _)| kind == resource).map(|(_, object)| object.clone()).collect()
    }

    /// The next calls fail so, one each.
    pub fn fail(&self, failures: impl IntoIterator<Item = Status>) {
        self.0.state.lock().unwrap().failures.extend(failures);
    }

    /// Ends all watches.
    pub fn cut_watches(&self) {
        self.0.changed.send_modify(|cuts| *cuts += 1);
    }

    /// Forgets the history: watches from before have expired.
    pub fn compact(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.compacted = state.revision;
        state.history.clear();
    }

    /// `verb resource key` of every call so far.
    pub fn calls(&self) -> Vec<String> {
        self.0.state.lock().unwrap().calls.clone()
    }

    /// Resolves once `holds`; a test that waits for more than ten minutes has failed.
    pub async fn until(&self, holds: impl Fn(&Fake) -> bool) {
        let mut changed = self.0.changed.subscribe();
        let waiting = async {
            while !holds(self) {
                changed.changed().await.expect("the API outlives the wait");
            }
        };
        let limit = std::time::Duration::from_secs(600);
        tokio::time::timeout(limit, waiting).await.expect("what was waited for never happened");
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.0.state.lock().unwrap());
        self.0.changed.send_modify(|_| {});
        changed
    }
}

impl State {
    fn write(&mut self, resource: &str, key: Key, mut object: Value) -> Arc<Object> {
        self.revision += 1;
        let place = (resource.to_owned(), key);
        let is_new = !self.objects.contains_key(&place);
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = json!(self.revision.to_string());
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}", self.revision));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let shared = Arc::new(Object::from_value(&object).unwrap());
        let event = if is_new { WatchEvent::Added(shared.clone()) } else { WatchEvent::Modified(shared.clone()) };
        self.record(resource, &place.1, event);
        self.objects.insert(place, object);
        shared
    }

    fn erase(&mut self, resource: &str, key: &Key) -> Option<Arc<Object>> {
        let mut object = self.objects.remove(&(resource.to_owned(), key.clone()))?;
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let shared = Arc::new(Object::from_value(&object).unwrap());
        self.record(resource, key, WatchEvent::Deleted(shared.clone()));
        Some(shared)
    }

    fn record(&mut self, resource: &str, key: &Key, event: WatchEvent) {
        let target = Target {
            resource: resource.to_owned(),
            namespace: (!key.namespace.is_empty()).then(|| key.namespace.clone()),
            ..Target::default()
        };
        self.history.push((self.revision, target, event));
    }

    fn call(&mut self, request: Request) -> Result<Response, Status> {
        let Target { resource, namespace, name, subresource, .. } = &request.target;
        let key = Key::new(namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default());
        self.calls.push(format!("{} {resource} {key}", word(&request.verb)));
        if let Some(failure) = self.failures.pop_front() {
            return Err(failure);
        }
        let found = self.objects.get(&(resource.clone(), key.clone())).cloned();
        let found = || found.ok_or_else(|| Status::not_found(&request.target.group, resource, &key.name));
        let status_only = subresource.as_deref() == Some("status");
        let written = match &request.verb {
            Verb::List(_) => return Ok(Response::List(self.list(&request.target))),
            Verb::Get => Arc::new(Object::from_value(&found()?).unwrap()),
            Verb::Create { body } if subresource.as_deref() == Some("binding") => {
                self.bind(resource, key.clone(), found()?, body)?;
                return Ok(Response::Done);
            }
            Verb::Create { body } => self.create(&request.target, parse(body))?,
            Verb::Update { body } => {
                let (before, body) = (found()?, parse(body));
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
                    return Err(Status::modified(&request.target.group, resource, &key.name));
                }
                let (mut after, other) = if status_only { (before, body) } else { (body, before) };
                after["status"] = other["status"].clone();
                self.write(resource, key, after)
            }
            Verb::Patch { kind, body, .. } => {
                let mut object = found()?;
                merge(&mut object, &parse(body), *kind);
                self.write(resource, key, object)
            }
            Verb::Delete(options) => return self.delete(resource, key.clone(), found()?, options),
            Verb::DeleteCollection(..) => {
                return Err(Status::new(405, "MethodNotAllowed", "the fake deletes no collections"));
            }
        };
        Ok(Response::Object(written))
    }

    fn list(&self, target: &Target) -> List {
        let in_scope = |key: &Key| target.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace);
        let objects = self.objects.iter().filter(|((kind, key), _)| *kind == target.resource && in_scope(key));
        List {
            items: objects.map(|(_, object)| Arc::new(Object::from_value(object).unwrap())).collect(),
            resource_version: self.revision.to_string(),
            ..List::default()
        }
    }

    fn create(&mut self, target: &Target, mut object: Value) -> Result<Arc<Object>, Status> {
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str().unwrap_or_default();
            meta["name"] = json!(format!("{prefix}{:05}", self.revision));
        }
        if let Some(namespace) = &target.namespace {
            meta["namespace"] = json!(namespace);
        }
        let key = key_of(&object);
        if self.objects.contains_key(&(target.resource.clone(), key.clone())) {
            return Err(Status::already_exists(&target.group, &target.resource, &key.name));
        }
        Ok(self.write(&target.resource, key, object))
    }

    fn bind(&mut self, resource: &str, key: Key, mut pod: Value, body: &Bytes) -> Result<(), Status> {
        let binding = parse(body);
        if !pod["spec"]["nodeName"].is_null() || binding["metadata"]["uid"] != pod["metadata"]["uid"] {
            return Err(Status::conflict("", resource, &key.name, "it is bound already, or another pod by now"));
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        merge(
            &mut pod["status"],
            &json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}),
            PatchType::Strategic,
        );
        self.write(resource, key, pod);
        Ok(())
    }

    fn delete(
        &mut self,
        resource: &str,
        key: Key,
        mut object: Value,
        options: &DeleteOptions,
    ) -> Result<Response, Status> {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        if options.precondition_uid.as_deref().is_some_and(|wanted| wanted != uid) {
            return Err(Status::conflict("", resource, &key.name, "the uid differs"));
        }
        if object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty()) {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            return Ok(Response::Object(self.write(resource, key, object)));
        }
        self.erase(resource, &key);
        Ok(Response::Done)
    }
}

fn word(verb: &Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::List(_) => "list",
        Verb::Create { .. } => "create",
        Verb::Update { .. } => "update",
        Verb::Patch { .. } => "patch",
        Verb::Delete(_) => "delete",
        Verb::DeleteCollection(..) => "deletecollection",
    }
}

fn key_of(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Key::new(text("namespace"), text("name"))
}

fn parse(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// A merge patch; a strategic one keeps the conditions of other types.
fn merge(object: &mut Value, patch: &Value, kind: PatchType) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        match (&mut object[name], value) {
            (_, Value::Null) => drop(object.as_object_mut().unwrap().remove(name)),
            (Value::Array(items), Value::Array(new)) if name == "conditions" && kind == PatchType::Strategic => {
                items.retain(|item| new.iter().all(|new| new["type"] != item["type"]));
                items.extend(new.iter().cloned());
            }
            (field, value) => merge(field, value, kind),
        }
    }
}

#[async_trait::async_trait]
impl Transport for Fake {
    async fn call(&self, request: Request) -> Result<Response, Status> {
        self.change(|state| state.call(request))
    }

    async fn watch(
        &self,
        target: Target,
        options: WatchOptions,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
        let from: u64 = options.resource_version.as_deref().unwrap_or("0").parse().unwrap();
        {
            let mut state = self.0.state.lock().unwrap();
            state.calls.push(format!("watch {} from {from}", target.resource));
            if from < state.compacted {
                return Err(Status::expired("too old resource version"));
            }
        }
        let changed = self.0.changed.subscribe();
        let cuts = *changed.borrow();
        let start = (self.clone(), changed, from);
        let events = futures::stream::unfold(start, move |(fake, mut changed, from)| {
            let target = target.clone();
            async move {
                loop {
                    if *changed.borrow_and_update() != cuts {
                        return None;
                    }
                    if let Some((revision, event)) = fake.next_event(&target, from) {
                        return Some((Ok(event), (fake, changed, revision)));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        Ok(events.boxed())
    }
}

impl Fake {
    fn next_event(&self, target: &Target, from: u64) -> Option<(u64, WatchEvent)> {
        let state = self.0.state.lock().unwrap();
        let concerns = |of: &Target| {
            of.resource == target.resource && (target.namespace.is_none() || of.namespace == target.namespace)
        };
        let next = state.history.iter().find(|(revision, of, _)| *revision > from && concerns(of));
        next.map(|(revision, _, event)| (*revision, event.clone()))
    }
}
