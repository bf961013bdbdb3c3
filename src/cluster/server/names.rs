//! The names that options go by: their own, those they had as experiments, and names that mean nothing any more.

use super::options::{ACCEPTED, FLAGS, Flag, Options};
use super::values::Value;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Name {
    Option(&'static Flag),
    /// An option that has become a feature gate.
    Feature(&'static str),
    /// Taken, without effect.
    Ignored {
        name: &'static str,
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

/// Flags of old releases that stand alone on a command line. They are taken and without effect.
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

/// The same with a value.
const IGNORED_VALUES: [&str; 3] = ["max-snapshots", "v2-deprecation", "experimental-enable-v2v3"];

impl Name {
    /// What `name`, without dashes before it, stands for.
    pub fn find(name: &str) -> Option<Name> {
        if let Some(ignored) = ignored().find(|(other, _)| *other == name) {
            return Some(ignored.1);
        }
        if let Some(experiment) = name.strip_prefix(EXPERIMENTAL) {
            return Name::experiment(experiment);
        }
        FLAGS.iter().find(|flag| flag.name == name).map(Name::Option)
    }

    fn experiment(name: &str) -> Option<Name> {
        if let Some((_, feature)) = FEATURES.iter().find(|(flag, _)| *flag == name) {
            return Some(Name::Feature(feature));
        }
        FLAGS.iter().find(|flag| flag.name == name).map(Name::Option)
    }

    /// Every name that an environment variable can stand for.
    pub fn all() -> impl Iterator<Item = (String, Name)> {
        let options = FLAGS.iter().flat_map(|flag| {
            [flag.name.to_owned(), format!("{EXPERIMENTAL}{}", flag.name)].map(|name| (name, Name::Option(flag)))
        });
        let features = FEATURES.iter().map(|(flag, feature)| (format!("{EXPERIMENTAL}{flag}"), Name::Feature(feature)));
        let ignored = ignored().map(|(name, ignored)| (name.to_owned(), ignored));
        options.chain(features).chain(ignored)
    }

    /// Whether it stands alone on a command line.
    pub fn boolean(self) -> bool {
        match self {
            Name::Option(flag) => flag.boolean,
            Name::Feature(_) => true,
            Name::Ignored { boolean, .. } => boolean,
        }
    }

    /// Gives it the value `text` among `options`. The error completes a sentence about them.
    pub fn set(self, options: &mut Options, text: &str) -> Result<(), String> {
        match self {
            Name::Option(flag) => options.set(flag.name, text),
            Name::Feature(feature) => options.feature_gates.turn(feature, bool::read(text)?),
            Name::Ignored { name, .. } => {
                options.ignored.insert(name);
                Ok(())
            }
        }
    }
}

fn ignored() -> impl Iterator<Item = (&'static str, Name)> {
    let kind = |boolean| move |name: &&'static str| (*name, Name::Ignored { name, boolean });
    IGNORED.iter().map(kind(true)).chain(IGNORED_VALUES.iter().map(kind(false)))
}

impl Options {
    /// The names of what was asked for and has no effect.
    pub fn without_effect(&self) -> Vec<String> {
        let defaults = Options::default();
        let accepted = FLAGS.iter().filter(|flag| flag.help.starts_with(ACCEPTED)).map(|flag| flag.name);
        let options = accepted.filter(|name| self.show(name) != defaults.show(name));
        let names = options.chain(self.ignored.iter().copied()).map(str::to_owned);
        let features = self.feature_gates.without_effect().map(|name| format!("feature-gates={name}"));
        names.chain(features).collect()
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
        assert_eq!(options.without_effect(), ["experimental-enable-v2v3"]);
    }

    #[test]
    fn what_has_no_effect_is_known() {
        assert_eq!(Options::default().without_effect(), [""; 0]);
        let mut options = Options::default();
        for (name, value) in [
            ("max-snapshots", "5"),
            ("max-wals", "5"),
            ("wal-dir", "/wal"),
            ("pre-vote", "false"),
            ("snapshot-count", "7"),
            ("feature-gates", "StopGRPCServiceOnDefrag=true,LeaseCheckpoint=true"),
        ] {
            Name::find(name).unwrap().set(&mut options, value).unwrap();
        }
        let expected = ["pre-vote", "max-snapshots", "feature-gates=StopGRPCServiceOnDefrag"];
        assert_eq!(options.without_effect(), expected);
    }
}
