//! Data directories in every format that a release has written: a member starts on each, and says what it said then.
//!
//! ```text
//!   tests/fixtures/data-directories/NAME/
//!     files/…     the directory, its files without the zeroes at their ends
//!     lengths     how long they are: a number and a path a line
//!     expected    what was asked, and what the member that wrote them answered
//! ```
//!
//! `just data-directory NAME BINARY` makes one; a change of a format adds one, and none is ever changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

use crate::server::{Server, chorus, free_ports};

/// What is asked of a member, in words between spaces.
const QUESTIONS: [&str; 6] = [
    "get  --prefix --write-out fields",
    "get  --prefix --write-out fields --rev 25",
    "get  --prefix --write-out fields --rev 20",
    "lease list",
    "user list",
    "role list",
];

/// Where the server says what differs from one run to the next.
const PASSING: [&str; 3] = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data-directories")
}

fn answers(server: &Server) -> String {
    let answer = |question: &str| {
        let words: Vec<&str> = question.split(' ').collect();
        let said = server.try_ctl(&words).unwrap_or_else(|| "refused\n".to_owned());
        let lasting = said.lines().filter(|line| !PASSING.iter().any(|passing| line.starts_with(passing)));
        let lines: String = lasting.map(|line| format!("{line}\n")).collect();
        format!("$ {question}\n{lines}")
    };
    QUESTIONS.into_iter().map(answer).collect()
}

pub fn every_format_is_read() -> Result<(), Failed> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(fixtures())?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    names.sort();
    assert!(names.len() > 1, "there was more than one format");
    for fixture in names {
        let directory = tempfile::tempdir()?;
        unpack(&fixture, directory.path())?;
        let server = Server::start(chorus(&["etcd"]), directory.path(), free_ports());
        let expected = fs::read_to_string(fixture.join("expected"))?;
        assert_eq!(answers(&server), expected, "{}", fixture.display());
        server.ctl(&["put", "written", "now"]);
        server.ctl(&["defrag"]);
        server.kill();
        // In the present format by now.
        let server = Server::start(chorus(&["etcd"]), directory.path(), free_ports());
        assert_eq!(server.ctl(&["get", "written", "--print-value-only"]), "now\n", "{}", fixture.display());
    }
    Ok(())
}

/// Makes the fixture that `CHORUS_FIXTURE` names, with `CHORUS_FIXTURE_BINARY` or the present binary.
pub fn make() -> Result<(), Failed> {
    let name = std::env::var("CHORUS_FIXTURE").map_err(|_| "CHORUS_FIXTURE names the fixture to make")?;
    let program = std::env::var("CHORUS_FIXTURE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_chorus").to_owned());
    let directory = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.arg("etcd");
    let server = Server::start(command, directory.path(), free_ports());
    for number in 0..24 {
        server.ctl(&["put", &format!("key-{}", number % 7), &format!("value {number}")]);
    }
    server.ctl(&["lease", "grant", "1000000000"]);
    let lease = server.ctl(&["lease", "list"]).lines().last().map(str::to_owned).expect("there is a lease");
    server.ctl(&["put", "leased", "x", "--lease", &lease]);
    server.ctl(&["del", "key-3"]);
    server.ctl(&["compact", "21"]);
    // Releases before users and roles refuse these.
    for words in ["role add reader", "role grant-permission reader read key- key.", "user add alice:secret"] {
        server.try_ctl(&words.split(' ').collect::<Vec<_>>());
    }
    // Up to here all is in the index, from here on in frames alone.
    server.ctl(&["defrag"]);
    server.ctl(&["put", "later", "in a frame"]);
    let expected = answers(&server);
    server.kill();
    let fixture = fixtures().join(name);
    pack(directory.path(), &fixture)?;
    fs::write(fixture.join("expected"), expected)?;
    Ok(())
}

/// Copies the files of `from` without the zeroes at their ends.
fn pack(from: &Path, fixture: &Path) -> std::io::Result<()> {
    let mut lengths = String::new();
    for path in files(from)? {
        let mut content = fs::read(&path)?;
        let name = path.strip_prefix(from).expect("it lies below").to_owned();
        lengths += &format!("{} {}\n", content.len(), name.display());
        let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        content.truncate(end);
        let copy = fixture.join("files").join(name);
        fs::create_dir_all(copy.parent().expect("it has one"))?;
        fs::write(copy, content)?;
    }
    fs::write(fixture.join("lengths"), lengths)
}

fn unpack(fixture: &Path, to: &Path) -> std::io::Result<()> {
    for line in fs::read_to_string(fixture.join("lengths"))?.lines() {
        let (length, name) = line.split_once(' ').expect("a number and a path");
        let path = to.join(name);
        fs::create_dir_all(path.parent().expect("it has one"))?;
        fs::copy(fixture.join("files").join(name), &path)?;
        fs::File::options().write(true).open(&path)?.set_len(length.parse().expect("a number"))?;
    }
    Ok(())
}

/// All files below `directory`, in order.
fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}
