//! Environment variables in place of flags: `ETCD_` and the flag's name in upper case, `_` for `-`.

use std::collections::BTreeMap;

use super::flags::Given;
use crate::cluster::server::{Name, Options};

const PREFIX: &str = "ETCD_";
/// The variable with the release that this process claims to be.
pub const REPORTED_VERSION: &str = "ETCD_CHORUS_REPORTED_VERSION";
/// The variable with the path of a configuration file.
pub const CONFIG_FILE: &str = "ETCD_CONFIG_FILE";
/// Variables of this program that stand for no flag.
const OTHERS: [&str; 3] = [CONFIG_FILE, REPORTED_VERSION, "ETCD_UNSUPPORTED_ARCH"];

/// What was read from the variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// Flags that variables gave, with the variables and their values.
    pub used: BTreeMap<String, (String, String)>,
    /// `NAME=value` of variables that mean nothing.
    pub unknown: Vec<String>,
}

/// Reads the variables of the process into `options`.
pub fn read(options: &mut Options, given: &Given, variables: &BTreeMap<String, String>) -> Result<Variables, String> {
    let known: BTreeMap<String, (String, Name)> =
        Name::all().map(|(flag, name)| (variable(&flag), (flag, name))).collect();
    let mut read = Variables::default();
    for (variable, value) in variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let Some((flag, name)) = known.get(variable) else {
            if !OTHERS.contains(&variable.as_str()) {
                read.unknown.push(format!("{variable}={value}"));
            }
            continue;
        };
        if given.names.contains(flag) {
            return Err(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                 environment variable or disable flag)): {variable}"
            ));
        }
        if value.is_empty() {
            continue;
        }
        name.set(options, value).map_err(|cause| format!("invalid value {value:?} for {variable}: {cause}"))?;
        read.used.insert(flag.clone(), (variable.clone(), value.clone()));
    }
    Ok(read)
}

/// Sets the options whose defaults depend on which others were given, by flag or by variable.
pub fn complete(options: &mut Options, given: &Given, read: &Variables) {
    let is_set = |flag: &str| given.names.contains(flag) || read.used.contains_key(flag);
    if is_set("listen-client-urls") && !is_set("advertise-client-urls") {
        options.advertise_client_urls.0.clear();
    }
    let found_otherwise = !options.discovery_srv.is_empty()
        || !options.discovery_srv_name.is_empty()
        || !options.discovery_endpoints.0.is_empty();
    if found_otherwise && !is_set("initial-cluster") {
        options.initial_cluster.clear();
    }
}

fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(flags: &str, variables: &[(&str, &str)]) -> Result<(Options, Variables), String> {
        let words: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        let mut options = Options::default();
        let given = super::super::flags::read(&mut options, &words).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let read = read(&mut options, &given, &variables)?;
        complete(&mut options, &given, &read);
        Ok((options, read))
    }

    #[test]
    fn variables_stand_for_flags() {
        let variables = [
            ("ETCD_NAME", "a"),
            ("ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", "true"),
            ("ETCD_DATA_DIR", ""),
            ("ETCD_VERIFY", "all"),
            ("ETCDCTL_API", "3"),
        ];
        let (options, read) = completed("--data-dir=d", &[]).unwrap();
        assert_eq!((options.data_dir.as_str(), read), ("d", Variables::default()));
        let (options, read) = completed("", &variables).unwrap();
        assert_eq!((options.name.as_str(), options.data_dir.as_str()), ("a", ""));
        assert!(options.feature_gates.enabled("InitialCorruptCheck"));
        assert_eq!(read.unknown, ["ETCD_VERIFY=all"]);
    }

    #[test]
    fn a_variable_beside_its_flag_is_refused() {
        let refused = completed("--name=a", &[("ETCD_NAME", "a")]).unwrap_err();
        let text = "conflicting environment variable is shadowed by corresponding command-line flag";
        assert!(refused.starts_with(text) && refused.ends_with("ETCD_NAME"), "{refused}");
        let refused = completed("", &[("ETCD_MAX_TXN_OPS", "x")]).unwrap_err();
        assert_eq!(refused, "invalid value \"x\" for ETCD_MAX_TXN_OPS: parse error");
    }

    #[test]
    fn defaults_follow_from_what_was_given() {
        let (options, _) = completed("--listen-client-urls http://127.0.0.1:1", &[]).unwrap();
        assert!(options.advertise_client_urls.0.is_empty());
        let (options, _) = completed("", &[("ETCD_DISCOVERY_SRV", "example.com")]).unwrap();
        assert_eq!(options.initial_cluster, "");
    }
}
