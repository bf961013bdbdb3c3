//! Delete: at once, after a grace period, or once the last finalizer is removed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::apiserver::admission::{AdmissionAttributes, Operation, Turn};
use crate::apiserver::codec;
use crate::apiserver::selection::SelectionPredicate;
use crate::apiserver::storage::{Committed, Stored, Write};
use crate::kube::client::{DeleteOptions, List, ListOptions, Response, Target};
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::world::Revision;

use super::body::timestamp;
use super::create::{showing, shown};
use super::update::should_delete;
use super::{Api, Outcome, RequestInfo};

/// How often a deletion is tried again when the object has changed.
const ATTEMPTS: usize = 32;
/// Longer grace periods are cut to this, so that adding one to a time cannot overflow.
const GRACE_SECONDS_MAX: i64 = i32::MAX as i64;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What a deletion does to an object.
#[derive(Clone, Debug, PartialEq)]
enum Deletion {
    /// It is removed now.
    Immediate,
    /// It stays in this state until its grace period is over and it has no finalizers.
    Graceful(Value),
    /// It is being deleted already.
    Unchanged,
}

impl Api {
    pub async fn delete(&self, info: &RequestInfo<'_>, options: &DeleteOptions) -> Result<Outcome, Status> {
        let name = info.name()?;
        let resource = info.resource;
        for _ in 0..ATTEMPTS {
            let stored = self.storage.get(resource, info.namespace(), name).await?;
            check_preconditions(resource, name, &stored, options)?;
            let old = stored.object.value();
            let attributes = AdmissionAttributes {
                user: info.user,
                operation: Operation::Delete,
                resource,
                subresource: None,
                namespace: info.namespace(),
                name,
                old: Some(&old),
                after_conflict: false,
                deadline: info.deadline,
            };
            let also = self.admission.validate(&attributes, &old, &mut Turn::default()).await?;
            let deletion = deletion(resource, &old, options, self.world.clock.unix())?;
            if deletion == Deletion::Unchanged || info.write.dry_run {
                return Ok(showing(stored.object.clone(), Vec::new()));
            }
            let key = self.storage.key(resource, info.namespace(), name)?;
            let write = match &deletion {
                Deletion::Graceful(new) => Write::replace(&key, stored.revision, codec::encode(new), None),
                _ => self.removal(&key, stored.revision, resource, &old),
            };
            let Committed::At(revision) = self.storage.commit(write.and(also)).await? else { continue };
            return Ok(match deletion {
                Deletion::Graceful(new) => showing(shown(&new, revision), Vec::new()),
                _ => {
                    self.after_change(info, &old, &Value::Null);
                    let uid = &stored.object.meta.uid;
                    Outcome::done(Status::deleted(&resource.group, &resource.plural, name, uid))
                }
            });
        }
        Err(Status::modified(&resource.group, &resource.plural, name))
    }

    /// Deletes all selected objects; one that somebody else deleted first is no error.
    pub(super) async fn delete_collection(
        &self,
        info: &RequestInfo<'_>,
        selection: &SelectionPredicate,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Outcome, Status> {
        let shown: List = self.storage.list(info.resource, info.namespace(), selection, list, info.deadline).await?;
        for object in &shown.items {
            let target = Target {
                namespace: object.meta.namespace.clone(),
                name: Some(object.meta.name.clone()),
                ..info.target.clone()
            };
            match self.delete(&RequestInfo { target: &target, ..*info }, options).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(Outcome::of(Response::List(shown)))
    }

    /// Removes an object from the store, and releases its addresses.
    pub(super) fn removal(&self, key: &str, revision: Revision, resource: &Resource, object: &Value) -> Write {
        Write::remove(key, revision).and(self.addresses.release(resource, object))
    }
}

fn check_preconditions(
    resource: &Resource,
    name: &str,
    stored: &Stored,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let meta = &stored.object.meta;
    if let Some(wanted) = options.precondition_uid.as_deref().filter(|uid| *uid != meta.uid) {
        return Err(Status::uid_mismatch(&resource.group, &resource.plural, name, wanted, &meta.uid));
    }
    let version = options.precondition_resource_version.as_deref();
    if let Some(wanted) = version.filter(|version| *version != meta.resource_version) {
        let found = &meta.resource_version;
        return Err(Status::resource_version_mismatch(&resource.group, &resource.plural, name, wanted, found));
    }
    Ok(())
}

/// Decides what a deletion at `now` (since the Unix epoch) does to `object`.
fn deletion(resource: &Resource, object: &Value, options: &DeleteOptions, now: Duration) -> Result<Deletion, Status> {
    let mut new = object.clone();
    let grace = grace_seconds(resource, object, options);
    set_finalizers(&mut new, options)?;
    let deleting = !object["metadata"]["deletionTimestamp"].is_null();
    let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let shortens = !deleting || grace < before;
    if shortens {
        let at = now + Duration::from_secs(grace.unsigned_abs());
        let metadata = &mut new["metadata"];
        metadata["deletionTimestamp"] = json!(timestamp(at));
        metadata["deletionGracePeriodSeconds"] = json!(grace);
        if let Some(generation) = metadata["generation"].as_i64().filter(|_| !deleting) {
            metadata["generation"] = json!(generation + 1);
        }
    }
    if resource.group.is_empty() && resource.plural == "namespaces" && new["status"].is_object() {
        new["status"]["phase"] = json!("Terminating");
    }
    Ok(if should_delete(&new) {
        Deletion::Immediate
    } else if new == *object {
        Deletion::Unchanged
    } else {
        Deletion::Graceful(new)
    })
}

/// Only pods have a grace period, and only while an agent runs them.
fn grace_seconds(resource: &Resource, object: &Value, options: &DeleteOptions) -> i64 {
    let is_pod = resource.group.is_empty() && resource.plural == "pods";
    let unscheduled = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let over = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !is_pod || unscheduled || over {
        return 0;
    }
    let own = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let wanted = options.grace_period_seconds.or(own).or(object["spec"]["terminationGracePeriodSeconds"].as_i64());
    match wanted.unwrap_or(30) {
        ..=-1 => 1,
        seconds => seconds.min(GRACE_SECONDS_MAX),
    }
}

/// The propagation policy as finalizers, which the garbage collector acts on.
fn set_finalizers(object: &mut Value, options: &DeleteOptions) -> Result<(), Status> {
    let (add, remove): (&[&str], &[&str]) = match options.propagation_policy.as_deref() {
        None | Some("") => return Ok(()),
        Some("Background") => (&[], &[FOREGROUND, ORPHAN]),
        Some("Foreground") => (&[FOREGROUND], &[ORPHAN]),
        Some("Orphan") => (&[ORPHAN], &[FOREGROUND]),
        Some(other) => {
            return Err(Status::new(
                422,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
                ),
            ));
        }
    };
    let held = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let mut finalizers: Vec<Value> =
        held.into_iter().filter(|held| held.as_str().is_none_or(|held| !remove.contains(&held))).collect();
    for name in add {
        if !finalizers.iter().any(|held| held == name) {
            finalizers.push(json!(name));
        }
    }
    let Some(metadata) = object["metadata"].as_object_mut() else { return Ok(()) };
    if finalizers.is_empty() {
        metadata.shift_remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), Value::Array(finalizers));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::resources::Table;

