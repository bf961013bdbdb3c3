//! What the store's log says of Kubernetes objects: what was said to be written is there, a pod that is bound stays
//! where it is, and who leads among the control plane's components leads alone.

use std::collections::BTreeMap;
use std::time::Duration;

use chorus_proto::mvccpb::event::EventType;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;

use crate::history::Records;

const PODS: &[u8] = b"/registry/pods/";
/// Leases of components; those of nodes are their own affair.
const LEADERS: &[u8] = b"/registry/leases/kube-system/";

/// Checks the whole log. Panics where something is wrong.
pub fn check(records: &Records) {
    no_write_is_lost(records);
    no_pod_moves(records);
    leaders_lead_alone(records);
}

/// Every object of type `T` that was ever written under `prefix`, and when.
fn written<'a, T: DeserializeOwned>(
    records: &'a Records,
    prefix: &'static [u8],
) -> impl Iterator<Item = (&'a [u8], Duration, T)> {
    let events = records.log.values().flat_map(|applied| applied.events.iter().map(move |event| (applied, event)));
    events.filter(|(_, event)| event.r#type() == EventType::Put).filter_map(move |(applied, event)| {
        let kv = event.kv.as_ref()?;
        let object = kv.key.starts_with(prefix).then(|| serde_json::from_slice(&kv.value))?;
        Some((&kv.key[..], applied.first_seen, object.expect("objects are stored as JSON")))
    })
}

fn no_write_is_lost(records: &Records) {
    for (name, revision) in &records.written {
        let of_it = format!("/default/{name}");
        let mut events = records.log.get(revision).into_iter().flat_map(|applied| &applied.events);
        let there = events.any(|event| event.kv.as_ref().is_some_and(|kv| kv.key.ends_with(of_it.as_bytes())));
        assert!(there, "{name} was said to be written at {revision}, where it is not");
    }
}

fn no_pod_moves(records: &Records) {
    let mut bound: BTreeMap<String, String> = BTreeMap::new();
    for (key, _, pod) in written::<Pod>(records, PODS) {
        let (uid, node) = (pod.metadata.uid.unwrap_or_default(), pod.spec.and_then(|spec| spec.node_name));
        let before = bound.get(&uid);
        let key = String::from_utf8_lossy(key);
        assert!(before.is_none() || before == node.as_ref(), "{key} {uid} was on {before:?}, then on {node:?}");
        bound.extend(node.map(|node| (uid, node)));
    }
}

fn leaders_lead_alone(records: &Records) {
    let mut held: BTreeMap<Vec<u8>, (String, Duration)> = BTreeMap::new();
    for (key, now, lease) in written::<Lease>(records, LEADERS) {
        let spec = lease.spec.unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let lasting = Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default().max(0) as u64);
        if let Some((before, until)) = held.get(key) {
            let free = before.is_empty() || *before == holder || holder.is_empty() || now >= *until;
            let key = String::from_utf8_lossy(key);
            assert!(free, "{holder} took {key} at {now:?}, {before} had it until {until:?}");
        }
        held.insert(key.to_vec(), (holder, now + lasting));
    }
}
