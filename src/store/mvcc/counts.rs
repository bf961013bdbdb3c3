//! How many keys lie in a range, without walking over them.
//!
//! ```text
//!   level 1   [       ……        ][       ……        ]      sections of sections
//!   level 0   [ 64…128 keys ][ 64…128 keys ][ … ]         sections of neighbouring keys
//!   keys      a b c d …
//! ```
//!
//! Every section knows how many keys it holds, and how many of those exist. A count adds up whole sections, the largest
//! ones that fit, and looks at single entries at its two ends only: its work grows with the logarithm of the keys.
//! A key that begins a section of one level begins one of every level below, too.

use std::ops::Bound;

use imbl::OrdMap;

use super::key::{Key, Latest};

/// A section has at most twice as many entries, and is then cut into two.
const ENTRIES: usize = 64;

/// How many keys there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Deleted ones that compaction has left included.
    pub known: usize,
    pub live: usize,
}

impl Tally {
    fn one(live: bool) -> Tally {
        Tally { known: 1, live: usize::from(live) }
    }

    fn add(&mut self, other: Tally) {
        self.known += other.known;
        self.live += other.live;
    }

    pub(super) fn without(self, other: Tally) -> Tally {
        Tally { known: self.known - other.known, live: self.live - other.live }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Section {
    /// Keys, or sections of the level below.
    entries: usize,
    tally: Tally,
}

type Keys = OrdMap<Key, Latest>;

/// The tallies of all sections. A copy costs nothing.
#[derive(Clone, Debug)]
pub struct Counts {
    /// From the lowest. Sections by where they begin, the first one of each level before all keys.
    levels: Vec<OrdMap<Key, Section>>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { levels: vec![OrdMap::unit(Key::new(b""), Section::default())] }
    }
}

impl Counts {
    /// Counts all `keys` at once.
    pub fn of(keys: &Keys) -> Counts {
        let level = sections(keys.iter().map(|(key, latest)| (key, Tally::one(latest.live))));
        let mut counts = Counts { levels: vec![level] };
        while let Some(top) = counts.levels.last().filter(|top| top.len() > 2 * ENTRIES) {
            let above = sections(top.iter().map(|(start, section)| (start, section.tally)));
            counts.levels.push(above);
        }
        counts
    }

    /// All keys.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.levels.last().expect("there is a level").values().for_each(|section| total.add(section.tally));
        total
    }

    /// `key` is among `keys` from now on.
    pub fn added(&mut self, key: &[u8], live: bool, keys: &Keys) {
        self.each_section_of(key, |tally| tally.add(Tally::one(live)));
        self.count_entry(0, key, keys);
    }

    /// `key`, which is known, exists from now on, or does so no more.
    pub fn changed(&mut self, key: &[u8], live: bool) {
        self.each_section_of(key, |tally| tally.live = tally.live + usize::from(live) - usize::from(!live));
    }

    /// `key` is not among the keys any more.
    pub fn removed(&mut self, key: &[u8], live: bool) {
        self.each_section_of(key, |tally| *tally = tally.without(Tally::one(live)));
        let (mut start, section) = section_of(&mut self.levels[0], key);
        section.entries -= 1;
        let mut is_empty = section.entries == 0;
        while is_empty && self.give_up(&start) {
            // The one before may have stayed for the sake of this one.
            let before = section_of(&mut self.levels[0], &start);
            (is_empty, start) = (before.1.entries == 0, before.0);
        }
    }

    /// The keys before `key`, and how many entries were looked at to know.
    pub fn before(&self, key: &[u8], keys: &Keys) -> (Tally, usize) {
        let (mut total, mut steps, mut from) = (Tally::default(), 0, Key::new(b""));
        for level in self.levels.iter().rev() {
            let mut sections = level.range::<_, [u8]>(from_on(&from));
            let (mut start, mut section) = sections.next().expect("a section of each level begins here");
            for (next, following) in sections {
                steps += 1;
                if **next > *key {
                    break;
                }
                total.add(section.tally);
                (start, section) = (next, following);
            }
            from = start.clone();
        }
        if *from < *key {
            let between = (Bound::Included(&*from), Bound::Excluded(key));
            for (_, latest) in keys.range::<_, [u8]>(between) {
                steps += 1;
                total.add(Tally::one(latest.live));
            }
        }
        (total, steps)
    }

