//! Sets of keys, as unions of ranges. Pure.

use bytes::Bytes;

/// Where a range ends, before this key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Before(Bytes),
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => &end[..] > key,
            End::Never => true,
        }
    }

    /// Leaves no gap before `key`.
    fn reaches(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => &end[..] >= key,
            End::Never => true,
        }
    }
}

/// A range as requests and permissions write it: no end is the one key, `\0` is every key from the first on.
fn end_of(key: &Bytes, range_end: &Bytes) -> End {
    match &range_end[..] {
        [] => {
            let mut next = Vec::with_capacity(key.len() + 1);
            next.extend_from_slice(key);
            next.push(0);
            End::Before(next.into())
        }
        [0] => End::Never,
        _ => End::Before(range_end.clone()),
    }
}

/// A set of keys. Ranges that touch are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(Bytes, End)>);

impl Ranges {
    /// The union of ranges in any order.
    pub fn union(ranges: impl IntoIterator<Item = (Bytes, Bytes)>) -> Ranges {
        let mut all: Vec<(Bytes, End)> = ranges
            .into_iter()
            .map(|(key, range_end)| {
                let end = end_of(&key, &range_end);
                (key, end)
            })
            .filter(|(start, end)| end.is_after(start))
            .collect();
        all.sort_unstable();
        let mut merged: Vec<(Bytes, End)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match merged.last_mut() {
                Some((_, last)) if last.reaches(&start) => *last = end.max(last.clone()),
                _ => merged.push((start, end)),
            }
        }
        Ranges(merged)
    }

    /// Whether every key of a range is in the set. A range without keys is in it when its start is.
    pub fn contain(&self, key: &[u8], range_end: &[u8]) -> bool {
        let after = self.0.partition_point(|(start, _)| &start[..] <= key);
        let Some((_, end)) = after.checked_sub(1).map(|at| &self.0[at]) else { return false };
        end.is_after(key)
            && match range_end {
                [] => true,
                [0] => *end == End::Never,
                _ => end.reaches(range_end),
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(all: &[(&'static str, &'static str)]) -> Ranges {
        Ranges::union(all.iter().map(|(key, end)| ((*key).into(), (*end).into())))
    }

    #[test]
    fn a_range_is_covered_by_the_union() {
        for (granted, asked, covered) in [
            (&[][..], ("a", ""), false),
            (&[("a", "")], ("a", ""), true),
            (&[("a", "")], ("a", "a\0"), true),
            (&[("a", "")], ("a\0", ""), false),
            (&[("a", "")], ("a", "b"), false),
            (&[("a", ""), ("a\0", "")], ("a", "a\0\0"), true),
            (&[("a", "c"), ("c", "e")], ("b", "d"), true),
            (&[("a", "c"), ("d", "f")], ("b", "e"), false),
            (&[("a", "e"), ("b", "c")], ("c", "d"), true),
            (&[("a", "c")], ("b", "\0"), false),
            (&[("a", "\0")], ("b", "\0"), true),
            (&[("a", "\0")], ("b", ""), true),
            (&[("b", "\0")], ("a", "c"), false),
            (&[("a", "c"), ("b", "\0")], ("a", "zz"), true),
            (&[("\0", "\0")], ("\0", "\0"), true),
            // No key is in these; they show nothing, and are still for those who may see their start.
            (&[("a", "c")], ("b", "a"), true),
            (&[("a", "c")], ("x", "a"), false),
            // Granted in vain.
            (&[("c", "a")], ("b", ""), false),
        ] {
            assert_eq!(
                ranges(granted).contain(asked.0.as_bytes(), asked.1.as_bytes()),
                covered,
                "{granted:?} {asked:?}"
            );
        }
    }

    /// Keys of up to two bytes of a small alphabet: enough for every way in which two ranges can lie.
    fn key() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0u8..4, 1..3).prop_map(Bytes::from)
    }

    fn end() -> impl Strategy<Value = Bytes> {
        prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"\0")), key()]
    }

    fn is_in(key: &Bytes, (start, end): &(Bytes, Bytes)) -> bool {
        match &end[..] {
            [] => key == start,
            [0] => key >= start,
            _ => key >= start && key < end,
        }
    }

    proptest! {
        #[test]
        fn covered_is_what_has_no_key_outside(
            granted in proptest::collection::vec((key(), end()), 0..6),
            asked in (key(), end()),
        ) {
            let union = Ranges::union(granted.clone());
            prop_assert!(union.0.windows(2).all(|pair| !pair[0].1.reaches(&pair[1].0)), "disjoint, in order: {union:?}");
            // Every key of up to three bytes, and one above them all.
            let letters = 0u8..4;
            let one = letters.clone().map(|a| vec![a]);
            let two = letters.clone().flat_map(|a| (0u8..4).map(move |b| vec![a, b]));
            let three = letters.flat_map(|a| (0u8..16).map(move |b| vec![a, b / 4, b % 4]));
            let universe: Vec<Bytes> = one.chain(two).chain(three).chain([vec![9]]).map(Bytes::from).collect();
            let keys: Vec<&Bytes> = universe.iter().filter(|key| is_in(key, &asked)).collect();
            let all_granted = keys.iter().all(|key| granted.iter().any(|range| is_in(key, range)));
            if !keys.is_empty() {
                prop_assert_eq!(union.contain(&asked.0, &asked.1), all_granted);
            }
        }
    }
}
