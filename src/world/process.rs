//! Processes of this machine: what the local launcher starts and disturbs, and what this one was started with. They have
//! no simulated twin: a simulation runs its nodes in one process.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, setrlimit, waitpid};
use serde::{Deserialize, Serialize};

/// Lets this process have as many file descriptors as an administrator allows it. Connections and data files take one
/// each, and the usual soft limit is there for programs that use `select`.
pub fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // What it has it keeps.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// How many file descriptors this process may have.
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Stands for what must not be shown.
pub const HIDDEN: &str = "[hidden]";

/// Whether the flag of that name says something that must not be shown.
pub fn is_secret(flag: &str) -> bool {
    flag.contains("password") || flag.ends_with("discovery-user")
}

/// What this program was started with. What must not be shown is hidden.
pub fn arguments() -> Vec<String> {
    without_secrets(std::env::args_os().map(|word| word.to_string_lossy().into_owned()))
}

fn without_secrets(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut after_secret = false;
    let shown = words.map(|word| {
        let (name, value) = word.split_once('=').map_or((&*word, None), |(name, value)| (name, Some(value)));
        let secret = name.starts_with('-') && is_secret(name);
        match (std::mem::replace(&mut after_secret, secret && value.is_none()), secret, value) {
            (true, ..) => HIDDEN.to_owned(),
            (_, true, Some(_)) => format!("{name}={HIDDEN}"),
            _ => word,
        }
    });
    shown.collect()
}

/// A process, told apart from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks between the machine's boot and the process's start.
    started_ticks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    Running,
    /// Stopped by a signal.
    Paused,
    Gone,
}

impl Process {
    /// Starts `program` in a process group of its own, so that a Ctrl-C meant for the caller does not reach it; its
    /// output is appended to `log`.
    #[allow(clippy::disallowed_methods, reason = "the one place that starts processes")]
    pub fn start(program: &Path, args: impl IntoIterator<Item = OsString>, log: &Path) -> io::Result<Process> {
        use std::os::unix::process::CommandExt;
        let output = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = std::process::Command::new(program)
            .args(args)
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok(Process { pid, started_ticks: stat(pid).map_or(0, |stat| stat.started_ticks) })
    }

    pub fn state(&self) -> ProcessState {
        self.reap();
        match stat(self.pid) {
            Some(stat) if stat.started_ticks != self.started_ticks => ProcessState::Gone,
            Some(Stat { state: 'T' | 't', .. }) => ProcessState::Paused,
            // The first thread may end before the others, which hold files and ports until they end, too.
            Some(Stat { state: 'Z' | 'X', threads: ..=1, .. }) | None => ProcessState::Gone,
            Some(_) => ProcessState::Running,
        }
    }

    /// Sends `signal`; a process that is gone is an error of kind `NotFound`.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.state() == ProcessState::Gone {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(kill_process(self.id()?, signal)?)
    }

    /// Resident memory in bytes.
    #[allow(clippy::disallowed_methods, reason = "the one place that looks at processes")]
    pub fn resident_bytes(&self) -> Option<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    /// Collects the exit status of a child of ours that ended; without effect on others.
    fn reap(&self) {
        if let Ok(pid) = self.id() {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }

    fn id(&self) -> io::Result<Pid> {
        Pid::from_raw(self.pid).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

struct Stat {
    state: char,
    threads: u64,
    started_ticks: u64,
}

/// The fields of `/proc/PID/stat` after the command name, which may itself hold spaces and parentheses.
#[allow(clippy::disallowed_methods, reason = "the one place that looks at processes")]
fn stat(pid: i32) -> Option<Stat> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let threads = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, threads, started_ticks: fields.nth(1)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_however_they_are_given() {
        let words = "etcd --name=a --discovery-password=p --discovery-user u:p --password p --data-dir d";
        let shown = without_secrets(words.split(' ').map(str::to_owned)).join(" ");
        let hidden = "--discovery-password=[hidden] --discovery-user [hidden] --password [hidden]";
        assert_eq!(shown, format!("etcd --name=a {hidden} --data-dir d"));
    }

    #[test]
    fn a_process_is_seen_running_paused_and_gone() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let process = Process::start(Path::new("sleep"), ["60".into()], log.path()).unwrap();
        let becomes = |wanted| std::iter::repeat_with(|| process.state()).take(1_000_000).any(|state| state == wanted);
        assert!(becomes(ProcessState::Running));
        process.signal(Signal::STOP).unwrap();
        assert!(becomes(ProcessState::Paused));
        process.signal(Signal::KILL).unwrap();
        assert!(becomes(ProcessState::Gone));
        assert_eq!(process.signal(Signal::TERM).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
