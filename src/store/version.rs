//! Which release of etcd this store claims to be.

/// The release whose behaviour this is; a build may claim another.
pub const ETCD_VERSION: &str = match option_env!("CHORUS_ETCD_VERSION") {
    Some(version) => version,
    None => "3.6.6",
};

/// The version that all releases of the series of `version` share: `3.6.0` for `3.6.6`.
pub fn series(version: &str) -> String {
    let mut parts = version.splitn(3, '.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{major}.{minor}.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_named_by_its_first_release() {
        assert_eq!(series("3.6.6"), "3.6.0");
        assert_eq!(series("3.8.0-alpha.0"), "3.8.0");
    }
}
