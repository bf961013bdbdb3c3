//! Which release of etcd this store claims to be.

/// The release whose behaviour this is; a build may claim another.
pub const ETCD_VERSION: &str = match option_env!("CHORUS_ETCD_VERSION") {
    Some(version) => version,
    None => "3.7.1",
};
