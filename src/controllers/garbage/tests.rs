//! The graph and the decisions by it, while events reach it late and in any order.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::kube::object::Meta;

/// `a/x` is a ConfigMap in the namespace `a`, `x` a ClusterRole.
fn meta(path: &str) -> Meta {
    let (kind, api_version, namespace, name) = match path.split_once('/') {
        Some((namespace, name)) => ("ConfigMap", "v1", Some(namespace.to_owned()), name),
        None => ("ClusterRole", "rbac.authorization.k8s.io/v1", None, path),
    };
    Meta {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace,
        uid: path.to_owned(),
        ..Meta::default()
    }
}

/// A reference to `path` as it should be: `!` behind it blocks the owner's deletion.
fn reference(path: &str) -> OwnerReference {
    let owner = meta(path.trim_end_matches('!'));
    OwnerReference {
        api_version: owner.api_version,
        kind: owner.kind,
        name: owner.name,
        uid: owner.uid,
        controller: false,
        block_owner_deletion: path.ends_with('!'),
    }
}

#[derive(Clone, Debug)]
enum Event {
    Seen(Meta),
    Gone(String),
}

/// Objects, and a collector that gets events of namespaced and of cluster-scoped ones independently.
struct Model {
    objects: BTreeMap<String, Meta>,
    undelivered: [VecDeque<Event>; 2],
    graph: Graph,
    todo: Vec<String>,
    /// What the collector deleted, in order.
    deleted: Vec<String>,
}

impl Model {
    fn new() -> Model {
        let graph = Graph::new(Table::builtin());
        Model {
            objects: BTreeMap::new(),
            undelivered: Default::default(),
            graph,
            todo: Vec::new(),
            deleted: Vec::new(),
        }
    }

    /// Objects as `path: owner owner`, with all events delivered.
    fn of(objects: &[&str]) -> Model {
        let mut model = Model::new();
        for line in objects {
            let (path, owners) = line.split_once(':').unwrap_or((line, ""));
            let owner_references = owners.split_whitespace().map(reference).collect();
            model.put(Meta { owner_references, ..meta(path) });
        }
        model.deliver_all();
        model
    }

    fn put(&mut self, object: Meta) {
        self.undelivered[usize::from(object.namespace.is_none())].push_back(Event::Seen(object.clone()));
        self.objects.insert(object.uid.clone(), object);
    }

    /// Writes an object, or removes it if its deletion has begun and no finalizer holds it.
    fn finish_write(&mut self, object: Meta) {
        if object.deletion_timestamp.is_some() && object.finalizers.is_empty() {
            self.objects.remove(&object.uid);
            self.undelivered[usize::from(object.namespace.is_none())].push_back(Event::Gone(object.uid));
        } else {
            self.put(object);
        }
    }

    fn delete(&mut self, uid: &str, propagation: Propagation) {
        let Some(mut object) = self.objects.get(uid).cloned() else { return };
        object.finalizers.retain(|finalizer| finalizer != FOREGROUND && finalizer != ORPHAN);
        match propagation {
            Propagation::Foreground => object.finalizers.push(FOREGROUND.to_owned()),
            Propagation::Orphan => object.finalizers.push(ORPHAN.to_owned()),
            Propagation::Background => {}
        }
        object.deletion_timestamp.get_or_insert_default();
        self.finish_write(object);
    }

    fn deliver(&mut self, kind: usize) -> bool {
        let Some(event) = self.undelivered[kind].pop_front() else { return false };
        match event {
            Event::Seen(object) => self.graph.observe(&object),
            Event::Gone(uid) => self.graph.forget(&uid),
        }
        self.todo.extend(self.graph.take_agenda());
        true
    }

    fn deliver_all(&mut self) {
        while self.deliver(0) || self.deliver(1) {}
    }

    fn live(&self, identity: &Identity) -> Option<Meta> {
        let found = self.objects.get(&identity.uid)?;
        let there = found.name == identity.name && found.namespace.clone().unwrap_or_default() == identity.namespace;
        (there && found.kind == identity.kind).then(|| found.clone())
    }

    fn find(&mut self, identity: &Identity) -> ReferenceClass {
        match self.live(identity).map(|owner| NodeState::of(&owner)) {
            Some(NodeState::DeletingDependents) => ReferenceClass::WaitingForDependentsDeletion,
            Some(_) => ReferenceClass::Solid,
            None => {
                self.graph.absent(identity);
                ReferenceClass::Dangling
            }
        }
    }

    /// Does what the collector would do about an object.
    fn work(&mut self, uid: &str) {
        match self.graph.task(uid) {
            Task::Nothing => {}
            Task::Find(places) => {
                for identity in &places {
                    self.find(identity);
                }
            }
            Task::AttemptToDelete(identity) => self.judge(&identity),
            Task::Release(identity) => self.let_go(&identity, FOREGROUND),
            Task::Orphan(identity) => {
                let names_it = |object: &&Meta| object.owner_references.iter().any(|owner| owner.uid == identity.uid);
                for mut dependent in self.objects.values().filter(names_it).cloned().collect::<Vec<_>>() {
                    dependent.owner_references.retain(|owner| owner.uid != identity.uid);
                    self.put(dependent);
                }
                self.let_go(&identity, ORPHAN);
            }
        }
        self.todo.extend(self.graph.take_agenda());
    }

