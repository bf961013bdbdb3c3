//! Who owns whom: every object by its uid, with its owners and its dependents. Pure.
//!
//! An owner that is named but was not seen is a virtual node: it stands where its dependents say that it is, until it
//! is seen there or the API says that it is not there. A deleted object that still has dependents becomes one, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::kube::object::{Meta, OwnerReference};
use crate::kube::resources::Table;

pub type Uid = String;

/// Holds an object in a foreground deletion until no dependent blocks it.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Holds an object until its dependents no longer name it.
pub const ORPHAN: &str = "orphan";

/// An object, and where it is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub api_version: String,
    pub kind: String,
    /// Empty for objects of the cluster.
    pub namespace: String,
    pub name: String,
    pub uid: Uid,
}

impl Identity {
    pub fn of(meta: &Meta) -> Identity {
        Identity {
            api_version: meta.api_version.clone(),
            kind: meta.kind.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
        }
    }

    /// The identity that `reference` names in `namespace`.
    pub fn named(reference: &OwnerReference, namespace: &str) -> Identity {
        Identity {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        }
    }

    /// Whether both are one object, even if named by different versions of its group.
    fn is(&self, other: &Identity) -> bool {
        let group = |identity: &Identity| identity.api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
        let place = |identity: &Identity| (identity.kind.clone(), identity.namespace.clone(), identity.name.clone());
        self.uid == other.uid && place(self) == place(other) && group(self) == group(other)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { api_version, kind, namespace, name, uid } = self;
        write!(f, "[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]")
    }
}

/// The state of an object in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Named by dependents, and not seen.
    Virtual,
    Lives,
    /// Being deleted, without a finalizer of the garbage collector.
    BeingDeleted,
    /// In a foreground deletion, which waits for its dependents.
    DeletingDependents,
    /// Deleted after the references of its dependents are removed.
    OrphaningDependents,
}

impl NodeState {
    pub fn of(meta: &Meta) -> NodeState {
        let held_by = |finalizer: &str| meta.finalizers.iter().any(|held| held == finalizer);
        match meta.deletion_timestamp {
            None => NodeState::Lives,
            Some(_) if held_by(ORPHAN) => NodeState::OrphaningDependents,
            Some(_) if held_by(FOREGROUND) => NodeState::DeletingDependents,
            Some(_) => NodeState::BeingDeleted,
        }
    }
}

/// What the graph knows of an owner that an object names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Lives,
    /// The API has answered that it does not exist.
    Absent,
    /// Only the API knows: the owner was not seen there, or its deletion waits for its dependents.
    Ask(Identity),
    Unresolvable(Unresolvable),
}

/// Why a reference can't be resolved. The owner may exist, so this is no reason to delete anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolvable {
    /// This server has no such kind; another may.
    UnknownKind,
    /// A cluster-scoped object names an owner of a namespaced kind.
    NamespacedOwner,
    /// The owner is in a namespace other than the object's.
    OtherNamespace,
}

/// What the collector has to do about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    Nothing,
    /// Ask the API whether the object is at one of these places.
    Find(Vec<Identity>),
    /// Delete it, unless an owner keeps it.
    AttemptToDelete(Identity),
    /// Remove the finalizer of its foreground deletion, which nothing blocks any more.
    Release(Identity),
    /// Remove the references of its dependents to it.
    Orphan(Identity),
}

struct Node {
    identity: Identity,
    state: NodeState,
    owners: Vec<OwnerReference>,
    dependents: BTreeSet<Uid>,
    /// Identities that the API has answered do not exist.
    absent_at: BTreeSet<Identity>,
}

/// The graph, and the uids of objects to work on. It has a node for each object that was seen, and for each owner that
/// one of them names.
pub struct Graph {
    table: Arc<Table>,
    nodes: BTreeMap<Uid, Node>,
    agenda: BTreeSet<Uid>,
}

impl Graph {
    pub fn new(table: Arc<Table>) -> Graph {
        Graph { table, nodes: BTreeMap::new(), agenda: BTreeSet::new() }
    }

    /// Adds an object, or updates it.
    pub fn observe(&mut self, meta: &Meta) {
        let (identity, state) = (Identity::of(meta), NodeState::of(meta));
        let uid = identity.uid.clone();
        let node = self.nodes.entry(uid.clone()).or_insert_with(|| Node::named(identity.clone()));
        let before = std::mem::replace(&mut node.state, state);
        let owners = std::mem::replace(&mut node.owners, meta.owner_references.clone());
        node.identity = identity;
        if before == NodeState::Virtual {
            self.enqueue_misnaming_dependents(&uid);
        }
        self.unlink_former(&uid, &owners);
        self.link_new(&uid, &owners);
        if state != before && state == NodeState::OrphaningDependents {
            self.agenda.insert(uid);
        } else if state != before && state == NodeState::DeletingDependents {
            self.agenda.extend(self.nodes[&uid].dependents.iter().cloned());
            self.agenda.insert(uid);
        }
    }

