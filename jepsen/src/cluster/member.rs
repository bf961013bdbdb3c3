//! One member: a process in its namespace.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::clock::Clock;
use super::{Plan, disk::Disk, namespaces, node};

pub fn name(number: usize) -> String {
    format!("n{number}")
}

/// Where its peers reach it.
pub fn peer_url(number: usize) -> String {
    format!("http://{}:2380", namespaces::address(number))
}

/// The member as `--initial-cluster` has it.
pub fn initial(number: usize) -> String {
    format!("{}={}", name(number), peer_url(number))
}

/// A member's process and its disk.
pub struct Member {
    number: usize,
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    pub disk: Disk,
    /// Its own, where its clock is to be disturbed and can be.
    pub clock: Option<Clock>,
    child: Option<Child>,
    paused: bool,
}

impl Member {
    pub fn new(number: usize, plan: &Plan, disk: Disk, clock: Option<Clock>, initial: &str) -> Member {
        let log = plan.dir.join(format!("{}.log", name(number)));
        let mut member = Member {
            number,
            binary: plan.binary.clone(),
            arguments: Vec::new(),
            log,
            disk,
            clock,
            child: None,
            paused: false,
        };
        member.configure(plan, initial, "new");
        member
    }

    /// How it is started the next time.
    pub fn configure(&mut self, plan: &Plan, initial: &str, state: &str) {
        if plan.nodes {
            self.arguments = node::arguments(plan, self.number);
            return;
        }
        let address = namespaces::address(self.number);
        let mut arguments = Vec::new();
        // Chorus is an etcd by its sub-command, or by its name.
        if super::is_chorus(&plan.binary) {
            arguments.push("etcd".to_owned());
        }
        for (flag, value) in [
            ("name", name(self.number)),
            ("data-dir", self.disk.data().display().to_string()),
            ("listen-client-urls", format!("http://{address}:2379")),
            ("advertise-client-urls", format!("http://{address}:2379")),
            ("listen-peer-urls", peer_url(self.number)),
            ("initial-advertise-peer-urls", peer_url(self.number)),
            ("initial-cluster", initial.to_owned()),
            ("initial-cluster-state", state.to_owned()),
            ("heartbeat-interval", "100".to_owned()),
            ("election-timeout", plan.election_timeout_ms.to_string()),
            ("snapshot-count", plan.snapshot_count.to_string()),
        ] {
            arguments.push(format!("--{flag}={value}"));
        }
        arguments.extend(plan.flags.iter().cloned());
        self.arguments = arguments;
    }

    pub fn start(&mut self) -> anyhow::Result<()> {
        let mut log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        writeln!(log, "{}", super::BEGINS)?;
        let child = Command::new("ip")
            .args(["netns", "exec", &namespaces::namespace(self.number)])
            .arg(&self.binary)
            .args(&self.arguments)
            // Ctrl-C in a terminal is for the harness, which ends its members itself.
            .process_group(0)
            .envs(self.clock.iter().flat_map(Clock::environment))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        self.paused = false;
        Ok(())
    }

    /// Whether its process is there, be it paused.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// Lets it go on, or starts it if it is not there.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        self.resume();
        if !self.runs() {
            self.start()?;
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().try_into().ok()?)) {
            // Gone already is what was wanted, or will be seen by who waits for it.
            let _ = kill_process(pid, signal);
        }
    }

    /// kill -9
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Asks it to end, as an init system does, and waits until it has.
    pub async fn stop(&mut self, limit: Duration) -> anyhow::Result<()> {
        self.signal(Signal::TERM);
        let deadline = tokio::time::Instant::now() + limit;
        while self.runs() {
            if tokio::time::Instant::now() > deadline {
                bail!("{} does not end; see {}", name(self.number), self.log.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child = None;
        Ok(())
    }

    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    pub fn resume(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.signal(Signal::CONT);
        }
    }

    /// Ends it for good, with its disk.
    pub fn end(&mut self) {
        self.kill();
        self.disk.remove();
    }

    /// Kills it and removes its data, for a member that comes back as a new one.
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        self.kill();
        let data = self.disk.data();
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        Ok(())
    }
}

/// However a run ends, nothing is left of it.
impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}