    fn let_go(&mut self, identity: &Identity, finalizer: &str) {
        if let Some(mut object) = self.live(identity) {
            object.finalizers.retain(|held| held != finalizer);
            self.finish_write(object);
        }
    }

    fn judge(&mut self, identity: &Identity) {
        let Some(mut object) = self.live(identity).filter(|object| NodeState::of(object) == NodeState::Lives) else {
            return;
        };
        let mut owners = Vec::new();
        for reference in &object.owner_references {
            let class = match self.graph.owner(identity, reference) {
                Owner::Lives | Owner::Unresolvable(_) => ReferenceClass::Solid,
                Owner::Absent => ReferenceClass::Dangling,
                Owner::Ask(identity) => self.find(&identity),
            };
            owners.push((reference.uid.clone(), class));
        }
        match judge::judge(&owners, self.graph.has_dependents(&identity.uid), &object.finalizers) {
            Action::Keep => {}
            Action::DropReferences(gone) => {
                object.owner_references.retain(|owner| !gone.contains(&owner.uid));
                self.put(object);
            }
            Action::Delete(propagation) => {
                self.check(&object);
                self.deleted.push(object.uid.clone());
                self.delete(&object.uid, propagation);
            }
        }
    }

    /// Nothing keeps `object`: no owner that lives, none of another scope or namespace.
    fn check(&self, object: &Meta) {
        for owner in &object.owner_references {
            let namespaced = owner.kind == "ConfigMap";
            assert!(object.namespace.is_some() || !namespaced, "{object:?} was deleted for {owner:?}");
            if let Some(found) = self.objects.get(&owner.uid) {
                assert_eq!(
                    NodeState::of(found),
                    NodeState::DeletingDependents,
                    "{object:?} was deleted while its owner lives"
                );
            }
        }
    }

    /// Delivers events and works until nothing is left.
    fn run(&mut self) -> Vec<String> {
        loop {
            self.deliver_all();
            match self.todo.pop() {
                Some(uid) => self.work(&uid),
                None => break,
            }
        }
        let left: Vec<String> = self.graph.pending();
        left.iter().for_each(|uid| self.work_in_vain(uid));
        self.objects.keys().cloned().collect()
    }

    /// Going through everything once more finds nothing to do.
    fn work_in_vain(&mut self, uid: &str) {
        let before = self.objects.len();
        self.work(uid);
        assert_eq!(self.objects.len(), before, "going through everything again found {uid}");
    }
}

#[test]
fn what_goes_and_what_stays() {
    use Propagation::{Background, Foreground, Orphan};
    for (objects, deleted, propagation, left) in [
        // A dependent goes with its last owner.
        (vec!["a/o", "a/d:a/o"], "a/o", Background, vec![]),
        (vec!["a/o", "a/p", "a/d:a/o a/p"], "a/o", Background, vec!["a/d", "a/p"]),
        (vec!["a/d:a/never"], "", Background, vec![]),
        (vec!["a/o", "a/d:a/o", "a/e:a/d"], "a/o", Background, vec![]),
        (vec!["o", "a/d:o"], "o", Background, vec![]),
        // What can't be resolved is no reason to delete.
        (vec!["r:a/never"], "", Background, vec!["r"]),
        (vec!["a/o", "r:a/o"], "a/o", Background, vec!["r"]),
        (vec!["b/o", "a/d:b/o"], "", Background, vec!["a/d", "b/o"]),
        // Foreground: dependents first, those that nobody else keeps.
        (vec!["a/o", "a/d:a/o!"], "a/o", Foreground, vec![]),
        (vec!["a/o", "a/p", "a/d:a/o! a/p!"], "a/o", Foreground, vec!["a/d", "a/p"]),
        (vec!["a/o", "a/d:a/o!", "a/e:a/d!"], "a/o", Foreground, vec![]),
        (vec!["a/o", "r:a/o!"], "a/o", Foreground, vec!["r"]),
        // Circles, also of one.
        (vec!["a/o:a/d!", "a/d:a/o!"], "a/o", Foreground, vec![]),
        (vec!["a/o:a/o!"], "a/o", Foreground, vec![]),
        (vec!["a/o:a/e!", "a/d:a/o!", "a/e:a/d!", "a/f:a/e!"], "a/o", Foreground, vec![]),
        (vec!["a/o", "a/d:a/o", "a/e:a/d"], "a/o", Orphan, vec!["a/d", "a/e"]),
    ] {
        let mut model = Model::of(&objects);
        model.delete(deleted, propagation);
        assert_eq!(model.run(), left, "{objects:?} without {deleted} {propagation:?}");
    }
}

