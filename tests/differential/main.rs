//! The same random history fed to Chorus and to an etcd: every answer is equal but the ids, and so are the events of a
//! watch over all of it and the hash of the data, before and after compactions, defragmentations and restarts.
//!
//! ```text
//! history -> player -> server (Chorus)  \
//!                                        compare -> shrink -> the shortest history that still differs
//! history -> player -> server (etcd)    /
//! ```
//!
//! `ETCD_BINARY` names the etcd to compare with (default: `etcd` on the path), `CHORUS_DIFFERENTIAL_OPERATIONS` the
//! length of a history, `CHORUS_DIFFERENTIAL_SEED` its seed.
//!
//! - [`history`]: what can be asked, and random histories of it
//! - [`player`]: asks one server, and gives the answer without what may differ
//! - [`server`]: one running server
//! - [`shrink`]: the shortest history that still differs
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests stand outside the world they test")]

mod history;
mod player;
mod server;
mod shrink;

use history::Operation;
use libtest_mimic::{Arguments, Failed, Trial};
use player::Player;
use server::{Kind, Server};

/// Where two servers parted.
#[derive(Debug)]
struct Difference {
    /// The operation after which they did; the history's length if it was the closing look at all of the data.
    at: usize,
    what: String,
}

fn main() {
    let arguments = Arguments::from_args();
    let there = Kind::Etcd.version().is_some();
    let complete = std::env::var_os("CHORUS_TESTS_COMPLETE").is_some();
    if !there {
        eprintln!("chorus_answers_as_etcd_does is ignored: there is no etcd to compare with");
    }
    let trial = Trial::test("chorus_answers_as_etcd_does", chorus_answers_as_etcd_does);
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(!there && !complete)]).exit();
}

fn chorus_answers_as_etcd_does() -> Result<(), Failed> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let operations = number("CHORUS_DIFFERENTIAL_OPERATIONS").unwrap_or(600) as usize;
    let seed = number("CHORUS_DIFFERENTIAL_SEED").unwrap_or_else(rand::random);
    let history = history::random(seed, operations);
    let Some(first) = difference(&history) else { return Ok(()) };
    eprintln!("seed {seed}: they part at operation {}", first.at);
    let shortest = shrink::shrink(history, first, difference);
    let mut text = format!("seed {seed}, the shortest history that differs:\n");
    for operation in &shortest.history {
        text += &format!("  {operation:?}\n");
    }
    Err(format!("{text}{}", shortest.difference.what).into())
}

/// Plays the history on two fresh servers until they part.
fn difference(history: &[Operation]) -> Option<Difference> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let version = Kind::Etcd.version().expect("it was found");
        let mut chorus = Player::new(Server::start(Kind::Chorus).await, version).await;
        let mut etcd = Player::new(Server::start(Kind::Etcd).await, version).await;
        for (at, operation) in history.iter().enumerate() {
            let (ours, theirs) = (chorus.play(operation).await, etcd.play(operation).await);
            if ours != theirs {
                let what = format!("{operation:?}\nchorus: {ours:?}\netcd:   {theirs:?}");
                return Some(Difference { at, what });
            }
        }
        let (ours, theirs) = (chorus.events().await, etcd.events().await);
        let parted = ours.iter().zip(&theirs).position(|(our, their)| our != their);
        let at = history.len();
        if let Some(event) = parted {
            let what = format!("event {event}\nchorus: {:?}\netcd:   {:?}", ours[event], theirs[event]);
            return Some(Difference { at, what });
        }
        (ours.len() != theirs.len())
            .then(|| Difference { at, what: format!("chorus: {} events, etcd: {}", ours.len(), theirs.len()) })
    })
}
