//! Configuration files: YAML, with the options' names as keys, and some of them in groups.

use serde_json::{Map, Value as Json};

use super::names::Name;
use super::options::Options;

/// Bytes of a file.
const BYTES_MAX: usize = 1 << 20;

/// Why a file cannot be used. Surface it: the operator has to mend the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("the configuration file has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("error converting YAML to JSON: {0}")]
    Syntax(String),
    #[error("the configuration is no mapping")]
    NoMapping,
    #[error("invalid {0}")]
    Group(String),
    #[error("error unmarshaling JSON: {key}: {cause}")]
    Value { key: String, cause: String },
}

/// Keys of a group, and the options they are.
type Group = (&'static str, &'static [(&'static str, &'static str)]);

const GROUPS: &[Group] = &[
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("crl-file", "client-crl-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("crl-file", "peer-crl-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
    (
        "discovery-config",
        &[
            ("token", "discovery-token"),
            ("discovery-token", "discovery-token"),
            ("endpoints", "discovery-endpoints"),
            ("dial-timeout", "discovery-dial-timeout"),
            ("request-timeout", "discovery-request-timeout"),
            ("keepalive-time", "discovery-keepalive-time"),
            ("keepalive-timeout", "discovery-keepalive-timeout"),
        ],
    ),
    ("socket-options", &[("reuse-port", "socket-reuse-port"), ("reuse-address", "socket-reuse-address")]),
];

/// Groups in the group `discovery-config`.
const DISCOVERY_GROUPS: &[Group] = &[
    (
        "secure",
        &[
            ("insecure-transport", "discovery-insecure-transport"),
            ("insecure-skip-verify", "discovery-insecure-skip-tls-verify"),
            ("cert", "discovery-cert"),
            ("key", "discovery-key"),
            ("cacert", "discovery-cacert"),
        ],
    ),
    ("auth", &[("username", "discovery-user"), ("password", "discovery-password")]),
];

impl Options {
    /// The options that a configuration file gives; the others keep their defaults. Keys that mean nothing are passed
    /// over.
    pub fn from_file(bytes: &[u8]) -> Result<Options, FileError> {
        if bytes.len() > BYTES_MAX {
            return Err(FileError::TooLarge);
        }
        let mut options = Options::default();
        let default_cluster = options.initial_cluster.clone();
        match serde_yaml_ng::from_slice(bytes).map_err(|error| FileError::Syntax(error.to_string()))? {
            Json::Object(keys) => options.take_keys(&keys)?,
            Json::Null => {}
            _ => return Err(FileError::NoMapping),
        }
        let found_otherwise = !options.discovery_srv.is_empty() || !options.discovery_endpoints.0.is_empty();
        if found_otherwise && options.initial_cluster == default_cluster {
            options.initial_cluster.clear();
        }
        options.self_signed_cert_validity = options.self_signed_cert_validity.max(1);
        Ok(options)
    }

    fn take_keys(&mut self, keys: &Map<String, Json>) -> Result<(), FileError> {
        for (key, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
            let wrong = |cause| FileError::Value { key: key.clone(), cause };
            // Files of old releases carry it with values that a flag must not have any more.
            if key == "discovery-fallback" {
                continue;
            }
            if let Some(group) = GROUPS.iter().find(|(name, _)| name == key) {
                self.take_group(group, value)?;
                continue;
            }
            // An empty text leaves lists and URLs at their defaults.
            if value.as_str() == Some("") && key != "initial-cluster" && key != "metrics" {
                continue;
            }
            match Name::find(key) {
                Some(Name::Option(flag)) => self.set_from_file(flag.name, value).map_err(wrong)?,
                Some(Name::Feature(feature)) => {
                    let on =
                        value.as_bool().ok_or_else(|| wrong("cannot unmarshal into a value of type bool".into()))?;
                    self.feature_gates.turn(feature, on).map_err(wrong)?;
                }
                Some(Name::Ignored { name, .. }) => {
                    self.ignored.insert(name);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn take_group(&mut self, (group, known): &Group, value: &Json) -> Result<(), FileError> {
        let keys = value.as_object().ok_or_else(|| FileError::Group((*group).to_owned()))?;
        for (key, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
            if let Some((_, option)) = known.iter().find(|(name, _)| name == key) {
                let wrong = |cause| FileError::Value { key: format!("{group}.{key}"), cause };
                self.set_from_file(option, value).map_err(wrong)?;
            } else if *group == "discovery-config"
                && let Some(inner) = DISCOVERY_GROUPS.iter().find(|(name, _)| name == key)
            {
                self.take_group(inner, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::Value;
    use super::*;

    #[test]
    fn a_file_gives_options_in_groups() {
        let file = "
name: infra1
data-dir:
listen-client-urls: http://127.0.0.1:2379,http://10.0.0.1:2379
watch-progress-notify-interval: 5000000000
log-outputs: [stderr]
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
]
discovery-fallback: 'proxy'
experimental-initial-corrupt-check: true
feature-gates: CompactHashCheck=true
no-such-key: [1, 2]
client-transport-security:
  cert-file: c
  client-cert-auth: true
peer-transport-security:
  auto-tls: true
  allowed-cn: [a, b]
";
        let options = Options::from_file(file.as_bytes()).unwrap();
        assert_eq!((options.name.as_str(), options.data_dir.as_str()), ("infra1", ""));
        assert_eq!(options.listen_client_urls.show(), "http://10.0.0.1:2379,http://127.0.0.1:2379");
        assert_eq!(options.watch_progress_notify_interval.show(), "5s");
        assert_eq!(options.log_outputs.show(), "stderr");
        assert_eq!(options.cipher_suites.0.len(), 1);
        assert!(options.feature_gates.enabled("CompactHashCheck"));
        assert_eq!((options.cert_file.as_str(), options.client_cert_auth), ("c", true));
        assert!(options.peer_auto_tls && !options.auto_tls);
        assert_eq!(options.peer_cert_allowed_cn.0, ["a", "b"]);
    }

    #[test]
    fn discovery_stands_in_a_group_of_its_own() {
        let file = "discovery-config:\n  endpoints: [a, b]\n  token: t\n  auth: {username: u}\n";
        let options = Options::from_file(file.as_bytes()).unwrap();
        assert_eq!((options.discovery_token.as_str(), options.discovery_user.as_str()), ("t", "u"));
        assert_eq!((options.discovery_endpoints.show().as_str(), options.initial_cluster.as_str()), ("a,b", ""));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = Options::from_file(b"snapshot-count: many").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "error unmarshaling JSON: snapshot-count: cannot unmarshal string into a value of type u64"
        );
        assert!(matches!(Options::from_file(b"[1]"), Err(FileError::NoMapping)));
        assert!(matches!(Options::from_file(b"a: [b"), Err(FileError::Syntax(_))));
        assert!(matches!(Options::from_file(b"peer-transport-security: x"), Err(FileError::Group(_))));
        assert_eq!(Options::from_file(b"").unwrap(), Options::default());
    }
}
