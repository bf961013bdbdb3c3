//! Files that stand on each other: the strongly connected parts of the import graph.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::modules::Imports;

pub type Circle = BTreeSet<PathBuf>;

/// Every set of two or more files, each of which reaches all the others.
pub fn circles(imports: &Imports) -> Vec<Circle> {
    let reach: BTreeMap<&Path, BTreeSet<&Path>> =
        imports.keys().map(|file| (file.as_path(), reached(imports, file))).collect();
    let mut found: Vec<Circle> = Vec::new();
    for file in imports.keys() {
        if found.iter().any(|circle| circle.contains(file)) || !reach[file.as_path()].contains(file.as_path()) {
            continue;
        }
        let back = |other: &&&Path| reach.get(**other).is_some_and(|theirs| theirs.contains(file.as_path()));
        found.push(reach[file.as_path()].iter().filter(back).map(|other| (*other).to_owned()).collect());
    }
    found
}

fn reached<'a>(imports: &'a Imports, from: &Path) -> BTreeSet<&'a Path> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for next in imports.get(file).into_iter().flatten() {
            if seen.insert(next.as_path()) {
                open.push(next);
            }
        }
    }
    seen
}

fn arrows(imports: &Imports, circle: &Circle) -> Vec<String> {
    let line = |file: &PathBuf| {
        let inside: Vec<_> = imports[file].intersection(circle).map(|other| other.display().to_string()).collect();
        format!("{} -> {}", file.display(), inside.join(", "))
    };
    circle.iter().map(line).collect()
}

/// What is wrong with `imports`: the circles, each with its arrows.
pub fn complaints(imports: &Imports) -> Vec<String> {
    let complaint = |circle: &Circle| {
        format!("these files import each other in a circle:\n  {}", arrows(imports, circle).join("\n  "))
    };
    circles(imports).iter().map(complaint).collect()
}

fn graph(arrows: &[(&str, &[&str])]) -> Imports {
    let file = |name: &&str| PathBuf::from(*name);
    arrows.iter().map(|(from, to)| (file(from), to.iter().map(file).collect())).collect()
}

#[test]
fn a_circle_is_found_with_what_stands_on_it_left_out() {
    let imports = graph(&[("a.rs", &["b.rs"]), ("b.rs", &["c.rs", "leaf.rs"]), ("c.rs", &["b.rs"]), ("leaf.rs", &[])]);
    assert_eq!(circles(&imports), [Circle::from(["b.rs".into(), "c.rs".into()])]);
}

#[test]
fn a_complaint_shows_the_arrows_of_its_circle() {
    let imports = graph(&[("a.rs", &["e.rs"]), ("b.rs", &["a.rs"]), ("e.rs", &["b.rs"])]);
    let told = complaints(&imports);
    assert_eq!(told.len(), 1);
    assert!(told[0].ends_with("circle:\n  a.rs -> e.rs\n  b.rs -> a.rs\n  e.rs -> b.rs"), "{told:?}");
}