    fn each_section_of(&mut self, key: &[u8], mut change: impl FnMut(&mut Tally)) {
        for level in &mut self.levels {
            change(&mut section_of(level, key).1.tally);
        }
    }

    /// The section of `level` that holds `key` has one more entry.
    fn count_entry(&mut self, level: usize, key: &[u8], keys: &Keys) {
        let (start, section) = section_of(&mut self.levels[level], key);
        section.entries += 1;
        if section.entries > 2 * ENTRIES {
            self.cut(level, &start, keys);
        }
    }

    /// Cuts the section of `level` that begins at `start` into two.
    fn cut(&mut self, level: usize, start: &Key, keys: &Keys) {
        let (mut first, mut second) = (Tally::default(), None);
        let mut take = |at: usize, key: &Key, tally: Tally| match at {
            ..ENTRIES => first.add(tally),
            _ => second = second.take().or_else(|| Some(key.clone())),
        };
        match level.checked_sub(1) {
            None => {
                let entries = keys.range::<_, [u8]>(from_on(start)).take(ENTRIES + 1);
                entries.enumerate().for_each(|(at, (key, latest))| take(at, key, Tally::one(latest.live)));
            }
            Some(below) => {
                let entries = self.levels[below].range::<_, [u8]>(from_on(start)).take(ENTRIES + 1);
                entries.enumerate().for_each(|(at, (key, section))| take(at, key, section.tally));
            }
        }
        let second = second.expect("a section that is cut has more entries than one half takes");
        let whole = self.levels[level].get_mut(&**start).expect("the section is there");
        let rest = Section { entries: whole.entries - ENTRIES, tally: whole.tally.without(first) };
        *whole = Section { entries: ENTRIES, tally: first };
        self.levels[level].insert(second.clone(), rest);
        if level + 1 < self.levels.len() {
            self.count_entry(level + 1, &second, keys);
        } else if self.levels[level].len() > 2 * ENTRIES {
            let above = sections(self.levels[level].iter().map(|(start, section)| (start, section.tally)));
            self.levels.push(above);
        }
    }

    /// Gives up the empty section that begins at `start`, in all levels in which one does: what lies there from now on
    /// counts to the section before it. False if it stays: it is the first, or one of a higher level has other entries.
    fn give_up(&mut self, start: &Key) -> bool {
        let begins = |level: &&OrdMap<Key, Section>| level.contains_key(&**start);
        let levels = self.levels.iter().take_while(begins).count();
        let holds_more = |(at, level): (usize, &OrdMap<Key, Section>)| {
            // The only entry of a higher one is the one that goes, too.
            level.get(&**start).is_some_and(|section| section.entries > usize::from(at > 0))
        };
        if start.is_empty() || self.levels.iter().enumerate().take(levels).any(holds_more) {
            return false;
        }
        for level in &mut self.levels[..levels] {
            level.remove(&**start);
        }
        if let Some(above) = self.levels.get_mut(levels) {
            section_of(above, start).1.entries -= 1;
        }
        true
    }
}

/// From `start` to the last one.
fn from_on(start: &Key) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(&**start), Bound::Unbounded)
}

/// The section that holds `key`, and where it begins.
fn section_of<'a>(level: &'a mut OrdMap<Key, Section>, key: &[u8]) -> (Key, &'a mut Section) {
    let (start, section) = level.get_prev_mut(key).expect("the first section begins before all keys");
    (start.clone(), section)
}

