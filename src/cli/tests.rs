//! Every command is one that can be given, and what is said to be typed can be typed.
#![allow(clippy::disallowed_methods, reason = "reads the documents and sources of this package")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::builder::Arg;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Id, Parser};

use super::Args;

#[test]
fn every_definition_holds_together() {
    Args::command().debug_assert();
    super::kv::transaction_requests().debug_assert();
}

/// clap lets a command's own argument replace one of that name that all commands share, and panics when the latter is
/// then asked for.
#[test]
fn no_argument_replaces_one_that_all_commands_share() {
    fn walk(command: &Command, shared: &BTreeSet<Id>) {
        let (global, own): (Vec<&Arg>, Vec<&Arg>) = command.get_arguments().partition(|arg| arg.is_global_set());
        let taken = own.iter().find(|arg| shared.contains(arg.get_id()));
        assert!(taken.is_none(), "{}: {taken:?} has the name of an argument that it shares", command.get_name());
        let shared = shared.iter().cloned().chain(global.iter().map(|arg| arg.get_id().clone())).collect();
        command.get_subcommands().for_each(|command| walk(command, &shared));
    }
    walk(&Args::command(), &BTreeSet::new());
}

#[test]
fn every_command_can_be_given() {
    let mut given = 0;
    for words in shortest_command_lines(&Args::command()) {
        match Args::try_parse_from(&words) {
            Ok(_) => given += 1,
            // One of several is needed, which a definition does not tell.
            Err(error) => assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{words:?}: {error}"),
        }
    }
    assert!(given > 20, "only {given} commands were given");
}

/// Each command with nothing but what it requires.
fn shortest_command_lines(command: &Command) -> Vec<Vec<String>> {
    let mut words = vec![command.get_name().to_owned()];
    for arg in command.get_arguments().filter(|arg| arg.is_required_set()) {
        words.extend(arg.get_long().map(|long| format!("--{long}")));
        let possible = arg.get_possible_values();
        words.push(possible.first().map_or("1".to_owned(), |value| value.get_name().to_owned()));
    }
    if !command.has_subcommands() {
        return vec![words];
    }
    let below = command.get_subcommands().flat_map(shortest_command_lines);
    below.map(|below| words.iter().cloned().chain(below).collect()).collect()
}

#[test]
fn what_is_said_to_be_typed_can_be_typed() {
    let mut told = 0;
    for file in texts() {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in spans(&text, "chorus ") {
            told += 1;
            let words = line.split_whitespace().map(without_placeholders).filter(|word| word != "...");
            if let Err(error) = Args::try_parse_from(words) {
                // A command may be named without all that it takes.
                let named = [
                    ErrorKind::MissingRequiredArgument,
                    ErrorKind::MissingSubcommand,
                    ErrorKind::DisplayHelp,
                    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                ];
                assert!(named.contains(&error.kind()), "{}: `{line}`: {error}", file.display());
            }
        }
    }
    assert!(told > 15, "only {told} command lines were found");
}

#[test]
fn recipes_that_are_told_exist() {
    let justfile = std::fs::read_to_string(root().join("justfile")).unwrap();
    for file in texts() {
        for line in spans(&std::fs::read_to_string(&file).unwrap(), "just ") {
            let recipe = line.split_whitespace().nth(1).unwrap_or_default();
            let head = |line: &str| line.split([' ', ':']).next() == Some(recipe);
            assert!(justfile.lines().any(head), "{}: `{line}`: there is no such recipe", file.display());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Documents and sources: what people read, and what the program tells them.
fn texts() -> Vec<PathBuf> {
    let mut texts: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "jepsen/README.md"].iter().map(|name| root().join(name)).collect();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => texts.push(path),
            }
        }
    }
    texts
}

/// What stands between backquotes and begins with `head`; a text that goes on in the next line of a source is joined.
fn spans(text: &str, head: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ").replace("\n///", " ").replace("\n//!", " ");
    let opening = format!("`{head}");
    let spans = text.match_indices(&opening).filter_map(|(at, _)| text[at + 1..].split('`').next());
    spans.filter(|span| !span.contains('\n')).map(str::to_owned).collect()
}

/// A word of a format string with something in the place of what is filled in.
fn without_placeholders(word: &str) -> String {
    let mut filled = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        filled += before;
        filled += "1";
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    filled + rest
}
