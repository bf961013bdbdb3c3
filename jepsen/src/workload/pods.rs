//! Replication controllers over the Kubernetes API: created, scaled and deleted, their pods deleted at random, beside
//! objects that must stay and watches of all pods. In the end there must be exactly what was asked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::{Session, Workload};
use crate::checker::desired::{self, Change, Controller, Pod, State, Watch};
use crate::checker::{Report, Verdict};
use crate::client::{Failed, Kubernetes};
use crate::history::Event;

const NAMESPACES: &str = "/api/v1/namespaces";
const NAMESPACE: &str = "jepsen";
const CONTROLLERS: usize = 6;
const REPLICAS_MAX: u64 = 4;
const WATCH_MS: std::ops::Range<u64> = 500..6_000;
/// How long a healed cluster may take until it has what was asked for: nodes must be ready again, and pods of one that
/// was given up must have been replaced.
const SETTLED_LIMIT: Duration = Duration::from_secs(90);
/// How long the API may take to be there in the beginning.
const SET_UP_LIMIT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What was seen besides the history.
#[derive(Default)]
struct Seen {
    watches: Vec<Watch>,
    /// How far the last watch came.
    position: u64,
    last: Option<State>,
    /// Why the last look showed nothing.
    silent: Option<String>,
    settled_after: Option<Duration>,
}

#[derive(Default)]
pub struct Pods {
    objects: AtomicU64,
    seen: Mutex<Seen>,
}

fn api(session: &Session) -> &Kubernetes {
    session.kubernetes.as_ref().expect("members of this workload are nodes")
}

fn path(resource: &str) -> String {
    format!("{NAMESPACES}/{NAMESPACE}/{resource}")
}

fn text(object: &Value, pointer: &str) -> Option<String> {
    object.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}

fn revision(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn controller(object: &Value) -> Controller {
    let number = |pointer| object.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    Controller {
        name: text(object, "/metadata/name").unwrap_or_default(),
        uid: text(object, "/metadata/uid").unwrap_or_default(),
        generation: number("/metadata/generation"),
        replicas: number("/spec/replicas"),
    }
}

/// What the history says of a controller.
fn told(object: &Value) -> Value {
    let Controller { name, uid, generation, replicas } = controller(object);
    json!([name, uid, generation, replicas])
}

fn pod(object: &Value) -> Pod {
    let list = |pointer| object.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let owner = list("/metadata/ownerReferences").find(|owner| owner["controller"] == true);
    let phase = text(object, "/status/phase").unwrap_or_default();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    Pod {
        name: text(object, "/metadata/name").unwrap_or_default(),
        uid: text(object, "/metadata/uid").unwrap_or_default(),
        owner: owner.and_then(|owner| text(owner, "/uid")),
        app: text(object, "/metadata/labels/app"),
        node: text(object, "/spec/nodeName"),
        ready: phase == "Running" && list("/status/conditions").any(ready),
        ending: object.pointer("/metadata/deletionTimestamp").is_some(),
        over: phase == "Succeeded" || phase == "Failed",
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

/// Everything there is, as reads tell it that see all that was acknowledged before.
async fn look(api: &Kubernetes) -> Result<State, Failed> {
    let controllers = api.get(&path("replicationcontrollers")).await?;
    let pods = api.get(&path("pods")).await?;
    let services = api.get(&path("services")).await?;
    let endpoints = api.get(&path("endpoints")).await?;
    let kept = api.get(&path("configmaps")).await?;
    let leads_to = |object: &Value| {
        let subsets = object["subsets"].as_array().into_iter().flatten();
        let addresses = subsets.flat_map(|subset| subset["addresses"].as_array().into_iter().flatten());
        addresses.filter_map(|address| text(address, "/targetRef/name")).collect()
    };
    let name = |object: &Value| text(object, "/metadata/name").unwrap_or_default();
    Ok(State {
        controllers: items(&controllers).map(controller).collect(),
        pods: items(&pods).map(pod).collect(),
        services: items(&services).map(name).collect(),
        endpoints: items(&endpoints).map(|object| (name(object), leads_to(object))).collect(),
        kept: items(&kept).map(name).collect(),
    })
}

/// Creates what need not be new.
async fn ensure(api: &Kubernetes, path: &str, object: &Value) -> Result<(), Failed> {
    match api.post(path, object).await {
        Err(Failed::Surely(why)) if why.starts_with("409") => Ok(()),
        created => created.map(drop),
    }
}

async fn set_up(api: &Kubernetes) -> Result<(), Failed> {
    ensure(api, NAMESPACES, &json!({"metadata": {"name": NAMESPACE}})).await?;
    for number in 0..CONTROLLERS {
        let name = format!("rc-{number}");
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}});
        ensure(api, &path("services"), &service).await?;
    }
    Ok(())
}

