//! The floors of the house: a file imports from its own room and from lower floors only, and rooms on one floor never
//! import each other. The floors are those of the table at the top of `src/lib.rs`. Inside the rooms files form no
//! circles.
#![allow(clippy::disallowed_methods, reason = "reads the sources of this package")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod modules;

type Floors = BTreeMap<String, u32>;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms of the table in `lib.rs`, whose rows read ``//! | [`room`] | floor | what it is for |``.
fn floors() -> Floors {
    let map = fs::read_to_string(source().join("lib.rs")).expect("lib.rs is there");
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    let rows = rows.map(|row| {
        let (room, rest) = row.split_once("`] | ").expect("a row names its room");
        let floor = rest.split(" |").next().and_then(|floor| floor.parse().ok()).expect("a row names its floor");
        (room.to_owned(), floor)
    });
    rows.collect()
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).expect("a folder of sources").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room of a file below `src/`: its folder, or the file itself. `lib.rs` and `main.rs` have none.
fn room_of(relative: &Path) -> String {
    let first = relative.components().next().expect("a file below src").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The names that stand directly behind `crate::` in `line`, also in a group such as `crate::{disk::Place, world}`.
fn names_behind_crate(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(heads_of_group(group)),
            None => names.push(head(rest)),
        }
    }
    names
}

/// The first name of each member of a group, whose opening brace is passed already.
fn heads_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut member, mut heads) = (0_u32, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => heads.push(head(&std::mem::take(&mut member))),
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => (),
        }
        if depth == 0 && c != ',' {
            member.push(c);
        }
    }
    heads.push(head(&member));
    heads
}

fn head(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The sources without their line comments.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file is text");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Why a file of `room` may not name `other`.
fn refusal(floors: &Floors, room: &str, other: &str) -> Option<String> {
    let (&own, &theirs) = (floors.get(room)?, floors.get(other)?);
    if other == room || theirs < own {
        return None;
    }
    let relation = if theirs == own { "stands on the same floor" } else { "stands on a higher floor" };
    Some(format!("{room} ({own}) names {other} ({theirs}), which {relation}"))
}

#[test]
fn every_room_imports_from_lower_floors_only() {
    let (floors, mut paths, mut refused) = (floors(), Vec::new(), String::new());
    files(&source(), &mut paths);
    for path in paths {
        let relative = path.strip_prefix(source()).expect("a file below src");
        for other in names_behind_crate(&code_of(&path)) {
            if let Some(reason) = refusal(&floors, &room_of(relative), &other) {
                writeln!(refused, "src/{}: {reason}", relative.display()).expect("a string takes it");
            }
        }
    }
    assert!(refused.is_empty(), "\n{refused}");
}

#[test]
fn files_form_no_circles() {
    let mut paths = Vec::new();
    files(&source(), &mut paths);
    paths.retain(|path| !path.components().any(|part| part.as_os_str() == "tests"));
    let imports = modules::imports(&source(), &paths);
    let complaints = circles::complaints(&imports);
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_map_names_every_room_once() {
    let entries = fs::read_dir(source()).expect("src is there").map(|entry| entry.expect("an entry").file_name());
    let rooms = entries.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned());
    let mut rooms: Vec<String> = rooms.filter(|name| name != "lib" && name != "main").collect();
    rooms.sort();
    rooms.dedup();
    assert_eq!(rooms, floors().into_keys().collect::<Vec<_>>());
}

#[test]
fn names_are_found_in_paths_and_groups() {
    let names = names_behind_crate(
        "use crate::{disk::{Place, Point}, world};\nlet x = crate::store::client::new();\nmycrate::cli::x",
    );
    assert_eq!(names, ["disk", "world", "store"]);
}

#[test]
fn a_higher_room_and_a_neighbour_are_refused() {
    let floors = floors();
    assert!(refusal(&floors, "world", "disk").is_some_and(|reason| reason.ends_with("a higher floor")));
    assert!(refusal(&floors, "etcd", "kube").is_some_and(|reason| reason.ends_with("the same floor")));
    assert_eq!(refusal(&floors, "store", "raft"), None);
    assert_eq!(refusal(&floors, "store", "store"), None);
}
