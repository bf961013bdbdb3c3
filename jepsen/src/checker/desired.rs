//! Desired state: after everything was healed there are exactly the pods that were asked for, no acknowledged object is
//! gone, no pod was ever on two nodes, and watches told everything in order.
//!
//! Writes of a controller are told apart by its `generation`, which rises with each change of what is asked for:
//! values are `[name, uid, generation, replicas]`, of a delete `[name, uid]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{Anomaly, Report, Verdict};
use crate::history::{Event, Kind, operations};

/// A replication controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Controller {
    pub name: String,
    pub uid: String,
    pub generation: u64,
    pub replicas: u64,
}

/// A pod as a list or a watch shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    /// The UID of the controller that owns it.
    pub owner: Option<String>,
    /// What services select by.
    pub app: Option<String>,
    pub node: Option<String>,
    pub ready: bool,
    /// It is being deleted.
    pub ending: bool,
    /// It has succeeded or failed, and does not come back.
    pub over: bool,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct State {
    pub controllers: Vec<Controller>,
    pub pods: Vec<Pod>,
    /// Each selects the pods whose `app` is its name.
    pub services: BTreeSet<String>,
    /// By service, the names of the pods that it leads to.
    pub endpoints: BTreeMap<String, BTreeSet<String>>,
    /// Objects that nobody ever deletes.
    pub kept: BTreeSet<String>,
}

/// An event of a watch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub kind: String,
    pub revision: u64,
    /// `None` for a bookmark.
    pub pod: Option<Pod>,
}

/// A watch of all pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Watch {
    pub node: String,
    /// It tells what comes after this.
    pub from: u64,
    pub changes: Vec<Change>,
}

fn anomaly(name: &str, what: String) -> Anomaly {
    Anomaly { name: name.to_owned(), what, events: Vec::new(), because: Vec::new() }
}

/// In which respects a state is not what is asked for.
pub fn unsettled(state: &State) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for controller in &state.controllers {
        let owned = |pod: &&Pod| pod.owner.as_ref() == Some(&controller.uid) && !pod.ending && !pod.over;
        let count = state.pods.iter().filter(owned).count() as u64;
        if count != controller.replicas {
            let name = if count > controller.replicas { "too-many" } else { "too-few" };
            found
                .push(anomaly(name, format!("{} wants {} pods and has {count}", controller.name, controller.replicas)));
        }
    }
    let owners: BTreeSet<&String> = state.controllers.iter().map(|controller| &controller.uid).collect();
    for pod in &state.pods {
        if pod.owner.as_ref().is_none_or(|owner| !owners.contains(owner)) {
            found.push(anomaly("orphan", format!("{} is there, and its controller is not", pod.name)));
        }
        if pod.ending {
            found.push(anomaly("not-gone", format!("{} was deleted and is still there", pod.name)));
        } else if pod.node.is_none() || !pod.ready {
            let node = pod.node.as_deref().unwrap_or("no node");
            found.push(anomaly("not-ready", format!("{} on {node} is not ready", pod.name)));
        }
    }
    for service in &state.services {
        let selected = state.pods.iter().filter(|pod| pod.app.as_ref() == Some(service) && pod.ready && !pod.ending);
        let ready: BTreeSet<String> = selected.map(|pod| pod.name.clone()).collect();
        let what = match state.endpoints.get(service) {
            Some(told) if *told == ready => continue,
            Some(told) => format!("{service} leads to {told:?}, and {ready:?} are ready"),
            None => format!("{service} has no endpoints, and {ready:?} are ready"),
        };
        found.push(anomaly("endpoints", what));
    }
    found
}

/// Judges a healed cluster that did not show for `limit` what there is; `why` is the last error.
pub fn silent(limit: Duration, why: &str) -> Report {
    let what = format!("nobody could tell for {} s after healing what there is: {why}", limit.as_secs());
    Report::of("desired", vec![anomaly("silent", what)])
}

/// Judges the state that was reached in the end.
pub fn check_state(state: &State) -> Report {
    Report::of("desired", unsettled(state)).note(format!(
        "{} controllers, {} pods, {} objects kept",
        state.controllers.len(),
        state.pods.len(),
        state.kept.len()
    ))
}

