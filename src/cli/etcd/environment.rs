//! Environment variables in place of flags: `ETCD_` and the flag's name in upper case, `_` for `-`.

use super::flags::Given;
use crate::cluster::server::{FLAGS, Options};

const PREFIX: &str = "ETCD_";
/// Set by this program's own means, or without meaning to it.
const KNOWN: [&str; 4] = ["ETCD_CONFIG_FILE", "ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH", "ETCD_CHORUS_REPORTED_VERSION"];

/// Completes `options` by the variables of the process, and by what follows from which were given. The names of
/// variables that mean nothing are returned for a warning.
pub fn complete(
    options: &mut Options,
    given: &Given,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<String>, String> {
    let mut set = given.names.clone();
    let mut unknown = Vec::new();
    for (name, value) in variables.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty()) {
        let Some(flag) = FLAGS.iter().find(|flag| variable(flag.name) == name) else {
            if !KNOWN.contains(&name.as_str()) {
                unknown.push(format!("{name}={value}"));
            }
            continue;
        };
        if given.names.contains(flag.name) {
            return Err(format!(
                "conflicting environment variable {name:?} is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag)"
            ));
        }
        options.set(flag.name, &value).map_err(|cause| format!("invalid value {value:?} for {name}: {cause}"))?;
        set.insert(flag.name);
    }
    if set.contains("listen-client-urls") && !set.contains("advertise-client-urls") {
        options.advertise_client_urls.0.clear();
    }
    let found_otherwise = !options.discovery_srv.is_empty()
        || !options.discovery_srv_name.is_empty()
        || !options.discovery_endpoints.0.is_empty();
    if !set.contains("initial-cluster") {
        options.initial_cluster = match found_otherwise {
            true => String::new(),
            false => own_cluster(options),
        };
    }
    unknown.sort();
    Ok(unknown)
}

/// The cluster of this member alone.
fn own_cluster(options: &Options) -> String {
    let urls = options.initial_advertise_peer_urls.texts();
    urls.iter().map(|url| format!("{}={url}", options.name)).collect::<Vec<_>>().join(",")
}

fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}
