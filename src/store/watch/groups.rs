//! Which watchers a key concerns. Watchers of the same range share one entry.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::store::range::{End, KeyRange};

/// Names a watcher among all of this member.
pub type WatcherKey = u64;

/// Watchers by what they watch.
#[derive(Debug, Default)]
pub struct Groups {
    singles: BTreeMap<Bytes, BTreeSet<WatcherKey>>,
    ranges: BTreeMap<KeyRange, BTreeSet<WatcherKey>>,
}

impl Groups {
    pub fn insert(&mut self, range: &KeyRange, watcher: WatcherKey) {
        match range.end {
            End::Single => self.singles.entry(range.start.clone()).or_default().insert(watcher),
            _ => self.ranges.entry(range.clone()).or_default().insert(watcher),
        };
    }

    pub fn remove(&mut self, range: &KeyRange, watcher: WatcherKey) {
        match range.end {
            End::Single => leave(&mut self.singles, &range.start, watcher),
            _ => leave(&mut self.ranges, range, watcher),
        }
    }

    /// Calls `each` with the watchers of `key`.
    pub fn matching(&self, key: &Bytes, mut each: impl FnMut(WatcherKey)) {
        if let Some(watchers) = self.singles.get(key) {
            watchers.iter().for_each(|watcher| each(*watcher));
        }
        if self.ranges.is_empty() {
            return;
        }
        let last = KeyRange { start: key.clone(), end: End::Unbounded };
        for (range, watchers) in self.ranges.range(..=last) {
            if range.contains(key) {
                watchers.iter().for_each(|watcher| each(*watcher));
            }
        }
    }
}

fn leave<K: Ord>(groups: &mut BTreeMap<K, BTreeSet<WatcherKey>>, of: &K, watcher: WatcherKey) {
    if let Some(watchers) = groups.get_mut(of) {
        watchers.remove(&watcher);
        if watchers.is_empty() {
            groups.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_concerns_its_own_watchers_and_those_of_ranges_around_it() {
        let range = |start: &str, end: &str| KeyRange::new(start.to_owned().into(), end.to_owned().into());
        let watched = [range("b", ""), range("a", "c"), range("b", "\0"), range("c", "d"), range("b", "")];
        let mut groups = Groups::default();
        watched.iter().zip(0..).for_each(|(range, watcher)| groups.insert(range, watcher));
        let matching = |groups: &Groups, key: &'static str| {
            let mut found = BTreeSet::new();
            groups.matching(&Bytes::from(key), |watcher| {
                found.insert(watcher);
            });
            found.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(matching(&groups, "b"), [0, 1, 2, 4]);
        assert_eq!(matching(&groups, "c"), [2, 3]);
        assert!(matching(&groups, "0").is_empty());
        watched.iter().zip(0..).for_each(|(range, watcher)| groups.remove(range, watcher));
        assert!(matching(&groups, "b").is_empty());
        assert!(groups.singles.is_empty() && groups.ranges.is_empty());
    }
}
