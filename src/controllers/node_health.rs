//! What follows from a node's heartbeats for its conditions, its taints and its pods. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `NoExecute` and `NoSchedule` on a node that reports itself as not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The same on a node that is silent.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// `NoSchedule` on a node that is cordoned.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The conditions that become `Unknown` when a node is silent.
const HEARTBEAT_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The last heartbeat of a node, and when it changed by the controller's own clock: clocks of nodes may differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The times in the node's lease and in its Ready condition, as text.
    pub heartbeat: String,
    /// When this heartbeat was first seen here.
    pub seen: Timestamp,
}

impl Observation {
    /// Observes a heartbeat.
    pub fn note(previous: Option<&Observation>, heartbeat: String, now: Timestamp) -> Observation {
        match previous {
            Some(previous) if previous.heartbeat == heartbeat => previous.clone(),
            _ => Observation { heartbeat, seen: now },
        }
    }

    /// Whether the node was silent for longer than `grace`.
    pub fn is_silent(&self, grace: Duration, now: Timestamp) -> bool {
        now.duration_since(self.seen).try_into().is_ok_and(|silence: Duration| silence > grace)
    }
}

/// The status of the node's Ready condition: `True`, `False` or `Unknown`.
pub fn readiness(node: &Node) -> &str {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().find(|condition| condition.type_ == "Ready").map_or("Unknown", |ready| &ready.status)
}

/// The conditions of a node that change when it falls silent; `None` if they say so already.
pub fn unknown_conditions(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let held = |kind: &str| node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind);
    let changed = HEARTBEAT_CONDITIONS.iter().filter(|kind| held(kind).is_none_or(|held| held.status != "Unknown"));
    let unknown = changed.map(|kind| NodeCondition {
        type_: (*kind).to_owned(),
        status: "Unknown".to_owned(),
        reason: Some("NodeStatusUnknown".to_owned()),
        message: Some("Kubelet stopped posting node status.".to_owned()),
        last_heartbeat_time: held(kind).and_then(|held| held.last_heartbeat_time.clone()),
        last_transition_time: Some(Time(now)),
    });
    Some(unknown.collect()).filter(|changed: &Vec<_>| !changed.is_empty())
}

/// The taints that a node should have: this controller's, by the node's conditions, and all others as they are. `None`
/// if nothing changes.
pub fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let key = match readiness(node) {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    if let Some(key) = key {
        wanted.extend([(key, "NoSchedule"), (key, "NoExecute")]);
    }
    if cordoned {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |taint: &Taint| [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str());
    let is = |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !ours(taint) || wanted.iter().any(|wanted| is(taint, *wanted)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| is(taint, (key, effect))) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: (effect == "NoExecute").then_some(Time(now)),
                value: None,
            });
        }
    }
    (taints != current).then_some(taints)
}

/// How long from `now` a pod tolerates these taints: `None` for ever, zero not at all.
pub fn time_until_eviction(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut shortest: Option<Duration> = None;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Some(Duration::ZERO);
        }
        let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min();
        if let Some(seconds) = seconds {
            let added = taint.time_added.as_ref().map_or(now, |time| time.0);
            let gone: Duration = now.duration_since(added).try_into().unwrap_or_default();
            let left = Duration::from_secs(seconds.max(0).unsigned_abs()).saturating_sub(gone);
            shortest = Some(shortest.map_or(left, |shortest| shortest.min(left)));
        }
    }
    shortest
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect);
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = exists || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && value && (key == taint.key || (key.is_empty() && exists))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn node(ready: &str) -> Node {
        let value = json!({"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_silence_seen_here_counts() {
        let first = Observation::note(None, "mark".into(), at(0));
        let same = Observation::note(Some(&first), "mark".into(), at(30));
        assert!(!same.is_silent(Duration::from_secs(40), at(40)));
        assert!(same.is_silent(Duration::from_secs(40), at(41)));
        assert!(!Observation::note(Some(&same), "next".into(), at(41)).is_silent(Duration::from_secs(40), at(42)));
    }

    #[test]
    fn taints_follow_the_condition_and_leave_those_of_others() {
        let mut node = node("Unknown");
        node.spec.get_or_insert_default().taints =
            Some(vec![Taint { key: "mine".into(), effect: "NoSchedule".into(), ..Default::default() }]);
        let tainted = taints(&node, at(0)).unwrap();
        let keys: Vec<_> = tainted.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!(keys, ["mine", UNREACHABLE, UNREACHABLE]);
        node.spec.get_or_insert_default().taints = Some(tainted);
        assert_eq!(taints(&node, at(9)), None);
        node.status.get_or_insert_default().conditions.get_or_insert_default()[0].status = "True".into();
        assert_eq!(taints(&node, at(9)).unwrap().len(), 1);
    }

    #[test]
    fn a_silent_node_vouches_for_nothing() {
        let conditions = unknown_conditions(&node("True"), at(0)).unwrap();
        assert!(conditions.len() == 4 && conditions.iter().all(|condition| condition.status == "Unknown"));
        let mut silent = node("True");
        silent.status.get_or_insert_default().conditions = Some(conditions);
        assert_eq!(unknown_conditions(&silent, at(1)), None);
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let taint = |time| Taint {
            key: UNREACHABLE.into(),
            effect: "NoExecute".into(),
            time_added: Some(Time(at(time))),
            value: None,
        };
        let pod = |tolerations| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
        };
        assert_eq!(time_until_eviction(&pod(json!([])), &[taint(0)], at(5)), Some(Duration::ZERO));
        let ten = json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10}]);
        assert_eq!(time_until_eviction(&pod(ten.clone()), &[taint(0)], at(5)), Some(Duration::from_secs(5)));
        assert_eq!(time_until_eviction(&pod(ten), &[taint(0)], at(15)), Some(Duration::ZERO));
        assert_eq!(time_until_eviction(&pod(json!([{"operator": "Exists"}])), &[taint(0)], at(5)), None);
    }
}