/// Judges what was acknowledged against what there is in the end.
pub fn check_objects(events: &[Event], state: &State) -> Report {
    let mut objects = Objects::default();
    for operation in operations(events) {
        let (value, ok) = (operation.value(), operation.outcome() == Kind::Ok);
        let text = |at: usize| value.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let index = operation.invoked.index;
        match operation.invoked.f.as_str() {
            "keep" if ok => {
                let name = value.as_str().unwrap_or_default();
                if !state.kept.contains(name) {
                    objects.found("lost", format!("{name} was created and is gone"), vec![index]);
                }
            }
            "create" | "scale" if ok => objects.wrote(value, index, operation.ended()),
            "read" if ok && value.get(1).is_some_and(Value::is_string) => {
                objects.read(value, index, operation.invoked.time);
            }
            "delete" if ok => drop(objects.deleted.insert(text(1))),
            // A deletion of unknown outcome may have deleted whichever was there.
            "delete" if operation.outcome() == Kind::Info => drop(objects.perhaps_deleted.insert(text(0))),
            _ => {}
        }
    }
    objects.judge(state)
}

/// What is known of controllers.
#[derive(Default)]
struct Objects {
    /// By UID and generation: what was asked for, the event, and when it was acknowledged.
    writes: BTreeMap<(String, u64), (u64, u64, u64)>,
    names: BTreeMap<String, String>,
    deleted: BTreeSet<String>,
    /// Names of controllers.
    perhaps_deleted: BTreeSet<String>,
    anomalies: Vec<Anomaly>,
}

impl Objects {
    fn found(&mut self, name: &str, what: String, events: Vec<u64>) {
        self.anomalies.push(Anomaly { events, ..anomaly(name, what) });
    }

    fn parts(value: &Value) -> (String, String, u64, u64) {
        let text = |at: usize| value.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |at: usize| value.get(at).and_then(Value::as_u64).unwrap_or_default();
        (text(0), text(1), number(2), number(3))
    }

    fn wrote(&mut self, value: &Value, index: u64, ended: u64) {
        let (name, uid, generation, replicas) = Objects::parts(value);
        self.names.insert(uid.clone(), name.clone());
        match self.writes.get(&(uid.clone(), generation)) {
            Some((other, event, _)) if *other != replicas => {
                let what = format!("{name} was acknowledged twice in generation {generation}: {other} and {replicas}");
                self.found("lost-update", what, vec![*event, index]);
            }
            // The first acknowledgement counts: who reads later must see it.
            Some((_, _, before)) if *before <= ended => {}
            _ => drop(self.writes.insert((uid, generation), (replicas, index, ended))),
        }
    }

    /// A read that begins after an acknowledgement sees it.
    fn read(&mut self, value: &Value, index: u64, began: u64) {
        let (name, uid, generation, _) = Objects::parts(value);
        let newer = self.writes.range((uid.clone(), generation + 1)..=(uid, u64::MAX));
        let mut missed =
            newer.filter(|(_, (.., ended))| *ended < began).map(|((_, newer), (_, event, _))| (*newer, *event));
        if let Some((newer, event)) = missed.next_back() {
            let what = format!("{name} was read in generation {generation}, after {newer} had been acknowledged");
            self.found("stale", what, vec![event, index]);
        }
    }

    fn judge(mut self, state: &State) -> Report {
        let now: BTreeMap<&String, &Controller> =
            state.controllers.iter().map(|controller| (&controller.uid, controller)).collect();
        let mut found = Vec::new();
        for ((uid, generation), (replicas, event, _)) in &self.writes {
            let name = &self.names[uid];
            match now.get(uid) {
                Some(_) if self.deleted.contains(uid) => {
                    found.push(("undead", format!("{name} was deleted and is there"), *event));
                }
                Some(last) if last.generation < *generation => {
                    let what = format!("{name} is in generation {}, {generation} was acknowledged", last.generation);
                    found.push(("lost", what, *event));
                }
                Some(last) if last.generation == *generation && last.replicas != *replicas => {
                    let what = format!("{name} wants {} pods, {replicas} were acknowledged", last.replicas);
                    found.push(("lost", what, *event));
                }
                None if !self.deleted.contains(uid) && !self.perhaps_deleted.contains(name) => {
                    found.push(("lost", format!("{name} is gone, and nobody deleted it"), *event));
                }
                _ => {}
            }
        }
        for (name, what, event) in found {
            self.found(name, what, vec![event]);
        }
        let count = self.writes.len();
        let report = Report::of("objects", self.anomalies).note(format!("{count} writes of controllers"));
        if count == 0 { Report { verdict: report.verdict.and(Verdict::Unknown), ..report } } else { report }
    }
}

