//! Names that are looked up while the program is compiled, so that a wrong one does not compile.

/// Whether `name` is one of `names`.
pub const fn listed(names: &[&str], name: &str) -> bool {
    let mut at = 0;
    while at < names.len() {
        if equal(names[at].as_bytes(), name.as_bytes()) {
            return true;
        }
        at += 1;
    }
    false
}

const fn equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn only_whole_names_are_listed() {
        const NAMES: &[&str] = &["one", "other"];
        for (name, expected) in [("one", true), ("other", true), ("on", false), ("ones", false), ("", false)] {
            assert_eq!(listed(NAMES, name), expected, "{name:?}");
        }
    }
}
