//! The query of a URL.

/// The query of a URL. The values asked for here need no decoding.
pub(super) struct Query<'a>(pub &'a str);

impl Query<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    pub fn has(&self, name: &str) -> bool {
        self.pairs().any(|(key, _)| key == name)
    }

    pub fn says(&self, name: &str, value: &str) -> bool {
        self.pairs().any(|pair| pair == (name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_given() {
        let query = Query("serializable=true&exclude=NOSPACE&exclude=CORRUPT&verbose");
        assert!(query.says("serializable", "true") && query.has("verbose"));
        assert!(query.says("exclude", "NOSPACE") && query.says("exclude", "CORRUPT"));
        assert!(!query.says("exclude", "NO") && !query.has("quiet") && !Query("").has("verbose"));
    }
}
