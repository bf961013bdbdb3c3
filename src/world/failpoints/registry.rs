//! All failpoints of this process, and what is to happen at each. Names are etcd's, as is what is said on standard
//! output.

use std::collections::BTreeMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::terms::{Action, Terms, Value};
use crate::world::names::listed;
use crate::world::{Clock, Random};

/// Every failpoint that there is.
pub const NAMES: &[&str] = &[
    // the log
    "raftBeforeSave",
    "raftAfterSave",
    "raftBeforeAdvance",
    "walBeforeSync",
    "walAfterSync",
    // messages between members
    "raftBeforeLeaderSend",
    "raftBeforeFollowerSend",
    "raftDropHeartbeat",
    // a snapshot that arrives
    "raftBeforeSaveSnap",
    "raftBeforeWALSaveSnaphot",
    "raftAfterSaveSnap",
    "raftBeforeApplySnap",
    "raftAfterApplySnap",
    "raftAfterWALRelease",
    "applyBeforeOpenSnapshot",
    "applyAfterOpenSnapshot",
    // applying
    "beforeApplyOneEntryNormal",
    "beforeApplyOneConfChange",
    "beforeWritebackBuf",
    "afterWritebackBuf",
    // the data files
    "commitBeforePreCommitHook",
    "commitAfterPreCommitHook",
    "beforeCommit",
    "afterCommit",
    "beforeStartDBTxn",
    "afterStartDBTxn",
    // compaction
    "compactBeforeCommitScheduledCompact",
    "compactAfterCommitScheduledCompact",
    "compactAfterAcquiredBatchTxLock",
    "compactBeforeCommitBatch",
    "compactAfterCommitBatch",
    "compactBeforeSetFinishedCompact",
    "compactAfterSetFinishedCompact",
    // defragmentation
    "defragOpenFileError",
    "defragBeforeCopy",
    "defragBeforeRename",
    "defragdbFail",
    // reads, watches, leases, members
    "beforeRangeStreamChunk",
    "beforeSendWatchResponse",
    "beforeSyncWatchers",
    "beforeMoveVictims",
    "beforeProgressIfSync",
    "beforeCheckpointInLeaseRenew",
    "beforeServeHTTPLeaseRenew",
    "beforeLookupWhenLeaseTimeToLive",
    "beforeLookupWhenForwardLeaseTimeToLive",
    "afterIsMemberExist",
    "beforePublishing",
];

/// The name of a place in the code; one that is not in the list does not compile.
pub const fn known(name: &'static str) -> &'static str {
    assert!(listed(NAMES, name), "no failpoint has this name");
    name
}

/// Why a failpoint was not set or told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("failpoint: failpoint does not exist")]
    NotThere,
    #[error("failpoint: failpoint is disabled")]
    Disabled,
    #[error("failpoint: could not parse terms")]
    Unreadable,
}

type Enabled = BTreeMap<&'static str, Terms>;

static ENABLED: Mutex<Enabled> = Mutex::new(BTreeMap::new());
static RANDOM: LazyLock<Random> = LazyLock::new(Random::from_os);

fn enabled() -> MutexGuard<'static, Enabled> {
    ENABLED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(name: &str) -> Result<&'static str, Error> {
    NAMES.iter().find(|known| **known == name).copied().ok_or(Error::NotThere)
}

pub fn enable(name: &str, text: &str) -> Result<(), Error> {
    let name = find(name)?;
    let terms = Terms::parse(text).ok_or(Error::Unreadable);
    let terms = terms.inspect_err(|error| println!("failed to enable \"{name}={text}\" ({error})"))?;
    enabled().insert(name, terms);
    Ok(())
}

pub fn disable(name: &str) -> Result<(), Error> {
    enabled().remove(find(name)?).map(drop).ok_or(Error::Disabled)
}

/// The terms of a failpoint, and how often one was carried out.
pub fn status(name: &str) -> Result<(String, u64), Error> {
    let name = find(name)?;
    enabled().get(name).map(|terms| (terms.text.clone(), terms.count)).ok_or(Error::Disabled)
}

/// The failpoints of `name=terms;name=terms`. The error is a text for the operator.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |pair: &str| match pair.split('=').collect::<Vec<_>>()[..] {
        [name, terms] => Ok((name.to_owned(), terms.to_owned())),
        _ => Err(format!("bad failpoint {pair:?}")),
    };
    text.split(';').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Answers under way: a panic waits until there is none, so that who sets it hears that it is set.
static ANSWERING: Mutex<usize> = Mutex::new(0);
static ANSWERED: Condvar = Condvar::new();
const PATIENCE: Duration = Duration::from_secs(1);

fn answering() -> MutexGuard<'static, usize> {
    ANSWERING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds panics off.
pub struct Answering(());

impl Answering {
    pub fn begin() -> Answering {
        *answering() += 1;
        Answering(())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        *answering() -= 1;
        ANSWERED.notify_all();
    }
}

/// What is left to do for the one who came to a failpoint.
enum Rest {
    Nothing,
    Sleep(Duration),
    Return(Value),
}

fn hit(name: &'static str) -> Rest {
    let next = enabled().get_mut(name).and_then(|terms| terms.next(&RANDOM));
    let Some((action, value)) = next else { return Rest::Nothing };
    match action {
        Action::Off => return Rest::Nothing,
        Action::Return => return Rest::Return(value),
        Action::Sleep => match value.duration() {
            Some(duration) => return Rest::Sleep(duration),
            None => println!("failpoint: ignoring sleep({}) on {name}", value.text()),
        },
        Action::Panic => end(name, &value),
        Action::Break => attach_debugger(),
        Action::Print => println!("failpoint print: {name}"),
    }
    Rest::Nothing
}

/// Ends the process at once, as a panic does in Go. No thread of ours may survive it.
fn end(name: &str, value: &Value) -> ! {
    drop(ANSWERED.wait_timeout_while(answering(), PATIENCE, |answering| *answering > 0));
    let what = if *value == Value::Nothing { name.to_owned() } else { value.text() };
    eprintln!("panic: failpoint panic: {what}");
    std::process::exit(2)
}

/// Starts a debugger on this process and gives it time to stop it.
#[allow(clippy::disallowed_methods, reason = "a debugger stops real threads")]
fn attach_debugger() {
    let (program, process) = (std::env::current_exe().unwrap_or_default(), std::process::id());
    match std::process::Command::new("gdb").arg(program).arg(process.to_string()).spawn() {
        Ok(_) => std::thread::sleep(Duration::from_secs(3)),
        Err(error) => println!("failpoint: no debugger: {error}"),
    }
}

/// Comes to a failpoint at which the thread may block.
#[allow(clippy::disallowed_methods, reason = "the one place where a sleep blocks a thread")]
pub fn block(name: &'static str) {
    let Rest::Sleep(duration) = hit(name) else { return };
    let runtime = tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match runtime {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => {
            tokio::task::block_in_place(|| std::thread::sleep(duration));
        }
        _ => std::thread::sleep(duration),
    }
}

/// Comes to a failpoint in async code.
pub async fn wait(name: &'static str, clock: &Clock) {
    if let Rest::Sleep(duration) = hit(name) {
        clock.sleep(duration).await;
    }
}

/// Comes to a failpoint that can make a call return: with this text.
pub fn returned(name: &'static str) -> Option<String> {
    match hit(name) {
        Rest::Return(value) => Some(value.text()),
        Rest::Nothing | Rest::Sleep(_) => None,
    }
}