/// Sections of `entries`, which are in order.
fn sections<'a>(entries: impl Iterator<Item = (&'a Key, Tally)>) -> OrdMap<Key, Section> {
    let (mut level, mut start, mut section) = (OrdMap::new(), Key::new(b""), Section::default());
    for (key, tally) in entries {
        if section.entries == ENTRIES {
            level.insert(std::mem::replace(&mut start, key.clone()), std::mem::take(&mut section));
        }
        section.entries += 1;
        section.tally.add(tally);
    }
    level.insert(start, section);
    level
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::world::Random;

    /// Counts beside the keys that they count.
    #[derive(Default)]
    struct Counted {
        keys: Keys,
        counts: Counts,
    }

    impl Counted {
        fn put(&mut self, name: &str, live: bool) {
            let key = Key::new(name.as_bytes());
            match self.keys.insert(key.clone(), Latest::new(live)) {
                None => self.counts.added(&key, live, &self.keys),
                Some(before) if before.live != live => self.counts.changed(&key, live),
                Some(_) => {}
            }
        }

        fn remove(&mut self, name: &str) {
            if let Some(before) = self.keys.remove(name.as_bytes()) {
                self.counts.removed(name.as_bytes(), before.live);
            }
        }

        /// Everything that must hold of the sections.
        fn check(&self) {
            let tally = |keys: &mut dyn Iterator<Item = bool>| {
                keys.fold(Tally::default(), |mut all, live| {
                    all.add(Tally::one(live));
                    all
                })
            };
            for (above, level) in self.counts.levels.iter().enumerate() {
                let starts: Vec<&Key> = level.keys().collect();
                assert!(starts[0].is_empty());
                for (at, (start, section)) in level.iter().enumerate() {
                    let end = starts.get(at + 1);
                    let within = |key: &Key| *key >= *start && end.is_none_or(|end| *key < **end);
                    let mut lives = self.keys.iter().filter(|(key, _)| within(key)).map(|(_, latest)| latest.live);
                    assert_eq!(section.tally, tally(&mut lives));
                    let entries = match above.checked_sub(1) {
                        None => section.tally.known,
                        Some(below) => self.counts.levels[below].keys().filter(|key| within(key)).count(),
                    };
                    assert_eq!(section.entries, entries);
                    assert!(entries <= 2 * ENTRIES);
                    let below = above.checked_sub(1).map(|below| &self.counts.levels[below]);
                    assert!(below.is_none_or(|below| below.contains_key(&**start)));
                }
            }
        }
    }

    #[test]
    fn counts_are_those_of_a_walk_whatever_came_and_went() {
        for seed in 0..8 {
            let (random, mut counted, mut model) = (Random::from_seed(seed), Counted::default(), BTreeMap::new());
            for step in 0..6_000 {
                // Now mostly new keys, now mostly fewer of them.
                let grows = step % 2_000 < 1_400;
                let name = format!("{:04}", random.within(0..2_500));
                match random.within(0..4) {
                    0 => {
                        counted.put(&name, false);
                        model.insert(name, false);
                    }
                    at if (at == 1) == grows => {
                        counted.remove(&name);
                        model.remove(&name);
                    }
                    _ => {
                        counted.put(&name, true);
                        model.insert(name, true);
                    }
                }
                let key = format!("{:04}", random.within(0..2_600));
                let (before, _) = counted.counts.before(key.as_bytes(), &counted.keys);
                let walked = model.range(..key);
                let expected = walked.fold(Tally::default(), |mut all, (_, live)| {
                    all.add(Tally::one(*live));
                    all
                });
                assert_eq!(before, expected, "seed {seed}, step {step}");
                if step % 500 == 499 {
                    counted.check();
                }
            }
            let rebuilt = Counted { counts: Counts::of(&counted.keys), keys: counted.keys.clone() };
            rebuilt.check();
            assert_eq!(rebuilt.counts.total(), counted.counts.total());
            model.keys().for_each(|name| counted.remove(name));
            counted.check();
            assert!(counted.counts.levels.iter().all(|level| level.len() == 1));
        }
    }

    #[test]
    fn the_work_of_a_count_grows_with_the_logarithm_of_the_keys() {
        let mut counted = Counted::default();
        for size in [100, 10_000, 100_000] {
            for n in counted.keys.len()..size {
                counted.put(&format!("{:06}", n * 7919 % 1_000_003), n % 3 > 0);
            }
            let asked = (0..1_000).map(|n| format!("{:06}", n * 997));
            let steps = asked.map(|key| counted.counts.before(key.as_bytes(), &counted.keys).1);
            let levels = 1 + (size as f64).log(ENTRIES as f64).ceil() as usize;
            assert!(steps.max().unwrap() <= levels * 2 * ENTRIES, "{size} keys");
        }
    }
}