/// Judges what watches told: in order, everything, the same to all, and never a pod on two nodes.
pub fn check_watches(watches: &[Watch]) -> Report {
    let mut anomalies = Vec::new();
    let mut all: BTreeMap<u64, &Change> = BTreeMap::new();
    for watch in watches {
        let mut last = watch.from;
        for change in &watch.changes {
            let Change { revision, kind, pod } = change;
            // A bookmark may say again how far the watch has come.
            if *revision < last || (*revision == last && pod.is_some()) {
                let what = format!("on {} {kind} at {revision} came after {last}", watch.node);
                anomalies.push(anomaly("unordered", what));
            }
            last = last.max(*revision);
            let Some(pod) = pod else { continue };
            match all.get(revision) {
                Some(other) if *other != change => {
                    let what = format!("{kind} of {} at {revision} is not the same to all who watch", pod.name);
                    anomalies.push(anomaly("torn", what));
                }
                _ => drop(all.insert(*revision, change)),
            }
        }
    }
    for watch in watches {
        let told: BTreeSet<u64> = watch.changes.iter().map(|change| change.revision).collect();
        let Some(last) = told.last().filter(|last| **last > watch.from) else { continue };
        for (revision, change) in all.range(watch.from + 1..=*last).filter(|(revision, _)| !told.contains(revision)) {
            let what =
                format!("a watch on {} from {} never told {} at {revision}", watch.node, watch.from, change.kind);
            anomalies.push(anomaly("missed", what));
        }
    }
    let mut nodes: BTreeMap<&String, &String> = BTreeMap::new();
    for pod in all.values().filter_map(|change| change.pod.as_ref()) {
        let bound = nodes.get(&pod.uid).copied();
        if bound.is_some_and(|bound| pod.node.as_ref() != Some(bound)) {
            let what = format!("{} was on {:?} and then on {:?}", pod.name, bound, pod.node);
            anomalies.push(anomaly("bound-twice", what));
        }
        if let Some(node) = &pod.node {
            nodes.insert(&pod.uid, node);
        }
    }
    let report = Report::of("watches", anomalies).note(format!(
        "{} watches told {} changes of {} pods that had a node",
        watches.len(),
        all.len(),
        nodes.len()
    ));
    if all.is_empty() { Report { verdict: report.verdict.and(Verdict::Unknown), ..report } } else { report }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::json;

    use super::*;
    use crate::history::Kind::{Invoke, Ok};
    use crate::history::tests::history;

    fn names(report: &Report) -> Vec<&str> {
        report.anomalies.iter().map(|anomaly| anomaly.name.as_str()).collect()
    }

    fn pod(name: &str, owner: &str) -> Pod {
        Pod {
            name: name.to_owned(),
            uid: name.to_owned(),
            owner: Some(owner.to_owned()),
            app: Some("rc".to_owned()),
            node: Some("n1".to_owned()),
            ready: true,
            ..Pod::default()
        }
    }

    fn state(replicas: u64, pods: Vec<Pod>) -> State {
        let told = pods.iter().map(|pod| pod.name.clone()).collect();
        let controller = Controller { name: "rc".to_owned(), uid: "u".to_owned(), generation: 2, replicas };
        State {
            controllers: vec![controller],
            pods,
            services: BTreeSet::from(["rc".to_owned()]),
            endpoints: BTreeMap::from([("rc".to_owned(), told)]),
            kept: BTreeSet::from(["kept-1".to_owned()]),
        }
    }

    #[test]
    fn exactly_what_was_asked_for_is_settled() {
        assert_eq!(check_state(&state(1, vec![pod("a", "u")])).verdict, Verdict::True);
        let ending = Pod { ending: true, ready: false, ..pod("b", "u") };
        let unready = Pod { ready: false, ..pod("a", "u") };
        for (wrong, expected) in [
            (state(2, vec![pod("a", "u")]), vec!["too-few"]),
            (state(0, vec![pod("a", "u")]), vec!["too-many"]),
            (state(0, vec![pod("a", "v")]), vec!["orphan"]),
            (state(1, vec![pod("a", "u"), ending]), vec!["not-gone", "endpoints"]),
            (state(1, vec![unready]), vec!["not-ready", "endpoints"]),
        ] {
            assert_eq!(names(&check_state(&wrong)), expected);
        }
        let without = State { endpoints: BTreeMap::new(), ..state(1, vec![pod("a", "u")]) };
        assert_eq!(names(&check_state(&without)), ["endpoints"], "a service without an endpoints object");
    }

    #[test]
    fn what_was_acknowledged_stays() {
        let write = |f: &'static str, value: Value| [(0, Invoke, f, json!(null)), (0, Ok, f, value)];
        let check = |rows: &[[(u64, Kind, &str, Value); 2]]| {
            let report = check_objects(&history(&rows.concat()), &state(3, Vec::new()));
            names(&report).join(" ")
        };
        let created = || write("create", json!(["rc", "u", 1, 1]));
        assert_eq!(check(&[created(), write("scale", json!(["rc", "u", 2, 3])), write("keep", json!("kept-1"))]), "");
        assert_eq!(check(&[created(), write("scale", json!(["rc", "u", 2, 4]))]), "lost");
        assert_eq!(check(&[created(), write("scale", json!(["rc", "u", 3, 3]))]), "lost");
        assert_eq!(check(&[created(), write("create", json!(["other", "v", 1, 1]))]), "lost");
        assert_eq!(check(&[created(), write("delete", json!(["rc", "u"]))]), "undead");
        assert_eq!(check(&[created(), write("keep", json!("kept-2"))]), "lost");
        assert_eq!(check(&[created(), created(), write("scale", json!(["rc", "u", 1, 2]))]), "lost-update");
        let scaled = write("scale", json!(["rc", "u", 2, 3]));
        assert_eq!(check(&[created(), scaled.clone(), write("read", json!(["rc", "u", 1, 1]))]), "stale");
        assert_eq!(check(&[created(), write("read", json!(["rc", "u", 1, 1])), scaled]), "");
    }

    #[test]
    fn watches_tell_everything_in_order() {
        let change = |revision, node: Option<&str>| Change {
            kind: "MODIFIED".to_owned(),
            revision,
            pod: Some(Pod { node: node.map(str::to_owned), ..pod("a", "u") }),
        };
        let watch = |from, changes: &[Change]| Watch { node: "n1".to_owned(), from, changes: changes.to_vec() };
        let (first, second, third) = (change(5, None), change(6, Some("n1")), change(8, Some("n1")));
        let check = |watches: &[Watch]| names(&check_watches(watches)).join(" ");
        let whole = watch(4, &[first.clone(), second.clone(), third.clone()]);
        assert_eq!(check(&[whole.clone(), watch(5, slice::from_ref(&second)), watch(9, &[])]), "");
        assert_eq!(check(&[whole.clone(), watch(5, slice::from_ref(&third))]), "missed");
        assert_eq!(check(&[watch(4, &[second.clone(), first])]), "unordered");
        assert_eq!(check(&[whole.clone(), watch(7, &[change(8, Some("n2"))])]), "torn");
        assert_eq!(check(&[watch(4, &[second, change(8, Some("n2"))])]), "bound-twice");
        let bookmark = |revision| Change { kind: "BOOKMARK".to_owned(), revision, pod: None };
        assert_eq!(check(&[whole.clone(), watch(4, &[bookmark(4)])]), "");
        assert_eq!(check(&[whole, watch(4, &[bookmark(7)])]), "missed missed");
    }
}