#[async_trait::async_trait(?Send)]
impl Workload for Pods {
    fn name(&self) -> &'static str {
        "pods"
    }

    async fn set_up(&self, session: &mut Session) -> Result<(), Failed> {
        let deadline = tokio::time::Instant::now() + SET_UP_LIMIT;
        loop {
            match set_up(api(session)).await {
                Err(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(LOOK_INTERVAL).await,
                done => return done,
            }
        }
    }

    async fn step(&self, session: &mut Session) {
        let name = format!("rc-{}", session.random.random_range(0..CONTROLLERS));
        match session.random.random_range(0..100) {
            0..15 => create(session, &name).await,
            15..40 => scale(session, &name).await,
            40..45 => delete(session, &name).await,
            45..60 => delete_pod(session).await,
            60..75 => self.keep(session).await,
            75..90 => read(session, &name).await,
            _ => self.watch(session).await,
        }
    }

    async fn finish(&self, session: &mut Session) {
        let began = tokio::time::Instant::now();
        loop {
            match look(api(session)).await {
                Ok(state) => {
                    let settled = desired::unsettled(&state).is_empty();
                    let mut seen = self.seen();
                    seen.last = Some(state);
                    if settled {
                        seen.settled_after = Some(began.elapsed());
                        return;
                    }
                }
                Err(failed) => self.seen().silent = Some(format!("{}: {failed}", session.node)),
            }
            if began.elapsed() > SETTLED_LIMIT {
                return;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn check(&self, events: &[Event], _limit: Duration) -> Vec<Report> {
        let seen = self.seen();
        let state = match (&seen.last, &seen.silent) {
            (Some(state), _) => state,
            (None, Some(why)) => return vec![desired::silent(SETTLED_LIMIT, why)],
            (None, None) => {
                let report = Report::of("desired", Vec::new()).note("nobody asked what there is in the end");
                return vec![Report { verdict: Verdict::Unknown, ..report }];
            }
        };
        let settled = match seen.settled_after {
            Some(after) => format!("settled after {:.1} s", after.as_secs_f64()),
            None => format!("not settled after {} s", SETTLED_LIMIT.as_secs()),
        };
        vec![
            desired::check_state(state).note(settled),
            desired::check_objects(events, state),
            desired::check_watches(&seen.watches),
        ]
    }

    fn needs_nodes(&self) -> bool {
        true
    }

    fn is_judged_by_history(&self) -> bool {
        false
    }

    fn operations_per_s_min(&self) -> u64 {
        2
    }

    fn attachments(&self) -> Vec<(String, String)> {
        let seen = self.seen();
        let watches = seen.watches.iter().map(|watch| format!("{}\n", json!(watch))).collect();
        vec![("watches.jsonl".to_owned(), watches), ("state.json".to_owned(), json!(seen.last).to_string())]
    }
}

async fn create(session: &mut Session, name: &str) {
    let replicas = session.random.random_range(0..=REPLICAS_MAX);
    let object = json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"app": name},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "busybox"}]},
            },
        },
    });
    let create =
        async |session: &mut Session| Ok(told(&api(session).post(&path("replicationcontrollers"), &object).await?));
    session.write("create", json!([name, null, null, replicas]), create).await;
}

async fn scale(session: &mut Session, name: &str) {
    let replicas = session.random.random_range(0..=REPLICAS_MAX);
    let target = path(&format!("replicationcontrollers/{name}"));
    let scale = async |session: &mut Session| {
        Ok(told(&api(session).patch(&target, &json!({"spec": {"replicas": replicas}})).await?))
    };
    session.write("scale", json!([name, null, null, replicas]), scale).await;
}

async fn delete(session: &mut Session, name: &str) {
    let target = path(&format!("replicationcontrollers/{name}"));
    let delete = async |session: &mut Session| {
        let gone = api(session).delete(&target, &json!({"propagationPolicy": "Background"})).await?;
        let uid = text(&gone, "/details/uid").or_else(|| text(&gone, "/metadata/uid"));
        Ok(json!([name, uid]))
    };
    session.write("delete", json!([name, null]), delete).await;
}

