//! The store beside a naive model: a list of whole states, one a revision.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, value: u8, lease: bool },
    Delete { from: u8, to: u8 },
    Txn { puts: Vec<u8>, deleted: u8 },
    Compact { back: i64 },
    Sweep,
    Checkpoint,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6_u8, any::<u8>(), any::<bool>()).prop_map(|(key, value, lease)| Step::Put { key, value, lease }),
        3 => (0..6_u8, 0..7_u8).prop_map(|(from, to)| Step::Delete { from, to }),
        3 => (proptest::collection::btree_set(0..3_u8, 0..3), 3..6_u8)
            .prop_map(|(puts, deleted)| Step::Txn { puts: puts.into_iter().collect(), deleted }),
        2 => (0..8_i64).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
    ]
}

type Keys = BTreeMap<String, String>;

/// What every key is at every revision, shown as the store shows it.
struct Model {
    /// From revision 1 on.
    states: Vec<BTreeMap<String, (i64, i64, i64, String, i64)>>,
    compacted: i64,
}

impl Model {
    fn new() -> Model {
        Model { states: vec![BTreeMap::new()], compacted: -1 }
    }

    fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<String, (i64, i64, i64, String, i64)>, i64) -> bool) {
        let mut state = self.states.last().expect("there is a first state").clone();
        if change(&mut state, self.revision() + 1) {
            self.states.push(state);
        }
    }

    fn at(&self, revision: i64) -> Keys {
        let shown = |(key, (create, modified, version, value, lease)): (&String, &(i64, i64, i64, String, i64))| {
            let lease = if *lease == 0 { String::new() } else { format!(" lease {lease}") };
            (key.clone(), format!("{key}{{{create},{modified},{version},{value:?}}}{lease}"))
        };
        self.states[revision as usize - 1].iter().map(shown).collect()
    }
}

fn name(key: u8) -> String {
    format!("k{key}")
}

fn model_put(state: &mut BTreeMap<String, (i64, i64, i64, String, i64)>, next: i64, key: u8, value: &str, lease: i64) {
    let (create, version) = state.get(&name(key)).map_or((next, 1), |old| (old.0, old.2 + 1));
    state.insert(name(key), (create, next, version, value.to_owned(), lease));
}

fn run(member: &mut Member, model: &mut Model, step: &Step) {
    match step {
        Step::Put { key, value, lease } => {
            let (value, lease) = (value.to_string(), if *lease { 1 } else { 0 });
            member.put(pb::PutRequest { lease, ..put(&name(*key), &value) }).unwrap();
            model.change(|state, next| {
                model_put(state, next, *key, &value, lease);
                true
            });
        }
        Step::Delete { from, to } => {
            let deleted = member.delete(delete_range(&name(*from), &name(*to))).unwrap().deleted;
            model.change(|state, _| {
                let before = state.len();
                state.retain(|key, _| *key < name(*from) || *key >= name(*to));
                assert_eq!(deleted, (before - state.len()) as i64, "not the keys that a delete took");
                state.len() < before
            });
        }
        Step::Txn { puts, deleted } => {
            let mut requests = vec![Request::RequestDeleteRange(delete(&name(*deleted)))];
            requests.extend(puts.iter().map(|key| Request::RequestPut(put(&name(*key), "txn"))));
            member.txn(pb::TxnRequest { success: ops(requests), ..Default::default() }).unwrap();
            model.change(|state, next| {
                let removed = state.remove(&name(*deleted)).is_some();
                puts.iter().for_each(|key| model_put(state, next, *key, "txn", 0));
                removed || !puts.is_empty()
            });
        }
        Step::Compact { back } => {
            let revision = (model.revision() - back).max(0);
            let expected = if revision > model.compacted { Ok(model.revision()) } else { Err(Error::Compacted) };
            assert_eq!(member.compact(revision), expected);
            model.compacted = model.compacted.max(revision);
        }
        Step::Sweep => member.sweep_all(),
        Step::Checkpoint => member.checkpoint(),
        Step::Restart => {
            let old = std::mem::replace(member, Member::new(0));
            *member = old.restart();
        }
    }
}

fn compare(member: &Member, model: &Model) {
    for revision in 1..=model.revision() {
        let found = member.range(pb::RangeRequest { revision, ..all() });
        if revision < model.compacted {
            assert_eq!(found, Err(Error::Compacted));
            continue;
        }
        let found: Vec<String> = found.unwrap().kvs.iter().map(shown).collect();
        assert_eq!(
            found,
            model.at(revision).into_values().collect::<Vec<_>>(),
            "not what lives at revision {revision}"
        );
        let pages = pb::RangeRequest { revision, limit: 2, ..all() };
        let page = member.range(pages).unwrap();
        assert_eq!((page.kvs.len(), page.count as usize), (found.len().min(2), found.len()));
        assert_eq!(page.more, found.len() > 2);
    }
    let leased = model.states.last().map_or(0, |state| state.values().filter(|kv| kv.4 == 1).count());
    assert_eq!(member.state().view().state.leases.get(1).map_or(0, |lease| lease.keys.len()), leased);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_revision_reads_as_the_model_says(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut member, mut model) = (Member::new(1), Model::new());
        member.grant(1, 60).unwrap();
        for step in &steps {
            run(&mut member, &mut model, step);
        }
        compare(&member, &model);
        let hash = member.state().view().hash_kv(0).unwrap();
        member.sweep_all();
        prop_assert_eq!(member.state().view().hash_kv(0).unwrap(), hash, "the sweep shows in no hash");
        compare(&member, &model);
    }
}
