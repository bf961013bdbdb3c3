//! Flags in the syntax of Go's `flag` package.

use std::collections::BTreeSet;

use crate::cluster::server::{Name, Options};

/// What a command line holds beside options.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The flags that were given.
    pub names: BTreeSet<String>,
    pub version: bool,
    pub config_file: String,
    /// The first word that belongs to no flag.
    pub stray: Option<String>,
}

/// Why the command line was not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    Help,
    /// The message is printed before the usage.
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
        let kind = Kind::find(name).ok_or_else(|| unknown(name))?;
        let value = match value {
            Some(value) => value,
            None if kind.boolean() => "true".to_owned(),
            None => words.next().cloned().ok_or_else(|| needs_argument(name))?,
        };
        take(options, &mut given, kind, name, &value)?;
    }
    Ok(given)
}

#[derive(Clone, Copy)]
enum Kind {
    Option(Name),
    Version,
    ConfigFile,
}

impl Kind {
    fn find(name: &str) -> Option<Kind> {
        match name {
            "version" => Some(Kind::Version),
            "config-file" => Some(Kind::ConfigFile),
            name => Name::find(name).map(Kind::Option),
        }
    }

    fn boolean(self) -> bool {
        match self {
            Kind::Version => true,
            Kind::ConfigFile => false,
            Kind::Option(name) => name.boolean(),
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
        Kind::Option(option) => option.set(options, value).map_err(|cause| match option.boolean() {
            true => Stop::Bad(format!("invalid boolean value {value:?} for -{name}: {cause}")),
            false => Stop::Bad(format!("invalid value {value:?} for flag -{name}: {cause}")),
        })?,
    }
    given.names.insert(name.to_owned());
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
        for line in ["--name a --pre-vote=false", "-name=a -pre-vote=F", "-name a --pre-vote=0 -v -snapshot=x"] {
            let (options, given) = parsed(line).unwrap();
            assert_eq!((options.name.as_str(), options.pre_vote), ("a", false), "{line}");
            assert!(given.names.contains("name") && given.names.contains("pre-vote") && given.stray.is_none());
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
