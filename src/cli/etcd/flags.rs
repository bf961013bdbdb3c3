//! Flags in the syntax of Go's `flag` package.

use std::collections::BTreeSet;

use crate::cluster::server::{FLAGS, Options};

/// Flags of old releases, which are taken and without effect.
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

/// What a command line holds beside options.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The options that were given.
    pub names: BTreeSet<&'static str>,
    pub version: bool,
    pub config_file: String,
    /// The first word that belongs to no flag.
    pub stray: Option<String>,
}

/// Why the command line was not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    Help,
    /// The message stands before the usage.
    Bad(String),
}

/// Reads `arguments` into `options`, up to `--` or the first word that belongs to no flag.
pub fn read(options: &mut Options, arguments: &[String]) -> Result<Given, Stop> {
    let mut given = Given::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            given.stray = words.next().cloned();
            break;
        }
        let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            given.stray = Some(word.clone());
            break;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.is_empty() || flag.starts_with(['-', '=']) {
            return Err(Stop::Bad(format!("bad flag syntax: {word}")));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let kind = kind(name).ok_or_else(|| unknown(name))?;
        let value = match (value, kind) {
            (Some(value), _) => value,
            (None, Kind::Version | Kind::Ignored | Kind::Option { boolean: true, .. }) => "true".to_owned(),
            (None, _) => words.next().cloned().ok_or_else(|| needs_argument(name))?,
        };
        take(options, &mut given, kind, name, &value)?;
    }
    Ok(given)
}

#[derive(Clone, Copy)]
enum Kind {
    Option { name: &'static str, boolean: bool },
    Version,
    ConfigFile,
    Ignored,
}

fn kind(name: &str) -> Option<Kind> {
    match name {
        "version" => Some(Kind::Version),
        "config-file" => Some(Kind::ConfigFile),
        name if IGNORED.contains(&name) => Some(Kind::Ignored),
        name => {
            let flag = FLAGS.iter().find(|flag| flag.name == name)?;
            Some(Kind::Option { name: flag.name, boolean: flag.boolean })
        }
    }
}

fn unknown(name: &str) -> Stop {
    match name {
        "help" | "h" => Stop::Help,
        _ => Stop::Bad(format!("flag provided but not defined: -{name}")),
    }
}

fn needs_argument(name: &str) -> Stop {
    Stop::Bad(format!("flag needs an argument: -{name}"))
}

fn take(options: &mut Options, given: &mut Given, kind: Kind, name: &str, value: &str) -> Result<(), Stop> {
    match kind {
        Kind::Version => given.version = matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        Kind::ConfigFile => given.config_file = value.to_owned(),
        Kind::Ignored => {}
        Kind::Option { name: known, boolean } => {
            let what = if boolean { "boolean value" } else { "value" };
            let refused = |cause| {
                let flag = if boolean { format!("-{name}") } else { format!("flag -{name}") };
                Stop::Bad(format!("invalid {what} {value:?} for {flag}: {cause}"))
            };
            options.set(known, value).map_err(refused)?;
            given.names.insert(known);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Options, Given), Stop> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let mut options = Options::default();
        read(&mut options, &words).map(|given| (options, given))
    }

    #[test]
    fn flags_are_written_as_in_go() {
        for line in ["--name a --pre-vote=false", "-name=a -pre-vote=F", "-name a --pre-vote=0 -v -snapshot x=1"] {
            let (options, given) = parsed(line).unwrap();
            assert_eq!((options.name.as_str(), options.pre_vote), ("a", false), "{line}");
            assert_eq!(given.names.iter().copied().collect::<Vec<_>>(), ["name", "pre-vote"]);
        }
        let (options, given) = parsed("--force-new-cluster true").unwrap();
        assert!(options.force_new_cluster);
        assert_eq!(given.stray.as_deref(), Some("true"));
        assert_eq!(parsed("-- x").unwrap().1.stray.as_deref(), Some("x"));
        assert!(parsed("--version --config-file=f").unwrap().1.version);
    }

    #[test]
    fn what_cannot_be_read_is_said_in_gos_words() {
        let bad = |message: &str| Err(Stop::Bad(message.into()));
        let outcome = |line: &str| parsed(line).map(|_| ());
        assert_eq!(outcome("--help"), Err(Stop::Help));
        assert_eq!(outcome("--nope"), bad("flag provided but not defined: -nope"));
        assert_eq!(outcome("--name"), bad("flag needs an argument: -name"));
        assert_eq!(outcome("---name a"), bad("bad flag syntax: ---name"));
        assert_eq!(outcome("--max-txn-ops=x"), bad("invalid value \"x\" for flag -max-txn-ops: parse error"));
        assert_eq!(outcome("--pre-vote=x"), bad("invalid boolean value \"x\" for -pre-vote: parse error"));
    }
}