#[test]
fn a_circle_of_which_every_object_is_deleted_in_the_foreground_ends() {
    let mut model = Model::of(&["a/o:a/d!", "a/d:a/o!", "a/e:a/d!"]);
    model.delete("a/o", Propagation::Foreground);
    model.delete("a/d", Propagation::Foreground);
    assert_eq!(model.run(), Vec::<String>::new());
}

#[test]
fn foreground_deletion_goes_from_the_leaves_up() {
    let mut model = Model::of(&["a/o:a/d!", "a/d:a/o!", "a/e:a/d!"]);
    let mut leaf = model.objects["a/e"].clone();
    leaf.finalizers = vec!["x/held".to_owned()];
    model.put(leaf.clone());
    model.delete("a/o", Propagation::Foreground);
    assert_eq!(model.run(), ["a/d", "a/e", "a/o"], "the circle waits for what hangs on it");
    leaf.finalizers.clear();
    leaf.deletion_timestamp.get_or_insert_default();
    model.finish_write(leaf);
    assert_eq!(model.run(), Vec::<String>::new());
}

#[test]
fn an_owner_that_appears_where_it_was_looked_for_is_found() {
    let mut model = Model::of(&["a/d:a/late"]);
    model.put(meta("a/late"));
    assert_eq!(model.run(), ["a/d", "a/late"]);
}

#[test]
fn a_wrong_name_under_a_right_uid_leads_nowhere() {
    let mut model = Model::of(&["a/o"]);
    let wrong = OwnerReference { name: "other".to_owned(), ..reference("a/o!") };
    model.put(Meta { owner_references: vec![wrong], ..meta("a/d") });
    model.delete("a/o", Propagation::Foreground);
    assert_eq!(model.run(), Vec::<String>::new());
}

#[test]
fn the_graph_forgets_what_nobody_names() {
    let mut model = Model::of(&["a/o", "a/d:a/o", "a/e:a/never"]);
    model.delete("a/o", Propagation::Background);
    model.run();
    assert_eq!(model.graph.pending(), Vec::<String>::new());
    assert_eq!(model.graph.task("a/never"), Task::Nothing);
}

const PATHS: [&str; 7] = ["a/1", "a/2", "a/3", "b/1", "b/2", "x", "y"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<(usize, bool)>),
    Delete(usize, u8),
    Tell(usize),
    Work(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let owners = proptest::collection::vec((0..PATHS.len(), any::<bool>()), 0..3);
    prop_oneof![
        2 => (0..PATHS.len(), owners).prop_map(|(which, owners)| Step::Put(which, owners)),
        1 => (0..PATHS.len(), 0_u8..3).prop_map(|(which, how)| Step::Delete(which, how)),
        3 => (0_usize..2).prop_map(Step::Tell),
        3 => (0_usize..16).prop_map(Step::Work),
    ]
}

proptest! {
    /// Nothing that an owner keeps is deleted, no deletion hangs, and nothing stays whose owners are all gone.
    #[test]
    fn every_deletion_ends_and_is_right(steps in proptest::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        // References to another namespace are known for such once their owner was seen.
        PATHS.iter().for_each(|path| model.put(meta(path)));
        model.deliver_all();
        let mut born = 0;
        for step in steps {
            match step {
                Step::Put(which, owners) if model.objects.contains_key(PATHS[which]) => {
                    let mut object = model.objects[PATHS[which]].clone();
                    object.owner_references = owners.into_iter().map(|(owner, blocks)| {
                        OwnerReference { block_owner_deletion: blocks, ..reference(PATHS[owner]) }
                    }).collect();
                    model.put(object);
                }
                Step::Put(_, owners) => {
                    born += 1;
                    let owner_references = owners.into_iter().map(|(owner, _)| reference(PATHS[owner])).collect();
                    model.put(Meta { owner_references, ..meta(&format!("a/new-{born}")) });
                }
                Step::Delete(which, how) => {
                    let ways = [Propagation::Background, Propagation::Foreground, Propagation::Orphan];
                    model.delete(PATHS[which], ways[usize::from(how)]);
                }
                Step::Tell(kind) => drop(model.deliver(kind)),
                Step::Work(at) => if !model.todo.is_empty() {
                    let uid = model.todo.swap_remove(at % model.todo.len());
                    model.work(&uid);
                },
            }
        }
        model.run();
        for object in model.objects.values() {
            prop_assert!(object.deletion_timestamp.is_none(), "{object:?} hangs");
            let keeps = |owner: &OwnerReference| {
                owner.kind == "ConfigMap" && object.namespace.is_none() || model.objects.contains_key(&owner.uid)
            };
            prop_assert!(object.owner_references.is_empty() || object.owner_references.iter().any(keeps), "{object:?}");
        }
    }
}

#[test]
fn a_graph_that_was_left_half_changed_is_thrown_away() {
    let table = Table::builtin();
    let shared = super::SharedGraph::new(&table);
    shared.graph().observe(&meta("a/x"));
    let is_usable = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.graph().pending())).is_ok();
    let bug = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _graph = shared.graph();
        panic!("a bug");
    }));
    assert!(bug.map(|(): ()| ()).is_err() && !is_usable());
    shared.forget_all(&table);
    assert!(is_usable());
}