    /// Removes an object that is gone by a watch.
    pub fn forget(&mut self, uid: &str) {
        let Some(node) = self.nodes.get_mut(uid) else { return };
        node.state = NodeState::Virtual;
        let owners = std::mem::take(&mut node.owners);
        self.unlink_former(uid, &owners);
        if self.nodes.get(uid).is_some_and(|node| node.dependents.is_empty()) {
            self.nodes.remove(uid);
        } else {
            self.agenda.insert(uid.to_owned());
        }
    }

    /// Records that the API has no such object. A uid never comes back, so this holds for good.
    pub fn absent(&mut self, identity: &Identity) {
        let Some(node) = self.nodes.get_mut(&identity.uid) else { return };
        node.absent_at.insert(identity.clone());
        let names_it = |uid: &&Uid| self.places_named_by(uid, &identity.uid).any(|place| place == *identity);
        let dependents: Vec<Uid> = self.nodes[&identity.uid].dependents.iter().filter(names_it).cloned().collect();
        self.agenda.extend(dependents);
    }

    /// The uids on the agenda, which is empty then.
    pub fn take_agenda(&mut self) -> BTreeSet<Uid> {
        std::mem::take(&mut self.agenda)
    }

    /// All objects that the collector may have to work on.
    pub fn pending(&self) -> Vec<Uid> {
        let doubtful = |node: &Node| node.owners.iter().any(|owner| self.owner(&node.identity, owner) != Owner::Lives);
        let busy = |node: &Node| !matches!(node.state, NodeState::Lives | NodeState::BeingDeleted);
        let pending = self.nodes.iter().filter(|(_, node)| busy(node) || doubtful(node));
        pending.map(|(uid, _)| uid.clone()).collect()
    }

    pub fn task(&self, uid: &str) -> Task {
        let Some(node) = self.nodes.get(uid) else { return Task::Nothing };
        let identity = node.identity.clone();
        match node.state {
            NodeState::Virtual => {
                let named = node.dependents.iter().flat_map(|dependent| self.places_named_by(dependent, uid));
                let places: BTreeSet<Identity> = named.filter(|place| !node.absent_at.contains(place)).collect();
                if places.is_empty() { Task::Nothing } else { Task::Find(places.into_iter().collect()) }
            }
            NodeState::OrphaningDependents => Task::Orphan(identity),
            NodeState::DeletingDependents if !self.is_blocked(uid) => Task::Release(identity),
            NodeState::Lives if !node.owners.is_empty() => Task::AttemptToDelete(identity),
            NodeState::DeletingDependents | NodeState::Lives | NodeState::BeingDeleted => Task::Nothing,
        }
    }

    /// What the graph knows of the owner that `reference` of `dependent` names.
    pub fn owner(&self, dependent: &Identity, reference: &OwnerReference) -> Owner {
        let place = match self.resolve(&dependent.namespace, reference) {
            Ok(place) => place,
            Err(why) => return Owner::Unresolvable(why),
        };
        let Some(node) = self.nodes.get(&reference.uid) else { return Owner::Ask(place) };
        match node.state {
            NodeState::Virtual => {}
            NodeState::DeletingDependents if node.identity.is(&place) => return Owner::Ask(place),
            NodeState::Lives | NodeState::BeingDeleted | NodeState::OrphaningDependents if node.identity.is(&place) => {
                return Owner::Lives;
            }
            _ if node.identity.namespace == place.namespace => {}
            _ => return Owner::Unresolvable(Unresolvable::OtherNamespace),
        }
        if node.absent_at.contains(&place) { Owner::Absent } else { Owner::Ask(place) }
    }