async fn delete_pod(session: &mut Session) {
    // Any member's cache will do to pick one.
    let Ok(pods) = api(session).get(&path("pods?resourceVersion=0")).await else { return };
    let names: Vec<String> = items(&pods).filter_map(|pod| text(pod, "/metadata/name")).collect();
    let Some(name) = names.choose(&mut session.random).cloned() else { return };
    let target = path(&format!("pods/{name}"));
    let delete = async |session: &mut Session| {
        api(session).delete(&target, &json!({"gracePeriodSeconds": 0})).await?;
        Ok(json!(name))
    };
    session.write("delete-pod", json!(name), delete).await;
}

async fn read(session: &mut Session, name: &str) {
    let target = path(&format!("replicationcontrollers/{name}"));
    let read = async |session: &mut Session| Ok(told(&api(session).get(&target).await?));
    session.read("read", json!([name, null]), read).await;
}

impl Pods {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates an object that nobody deletes.
    async fn keep(&self, session: &mut Session) {
        let name = format!("kept-{}", self.objects.fetch_add(1, Ordering::Relaxed));
        let object = json!({"metadata": {"name": name}, "data": {"name": name}});
        let keep = async |session: &mut Session| {
            api(session).post(&path("configmaps"), &object).await?;
            Ok(json!(name))
        };
        session.write("keep", json!(name), keep).await;
    }

    /// Watches all pods for a while: from now on, or from where the last watch ended, be it with another member.
    async fn watch(&self, session: &mut Session) {
        let lives = Duration::from_millis(session.random.random_range(WATCH_MS));
        let goes_on = session.random.random_bool(0.6);
        let watch = async |session: &mut Session| {
            let from = match self.seen().position {
                position if goes_on && position > 0 => Some(position),
                _ => None,
            };
            let from = match from {
                Some(from) => from,
                None => revision(&api(session).get(&path("pods")).await?),
            };
            let mut watch = Watch { node: session.node.clone(), from, changes: Vec::new() };
            // What was told before the watch broke counts as well.
            let ended = follow(api(session), &mut watch, lives).await;
            let count = watch.changes.len();
            let mut seen = self.seen();
            seen.position = watch.changes.last().map_or(from, |last| last.revision);
            if matches!(ended, Ok(End::Compacted)) {
                seen.position = 0;
            }
            seen.watches.push(watch);
            ended.map(|_| json!(count))
        };
        session.read("watch", json!(null), watch).await;
    }
}

/// How a watch ended.
enum End {
    Time,
    /// What it was to tell is history.
    Compacted,
}

async fn follow(api: &Kubernetes, watch: &mut Watch, lives: Duration) -> Result<End, Failed> {
    let query = format!("pods?watch=true&allowWatchBookmarks=true&resourceVersion={}", watch.from);
    let mut lines = match api.watch(&path(&query)).await {
        Err(Failed::Surely(why)) if why.starts_with("410") => return Ok(End::Compacted),
        opened => opened?,
    };
    let end = tokio::time::sleep(lives);
    tokio::pin!(end);
    loop {
        let event = tokio::select! {
            () = &mut end => return Ok(End::Time),
            event = lines.next() => event.ok_or_else(|| Failed::Surely("the watch broke".to_owned()))?,
        };
        let kind = text(&event, "/type").unwrap_or_default();
        if kind == "ERROR" {
            return match event.pointer("/object/code").and_then(Value::as_u64) {
                Some(410) => Ok(End::Compacted),
                _ => Err(Failed::Surely(format!("the watch ended with {}", event["object"]))),
            };
        }
        let object = &event["object"];
        let pod = (kind != "BOOKMARK").then(|| pod(object));
        watch.changes.push(Change { kind, revision: revision(object), pod });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_stays_silent_after_healing_is_a_violation() {
        let pods = Pods::default();
        assert_eq!(pods.check(&[], SETTLED_LIMIT)[0].verdict, Verdict::Unknown, "nobody has looked");
        pods.seen().silent = Some("n1: not connected".to_owned());
        let report = pods.check(&[], SETTLED_LIMIT).remove(0);
        assert_eq!((report.verdict, report.anomalies[0].name.as_str()), (Verdict::False, "silent"));
        pods.seen().last = Some(State::default());
        assert_eq!(pods.check(&[], SETTLED_LIMIT)[0].verdict, Verdict::True, "it answered after all");
    }
}
