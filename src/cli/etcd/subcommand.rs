//! Flags of sub-commands, in the syntax of POSIX: flags and words may come in any order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;

use super::help;
use crate::cli::terminal::note;
use crate::cluster::server::ACCEPTED;
use crate::cluster::server::values::Value;

/// One flag of a sub-command.
pub struct Flag {
    pub name: &'static str,
    pub default: &'static str,
    pub help: &'static str,
    /// Whether it needs no value.
    pub boolean: bool,
}

/// A flag that has a value.
pub const fn flag(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, help, boolean: false }
}

/// A flag that is on or off.
pub const fn switch(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, help, boolean: true }
}

/// What a command line holds.
#[derive(Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, String>,
    pub words: Vec<String>,
    pub help: bool,
}

/// The exit code of a sub-command. If it failed, its message goes to stderr.
pub fn exit_code(outcome: Result<ExitCode, String>) -> ExitCode {
    outcome.unwrap_or_else(|message| {
        note(&message);
        ExitCode::FAILURE
    })
}

impl Given {
    /// Reads the `arguments` of a sub-command that is to `start`. If they ask for help, shows it and gives the exit code
    /// with which the command ends.
    pub fn to_start(
        usage: &str,
        flags: &'static [Flag],
        arguments: &[String],
    ) -> Result<ControlFlow<ExitCode, Given>, String> {
        let given =
            Given::read(flags, arguments).map_err(|error| format!("Error: {error}\n{}", usage_of(usage, flags)))?;
        if given.help || given.words != ["start"] {
            return Ok(ControlFlow::Break(help::show(&usage_of(usage, flags))));
        }
        Ok(ControlFlow::Continue(given))
    }

    /// Logs the flags that were given and have no effect.
    pub fn log_without_effect(&self, flags: &[Flag]) {
        let accepted = flags.iter().filter(|flag| flag.help.starts_with(ACCEPTED));
        let given: Vec<_> =
            accepted.filter(|flag| self.text(flag.name) != flag.default).map(|flag| flag.name).collect();
        if !given.is_empty() {
            tracing::warn!(flags = given.join(","), "flags were given that have no effect here");
        }
    }

    /// Reads `arguments`; the error is what is wrong with them.
    pub fn read(flags: &'static [Flag], arguments: &[String]) -> Result<Given, String> {
        let mut given = Given::default();
        given.values.extend(flags.iter().map(|flag| (flag.name, flag.default.to_owned())));
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "-h" || word == "--help" {
                given.help = true;
                continue;
            }
            let Some(text) = word.strip_prefix("--") else {
                match word.strip_prefix('-') {
                    Some(short) => return Err(format!("unknown shorthand flag: {short:?} in {word}")),
                    None => given.words.push(word.clone()),
                }
                continue;
            };
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text, None),
            };
            let flag = flags.iter().find(|flag| flag.name == name);
            let flag = flag.ok_or_else(|| format!("unknown flag: --{name}"))?;
            let value = match value {
                Some(value) => value,
                None if flag.boolean => "true".to_owned(),
                None => words.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
            };
            given.values.insert(flag.name, value);
        }
        Ok(given)
    }

    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The value of a flag of another type than text.
    pub fn get<T: Value>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name);
        T::read(text).map_err(|cause| format!("invalid argument {text:?} for \"--{name}\" flag: {cause}"))
    }
}

/// What `--help` prints.
fn usage_of(usage: &str, flags: &[Flag]) -> String {
    let mut text = format!("Usage:\n  {usage}\n\nFlags:\n");
    for flag in flags {
        let default = if flag.default.is_empty() { String::new() } else { format!(" (default {})", flag.default) };
        text += &format!("      --{}\n            {}{default}\n", flag.name, flag.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[flag("endpoints", "a", ""), switch("debug", "false", "")];

    fn read(line: &str) -> Result<Given, String> {
        Given::read(FLAGS, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_and_words_stand_in_any_order() {
        for line in ["--endpoints=b start --debug", "start --debug=true --endpoints b"] {
            let given = read(line).unwrap();
            assert_eq!(
                (given.text("endpoints"), given.get("debug"), &given.words[..]),
                ("b", Ok(true), &["start".into()][..])
            );
        }
        assert_eq!(read("start").unwrap().text("endpoints"), "a");
        assert_eq!(read("--nope").unwrap_err(), "unknown flag: --nope");
        assert_eq!(read("--endpoints").unwrap_err(), "flag needs an argument: --endpoints");
        assert!(read("--debug=x").unwrap().get::<bool>("debug").is_err());
    }
}