    pub fn has_dependents(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| !node.dependents.is_empty())
    }

    /// The identity of the owner that `reference` of an object in `namespace` names.
    fn resolve(&self, namespace: &str, reference: &OwnerReference) -> Result<Identity, Unresolvable> {
        let resource = self.table.by_kind(&reference.api_version, &reference.kind);
        match resource.filter(|resource| resource.allows("get")).map(|resource| resource.is_namespaced()) {
            None => Err(Unresolvable::UnknownKind),
            Some(true) if namespace.is_empty() => Err(Unresolvable::NamespacedOwner),
            Some(true) => Ok(Identity::named(reference, namespace)),
            Some(false) => Ok(Identity::named(reference, "")),
        }
    }

    /// The identities by which `dependent` names its owner `owner`.
    fn places_named_by(&self, dependent: &str, owner: &str) -> impl Iterator<Item = Identity> {
        let node = self.nodes.get(dependent);
        node.into_iter().flat_map(move |node| {
            let named = node.owners.iter().filter(move |reference| reference.uid == owner);
            named.filter_map(move |reference| self.resolve(&node.identity.namespace, reference).ok())
        })
    }

    /// An object was seen: dependents that name it by another identity go on the agenda.
    fn enqueue_misnaming_dependents(&mut self, uid: &str) {
        let node = &self.nodes[uid];
        let found = |dependent: &&Uid| self.places_named_by(dependent, uid).all(|place| node.identity.is(&place));
        let misnaming: Vec<Uid> = node.dependents.iter().filter(|dependent| !found(dependent)).cloned().collect();
        self.agenda.extend(misnaming);
    }

    /// Updates owners that `uid` named before: it is no longer their dependent, or no longer blocks them.
    fn unlink_former(&mut self, uid: &str, former: &[OwnerReference]) {
        for reference in former {
            let now = self.nodes.get(uid).map(|node| node.owners.as_slice()).unwrap_or_default();
            let named = now.iter().any(|owner| owner.uid == reference.uid);
            let blocks = now.iter().any(|owner| owner.uid == reference.uid && owner.block_owner_deletion);
            let Some(owner) = self.nodes.get_mut(&reference.uid) else { continue };
            if !named {
                owner.dependents.remove(uid);
            }
            if owner.state == NodeState::DeletingDependents && !blocks {
                self.agenda.insert(reference.uid.clone());
            }
            if owner.state == NodeState::Virtual && owner.dependents.is_empty() && reference.uid != uid {
                self.nodes.remove(&reference.uid);
            }
        }
    }

    /// Adds `uid` to owners that it did not name before. A virtual owner has to be found; any other may be a reason to
    /// delete `uid`.
    fn link_new(&mut self, uid: &str, former: &[OwnerReference]) {
        let node = &self.nodes[uid];
        let (identity, owners) = (node.identity.clone(), node.owners.clone());
        for reference in owners.iter().filter(|reference| !former.contains(reference)) {
            let place = Identity::named(reference, &identity.namespace);
            let owner = self.nodes.entry(reference.uid.clone()).or_insert_with(|| Node::named(place));
            owner.dependents.insert(uid.to_owned());
            let is_virtual = owner.state == NodeState::Virtual;
            match self.owner(&identity, reference) {
                Owner::Lives => {}
                Owner::Ask(_) if is_virtual => drop(self.agenda.insert(reference.uid.clone())),
                _ => drop(self.agenda.insert(uid.to_owned())),
            }
        }
    }

    /// The dependents that block the foreground deletion of `uid`.
    fn blockers<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = (&'a Uid, &'a Node)> {
        let node = self.nodes.get(uid);
        let dependents = node.into_iter().flat_map(|node| &node.dependents);
        let nodes = dependents.filter_map(move |dependent| self.nodes.get_key_value(dependent));
        nodes.filter(move |(_, dependent)| node.is_some_and(|owner| self.blocks(dependent, owner)))
    }

    fn blocks(&self, dependent: &Node, owner: &Node) -> bool {
        dependent.owners.iter().filter(|reference| reference.block_owner_deletion).any(|reference| {
            let place = self.resolve(&dependent.identity.namespace, reference);
            place.is_ok_and(|place| place.is(&owner.identity))
        })
    }

    /// Whether the foreground deletion of `uid` has to wait. Objects that wait for each other in a circle, and for
    /// nobody else, go together.
    fn is_blocked(&self, uid: &str) -> bool {
        let (mut awaited, mut open) = (BTreeSet::new(), vec![uid]);
        while let Some(next) = open.pop() {
            for (blocker, node) in self.blockers(next) {
                if node.state != NodeState::DeletingDependents {
                    return true;
                }
                if blocker != uid && awaited.insert(blocker.as_str()) {
                    open.push(blocker);
                }
            }
        }
        let (mut awaiting, mut open) = (BTreeSet::new(), vec![uid]);
        while let Some(node) = open.pop().and_then(|next| self.nodes.get(next)) {
            for owner in node.owners.iter().filter_map(|reference| self.nodes.get(&reference.uid)) {
                let owner_uid = owner.identity.uid.as_str();
                if awaited.contains(owner_uid) && self.blocks(node, owner) && awaiting.insert(owner_uid) {
                    open.push(owner_uid);
                }
            }
        }
        awaited != awaiting
    }
}

impl Node {
    fn named(identity: Identity) -> Node {
        Node {
            identity,
            state: NodeState::Virtual,
            owners: Vec::new(),
            dependents: BTreeSet::new(),
            absent_at: BTreeSet::new(),
        }
    }
}
