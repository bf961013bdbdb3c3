//! Pods: one word for what a pod is doing, taken from its containers.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use super::table::Printer;
use crate::kube::tree::{has, items, text};

pub fn printer() -> Printer {
    let columns = [
        ("Name", "string", 0),
        ("Ready", "string", 0),
        ("Status", "string", 0),
        ("Restarts", "string", 0),
        ("Age", "string", 0),
        ("IP", "string", 1),
        ("Node", "string", 1),
        ("Nominated Node", "string", 1),
        ("Readiness Gates", "string", 1),
    ];
    Printer::new(&columns, row)
}

fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let or_none = |text: &str| json!(if text.is_empty() { "<none>" } else { text });
    let (spec, status) = (&pod["spec"], &pod["status"]);
    vec![
        pod["metadata"]["name"].clone(),
        json!(format!("{}/{}", summary.ready, summary.containers)),
        json!(summary.reason),
        json!(summary.restarts_text(now)),
        age::of(pod, now),
        or_none(match items(status, "podIPs").first() {
            Some(first) => text(first, "ip"),
            None => text(status, "podIP"),
        }),
        or_none(text(spec, "nodeName")),
        or_none(text(status, "nominatedNodeName")),
        json!(readiness_gates(pod)),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let is_true = |gate: &&Value| condition_is_true(pod, text(gate, "conditionType"));
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

fn condition_is_true(pod: &Value, type_: &str) -> bool {
    items(&pod["status"], "conditions").iter().any(|one| one["type"] == type_ && one["status"] == "True")
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    reason: String,
    ready: usize,
    containers: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let status = &pod["status"];
        let mut summary = Summary { reason: text(status, "phase").to_owned(), ..Summary::default() };
        if !text(status, "reason").is_empty() {
            summary.reason = text(status, "reason").to_owned();
        }
        let gated = |one: &Value| one["type"] == "PodScheduled" && one["reason"] == "SchedulingGated";
        if items(status, "conditions").iter().any(gated) {
            summary.reason = "SchedulingGated".into();
        }
        let sidecars = items(&pod["spec"], "initContainers").iter().filter(|one| is_sidecar(one)).count();
        summary.containers = items(&pod["spec"], "containers").len() + sidecars;
        let initializing = summary.add_init_containers(pod);
        if !initializing || condition_is_true(pod, "Initialized") {
            summary.add_containers(pod);
        }
        if has(&pod["metadata"], "deletionTimestamp") {
            if status["reason"] == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(text(status, "phase"), "Failed" | "Succeeded") {
                summary.reason = "Terminating".into();
            }
        }
        summary
    }

    /// Is an init container still at work, or has one failed? Then it decides the reason.
    fn add_init_containers(&mut self, pod: &Value) -> bool {
        let specs = items(&pod["spec"], "initContainers");
        for (index, status) in items(&pod["status"], "initContainerStatuses").iter().enumerate() {
            self.count_restarts(status);
            let state = &status["state"];
            let terminated = &state["terminated"];
            let waiting = text(&state["waiting"], "reason");
            let is_sidecar = specs.iter().any(|spec| spec["name"] == status["name"] && is_sidecar(spec));
            if terminated.is_object() && terminated["exitCode"] == 0 {
                continue;
            }
            if is_sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            self.reason = if terminated.is_object() {
                format!("Init:{}", termination(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
            return true;
        }
        false
    }

    fn add_containers(&mut self, pod: &Value) {
        // Restarts of init containers that are done no longer count; those of sidecars do.
        self.restarts = 0;
        self.last_restart = None;
        let specs = items(&pod["spec"], "initContainers");
        for status in items(&pod["status"], "initContainerStatuses") {
            if specs.iter().any(|spec| spec["name"] == status["name"] && is_sidecar(spec)) {
                self.count_restarts(status);
            }
        }
        let mut has_running = false;
        for status in items(&pod["status"], "containerStatuses").iter().rev() {
            self.count_restarts(status);
            let state = &status["state"];
            let waiting = text(&state["waiting"], "reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if state["terminated"].is_object() {
                self.reason = termination(&state["terminated"]);
            } else if status["ready"] == true && state["running"].is_object() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            self.reason = if condition_is_true(pod, "Ready") { "Running".into() } else { "NotReady".into() };
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += status["restartCount"].as_i64().unwrap_or(0);
        let finished = status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str);
        let finished = finished.and_then(|text| text.parse::<Timestamp>().ok());
        self.last_restart = self.last_restart.max(finished);
    }

    fn restarts_text(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(last) if self.restarts > 0 => {
                format!("{} ({} ago)", self.restarts, age::human_duration(now.duration_since(last).as_secs()))
            }
            _ => self.restarts.to_string(),
        }
    }
}

/// An init container that keeps running beside the others.
fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn termination(terminated: &Value) -> String {
    let number = |field: &str| terminated[field].as_i64().unwrap_or(0);
    match (text(terminated, "reason"), number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(pod: Value) -> [String; 3] {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let cells = row(&pod, now);
        [1, 2, 3].map(|place| cells[place].as_str().unwrap().to_owned())
    }

    fn pod(phase: &str, statuses: Value) -> Value {
        json!({
            "metadata": {"name": "www"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
            "status": {"phase": phase, "containerStatuses": statuses},
        })
    }

    #[test]
    fn one_word_for_each_state() {
        let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let crashing = json!({
            "name": "b", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}},
        });
        let killed = json!({"name": "b", "restartCount": 0, "state": {"terminated": {"exitCode": 137, "signal": 9}}});
        let done =
            json!({"name": "b", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let table = [
            (pod("Pending", json!([])), ["0/2", "Pending", "0"]),
            (pod("Running", json!([running, running])), ["2/2", "Running", "0"]),
            (pod("Running", json!([running, crashing])), ["1/2", "CrashLoopBackOff", "3 (5m ago)"]),
            (pod("Running", json!([killed])), ["0/2", "Signal:9", "0"]),
            (pod("Running", json!([running, done])), ["1/2", "NotReady", "0"]),
            (pod("Succeeded", json!([done, done])), ["0/2", "Completed", "0"]),
        ];
        for (pod, wanted) in table {
            assert_eq!(cells(pod.clone()), wanted, "{pod}");
        }
    }

    #[test]
    fn init_containers_and_deletion_have_the_last_word() {
        let mut initializing = pod("Pending", json!([]));
        initializing["status"]["initContainerStatuses"] =
            json!([{"name": "i", "restartCount": 0, "state": {"running": {}}}]);
        assert_eq!(cells(initializing.clone())[1], "Init:0/1");
        initializing["status"]["initContainerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 1}});
        assert_eq!(cells(initializing)[1], "Init:ExitCode:1");
        let mut going = pod("Running", json!([]));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(cells(going)[1], "Terminating");
    }
}
