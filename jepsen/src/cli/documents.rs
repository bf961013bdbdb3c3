//! What the documents say to type is something that this program takes.

use std::path::Path;

use clap::CommandFactory;

use super::*;

/// Command lines that are no calls of this program, and what shows that they are right.
const OTHERS: [(&str, &str); 2] = [
    ("cargo build --release", "how every Rust package is built"),
    ("CHORUS_PLANTED=two-lessors cargo test --features planted --lib store::lease", "the bug is in the table above it"),
];

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The arguments of every call of this program, and every other line in a block of code.
fn lines(document: &str) -> (Vec<String>, Vec<String>) {
    let (mut calls, mut others) = (Vec::new(), Vec::new());
    let blocks = document.split("\n```\n").skip(1).step_by(2);
    for line in blocks.flat_map(str::lines) {
        let line = line.split_once(" #").map_or(line, |(line, _)| line).trim();
        match line.split_once("cargo run -p jepsen -- ") {
            Some((_, arguments)) => calls.push(arguments.to_owned()),
            None => others.push(line.to_owned()),
        }
    }
    let named =
        document.match_indices("`jepsen ").filter_map(|(at, head)| document[at + head.len()..].split('`').next());
    calls.extend(named.map(str::to_owned));
    (calls, others)
}

#[test]
fn every_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_said_to_be_typed_can_be_typed() {
    let (calls, others) = lines(&document("README.md"));
    assert!(calls.len() >= 10, "{calls:?}");
    for line in &others {
        assert!(OTHERS.iter().any(|(known, _)| known == line), "`{line}` is neither a call nor known");
    }
    for (known, _) in OTHERS {
        assert!(others.iter().any(|line| line == known), "the document has no `{known}` any more");
    }
    let (more, _) = lines(&document("../README.md"));
    for call in calls.iter().chain(&more) {
        let words = ["jepsen"].into_iter().chain(call.split_whitespace());
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{call}: {error}"));
        takes(&cli.command).unwrap_or_else(|error| panic!("{call}: {error}"));
    }
}

/// Whether the names among the arguments mean something.
fn takes(command: &Action) -> anyhow::Result<()> {
    match command {
        Action::Run(args) => {
            workloads(&args.workload, Path::new("chorus"))?;
            Fault::parse(&args.nemesis)?;
        }
        Action::Soak(args) => {
            soaked(&args.workload, Path::new("chorus"))?;
            Fault::parse(&args.nemesis)?;
        }
        Action::Prove(args) => {
            prove::chosen(&args.only)?;
        }
        Action::Failover(_) | Action::Power(_) | Action::Upgrade(_) | Action::Check { .. } | Action::Clean => {}
    }
    Ok(())
}
