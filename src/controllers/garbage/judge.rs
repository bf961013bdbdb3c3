//! Whether an object is deleted, by the state of its owners. Pure.

use super::graph::{FOREGROUND, ORPHAN, Uid};
use crate::world::planted::planted;

/// The class of an owner reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceClass {
    /// The owner exists, or may.
    Solid,
    /// The owner is in a foreground deletion, and waits for this object.
    WaitingForDependentsDeletion,
    /// The owner does not exist.
    Dangling,
}

/// The `propagationPolicy` of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Keep,
    /// An owner keeps the object; references to these are removed.
    DropReferences(Vec<Uid>),
    Delete(Propagation),
}

/// What to do with an object that is not being deleted and has `owners` and `finalizers`.
pub fn judge(owners: &[(Uid, ReferenceClass)], has_dependents: bool, finalizers: &[String]) -> Action {
    let is_solid = |class: &ReferenceClass| *class == ReferenceClass::Solid;
    if owners.is_empty() || owners.iter().all(|(_, class)| is_solid(class)) || planted!("orphan-pod") {
        return Action::Keep;
    }
    if owners.iter().any(|(_, class)| is_solid(class)) {
        // Otherwise an owner in a foreground deletion would wait for ever, since the object stays.
        let others = owners.iter().filter(|(_, class)| !is_solid(class));
        return Action::DropReferences(others.map(|(uid, _)| uid.clone()).collect());
    }
    let holds = |finalizer: &str| finalizers.iter().any(|held| held == finalizer);
    let awaited = owners.iter().any(|(_, class)| *class == ReferenceClass::WaitingForDependentsDeletion);
    Action::Delete(if awaited && has_dependents {
        Propagation::Foreground
    } else if holds(ORPHAN) {
        Propagation::Orphan
    } else if holds(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

impl Propagation {
    pub fn policy(self) -> String {
        format!("{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_goes_only_when_no_owner_keeps_it() {
        use ReferenceClass::{Dangling, Solid, WaitingForDependentsDeletion as Waiting};
        let drop = |uids: &[&str]| Action::DropReferences(uids.iter().map(|uid| (*uid).to_owned()).collect());
        for (owners, has_dependents, finalizers, expected) in [
            (vec![], false, vec![], Action::Keep),
            (vec![Solid], true, vec![], Action::Keep),
            (vec![Solid, Dangling], false, vec![], drop(&["1"])),
            (vec![Waiting, Solid], true, vec![], drop(&["0"])),
            (vec![Waiting, Dangling, Solid], true, vec![], drop(&["0", "1"])),
            (vec![Dangling], true, vec![], Action::Delete(Propagation::Background)),
            (vec![Dangling, Waiting], false, vec![], Action::Delete(Propagation::Background)),
            (vec![Dangling, Waiting], true, vec![], Action::Delete(Propagation::Foreground)),
            (vec![Dangling], true, vec![FOREGROUND], Action::Delete(Propagation::Foreground)),
            (vec![Dangling], true, vec!["x/y", ORPHAN], Action::Delete(Propagation::Orphan)),
        ] {
            let owners: Vec<(Uid, ReferenceClass)> =
                owners.iter().enumerate().map(|(uid, class)| (uid.to_string(), *class)).collect();
            let finalizers: Vec<String> = finalizers.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(judge(&owners, has_dependents, &finalizers), expected, "{owners:?} {finalizers:?}");
        }
    }
}