    const NOW: Duration = Duration::from_secs(1_767_225_600);

    fn deletion_of(plural: &str, object: &Value, options: &DeleteOptions) -> Deletion {
        let table = Table::builtin();
        deletion(table.get("", "v1", plural).unwrap(), object, options, NOW).unwrap()
    }

    fn pod(node: &str) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "x"},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}})
    }

    #[test]
    fn a_running_pod_has_its_grace() {
        let Deletion::Graceful(ending) = deletion_of("pods", &pod("n1"), &DeleteOptions::default()) else {
            panic!("it stays")
        };
        assert_eq!(ending["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);

        assert_eq!(deletion_of("pods", &ending, &DeleteOptions::default()), Deletion::Unchanged);
        let sooner = DeleteOptions { grace_period_seconds: Some(1), ..DeleteOptions::default() };
        assert!(matches!(deletion_of("pods", &ending, &sooner), Deletion::Graceful(_)));
        let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        assert_eq!(deletion_of("pods", &ending, &now), Deletion::Immediate);
    }

    #[test]
    fn a_pod_that_nobody_runs_goes_at_once() {
        assert_eq!(deletion_of("pods", &pod(""), &DeleteOptions::default()), Deletion::Immediate);
        let mut over = pod("n1");
        over["status"]["phase"] = json!("Succeeded");
        assert_eq!(deletion_of("pods", &over, &DeleteOptions::default()), Deletion::Immediate);
    }

    #[test]
    fn finalizers_hold_an_object() {
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "x", "finalizers": ["a/b"]}});
        let Deletion::Graceful(ending) = deletion_of("configmaps", &object, &DeleteOptions::default()) else {
            panic!("it stays")
        };
        assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(deletion_of("configmaps", &ending, &DeleteOptions::default()), Deletion::Unchanged);
    }

    #[test]
    fn the_policy_becomes_a_finalizer() {
        let object = json!({"kind": "ReplicationController", "metadata": {"name": "x", "generation": 1}});
        let policy =
            |name: &str| DeleteOptions { propagation_policy: Some(name.to_owned()), ..DeleteOptions::default() };
        for (name, finalizer) in [("Foreground", FOREGROUND), ("Orphan", ORPHAN)] {
            let Deletion::Graceful(ending) = deletion_of("replicationcontrollers", &object, &policy(name)) else {
                panic!("it stays")
            };
            assert_eq!(ending["metadata"]["finalizers"], json!([finalizer]));
            assert_eq!(ending["metadata"]["generation"], 2);
        }
        assert_eq!(deletion_of("replicationcontrollers", &object, &policy("Background")), Deletion::Immediate);
    }

    #[test]
    fn a_namespace_stays_until_it_is_finalized() {
        let object = json!({"kind": "Namespace", "metadata": {"name": "x"}, "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"}});
        let Deletion::Graceful(ending) = deletion_of("namespaces", &object, &DeleteOptions::default()) else {
            panic!("it stays")
        };
        assert_eq!(ending["status"]["phase"], "Terminating");
    }
}
