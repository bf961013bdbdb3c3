//! The names that options go by: their own, those they had as experiments, and names that mean nothing any more.

use super::options::{FLAGS, Flag, Options};
use super::values::Value;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Name {
    Option(&'static Flag),
    /// An option that has become a feature gate.
    Feature(&'static str),
    /// Taken, without effect.
    Ignored {
        boolean: bool,
    },
}

const EXPERIMENTAL: &str = "experimental-";

/// Experiments that are feature gates now.
const FEATURES: [(&str, &str); 7] = [
    ("initial-corrupt-check", "InitialCorruptCheck"),
    ("compact-hash-check-enabled", "CompactHashCheck"),
    ("enable-lease-checkpoint", "LeaseCheckpoint"),
    ("enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
    ("stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    ("set-member-localaddr", "SetMemberLocalAddr"),
];

/// Flags of old releases. They are taken and without effect.
const IGNORED: [&str; 15] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

impl Name {
    /// What `name`, without dashes before it, stands for.
    pub fn find(name: &str) -> Option<Name> {
        if let Some(experiment) = name.strip_prefix(EXPERIMENTAL) {
            return Name::experiment(experiment);
        }
        if IGNORED.contains(&name) {
            return Some(Name::Ignored { boolean: true });
        }
        FLAGS.iter().find(|flag| flag.name == name).map(Name::Option)
    }

    fn experiment(name: &str) -> Option<Name> {
        if let Some((_, feature)) = FEATURES.iter().find(|(flag, _)| *flag == name) {
            return Some(Name::Feature(feature));
        }
        if name == "enable-v2v3" {
            return Some(Name::Ignored { boolean: false });
        }
        FLAGS.iter().find(|flag| flag.name == name).map(Name::Option)
    }

    /// Every name that an environment variable can stand for.
    pub fn all() -> impl Iterator<Item = (String, Name)> {
        let options = FLAGS.iter().flat_map(|flag| {
            [flag.name.to_owned(), format!("{EXPERIMENTAL}{}", flag.name)].map(|name| (name, Name::Option(flag)))
        });
        let features = FEATURES.iter().map(|(flag, feature)| (format!("{EXPERIMENTAL}{flag}"), Name::Feature(feature)));
        let ignored = IGNORED.iter().map(|name| ((*name).to_owned(), Name::Ignored { boolean: true }));
        options.chain(features).chain(ignored)
    }

    /// Whether it stands alone on a command line.
    pub fn boolean(self) -> bool {
        match self {
            Name::Option(flag) => flag.boolean,
            Name::Feature(_) => true,
            Name::Ignored { boolean } => boolean,
        }
    }

    /// Gives it the value `text` among `options`. The error completes a sentence about them.
    pub fn set(self, options: &mut Options, text: &str) -> Result<(), String> {
        match self {
            Name::Option(flag) => options.set(flag.name, text),
            Name::Feature(feature) => options.feature_gates.turn(feature, bool::read(text)?),
            Name::Ignored { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_are_known_under_both_names() {
        let mut options = Options::default();
        for (name, value) in [
            ("experimental-initial-corrupt-check", "true"),
            ("experimental-watch-progress-notify-interval", "5s"),
            ("experimental-enable-v2v3", "/x"),
        ] {
            Name::find(name).unwrap().set(&mut options, value).unwrap();
        }
        assert!(options.feature_gates.enabled("InitialCorruptCheck"));
        assert_eq!(options.watch_progress_notify_interval.show(), "5s");
        assert!(Name::find("experimental-nope").is_none() && Name::find("nope").is_none());
    }
}
