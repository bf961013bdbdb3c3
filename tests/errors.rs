//! The texts of errors: an error that has a cause tells it in its own text, since logs show nothing else, and whoever
//! prints a chain of causes leaves out what was told already.
#![allow(clippy::disallowed_methods, reason = "reads the sources of this package")]

use std::path::{Path, PathBuf};

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut sources) = (vec![root.join("src"), root.join("jepsen/src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    sources
}

/// The text of each error of thiserror, and the variant or structure that has it.
fn errors(source: &str) -> Vec<(&str, &str)> {
    let pieces = source.split("#[error(").skip(1);
    let pieces = pieces.filter_map(|piece| piece.split_once(")]"));
    pieces.map(|(text, rest)| (text, rest.split("\n}").next().unwrap_or(rest))).collect()
}

#[test]
fn an_error_tells_its_cause() {
    let mut causes = 0;
    for path in sources() {
        let source = std::fs::read_to_string(&path).expect("a source is text");
        for (text, item) in errors(&source) {
            let has_cause = ["#[from]", "#[source]", " source:"].iter().any(|mark| item.contains(mark));
            if has_cause {
                causes += 1;
                let tells = ["transparent", "{0", "{source", "{cause"].iter().any(|part| text.contains(part));
                assert!(tells, "{}: {text:?} does not tell its cause", path.display());
            }
        }
    }
    assert!(causes > 50, "only {causes} errors with a cause were found");
}

#[test]
fn nothing_but_the_terminal_prints_chains_of_causes() {
    for path in sources() {
        let source = std::fs::read_to_string(&path).expect("a source is text");
        // `{:#}` of an anyhow error tells each cause again.
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        assert!(!code.contains("error:#}"), "{}: print `sentence(&error)`", path.display());
    }
}
