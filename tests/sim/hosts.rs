//! The simulated machines, and what can be done to them from outside.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use chorus::actor::metrics::Exposition;
use chorus::world::{Disk, MemoryDisk, Random};

use crate::history::History;
use crate::member::Seat;

/// Where the clients are.
pub const CLIENTS: &str = "clients";

/// What went through the panic hook: where and what.
static PANIC: Mutex<Option<(Option<tokio::runtime::Id>, String)>> = Mutex::new(None);

/// How long whoever restarts processes waits.
const RESTART: Duration = Duration::from_millis(700);

/// Reads what panics say; each ends the process that a host stands for, if it may end.
pub fn hear_panics() {
    let usual = std::panic::take_hook();
    #[allow(clippy::disallowed_methods, reason = "many processes share the one of a simulation")]
    std::panic::set_hook(Box::new(move |info| {
        let runtime = tokio::runtime::Handle::try_current().ok().map(|handle| handle.id());
        let mut first = PANIC.lock().expect("nothing in here panics");
        if first.is_none() {
            *first = Some((runtime, info.to_string()));
        }
        usual(info);
    }));
}

/// The machines of one simulation.
pub struct Hosts<'a> {
    sim: turmoil::Sim<'a>,
    history: History,
    pub seats: BTreeMap<String, Seat>,
    /// Without power, or without a process for the moment.
    down: BTreeMap<String, Down>,
    /// Whose disk does not do what a disk should, so that their process may end.
    pub ailing: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Down {
    /// Until somebody starts it.
    Fallen,
    /// Its process ended by itself, and is started again at this time.
    Ended(Duration),
}

impl<'a> Hosts<'a> {
    pub fn new(sim: turmoil::Sim<'a>, history: History) -> Hosts<'a> {
        Hosts { sim, history, seats: BTreeMap::new(), down: BTreeMap::new(), ailing: BTreeMap::new() }
    }

    pub fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Adds a machine that runs `software` whenever it is up.
    pub fn add<F>(&mut self, seat: Seat, software: impl Fn(Seat) -> F + 'a)
    where
        F: Future<Output = turmoil::Result> + 'static,
    {
        let name = seat.state().name.clone();
        self.seats.insert(name.clone(), seat.clone());
        self.sim.host(name, move || software(seat.clone()));
    }

    pub fn add_clients(&mut self, software: impl Future<Output = turmoil::Result> + 'static) {
        self.sim.client(CLIENTS, software);
    }

    /// Lets a little time pass everywhere.
    pub fn step(&mut self) {
        match catch_unwind(AssertUnwindSafe(|| self.sim.step())) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => panic!("the simulation ended: {error}"),
            Err(panic) => {
                let heard = PANIC.lock().expect("nothing in here panics").take();
                match heard {
                    Some((Some(runtime), text)) => self.process_ended(runtime, &text),
                    _ => std::panic::resume_unwind(panic),
                }
            }
        }
        self.history.pass_to(self.now());
        self.look_after_processes();
    }

    fn process_ended(&mut self, runtime: tokio::runtime::Id, text: &str) {
        let at = self.seats.iter().find(|(_, seat)| seat.is_on(runtime)).map(|(name, _)| name.clone());
        let name = at.unwrap_or_else(|| panic!("outside of all members: {text}"));
        let expected = text.contains("consensus has stopped") || text.contains("sync failed");
        assert!(expected && self.ailing.contains_key(&name), "the process of {name} ended: {text}");
        self.history.count("processes ended");
        self.history.note(format_args!("the process of {name} ends"));
        self.stop(&name);
        self.down.insert(name, Down::Ended(self.now() + RESTART));
    }

    /// As an init system does: what has ended or refused to start is started again, unless it is no member any more.
    fn look_after_processes(&mut self) {
        let now = self.now();
        let mut again = Vec::new();
        for (name, seat) in &self.seats {
            if seat.state().removed {
                continue;
            }
            match self.down.get(name) {
                Some(Down::Ended(until)) if *until <= now => again.push(name.clone()),
                None if seat.state().refused.is_some() => {
                    let refused = seat.state().refused.take();
                    assert!(self.ailing.contains_key(name), "{name} did not start: {refused:?}");
                    self.down.insert(name.clone(), Down::Ended(now + RESTART));
                }
                _ => {}
            }
        }
        again.iter().for_each(|name| self.start(name));
    }

    fn stop(&mut self, name: &str) {
        self.count_snapshots_of(name);
        self.sim.crash(name);
        self.seats[name].state().running = None;
    }

    /// Counts the snapshots that members which run now have received.
    pub fn count_snapshots(&self) {
        self.seats.keys().for_each(|name| self.count_snapshots_of(name));
    }

    fn count_snapshots_of(&self, name: &str) {
        let Some(running) = self.seats[name].state().running.clone() else { return };
        let mut text = Exposition::default();
        running.replica.metrics().expose(&mut text);
        let received =
            |line: &&str| line.starts_with("etcd_network_snapshot_receive_success{") && !line.ends_with(" 0");
        text.into_text().lines().filter(received).for_each(|_| self.history.count("snapshots received"));
    }

    /// Ends the process at once. What it wrote stays.
    pub fn kill(&mut self, name: &str) {
        self.history.note(format_args!("{name} is killed"));
        self.stop(name);
        self.down.insert(name.to_owned(), Down::Fallen);
    }

    /// As [`kill`](Hosts::kill), and what was not synced is lost, or torn.
    pub fn cut_power(&mut self, name: &str, random: &Random) {
        self.history.note(format_args!("{name} loses its power"));
        self.stop(name);
        self.seats[name].state().disk.crash(random);
        self.down.insert(name.to_owned(), Down::Fallen);
    }

    pub fn start(&mut self, name: &str) {
        if self.down.remove(name).is_some() {
            self.history.note(format_args!("{name} is started"));
            self.sim.bounce(name);
        }
    }

    pub fn is_up(&self, name: &str) -> bool {
        !self.down.contains_key(name)
    }

    /// Members that have not been removed, by name.
    pub fn members(&self) -> Vec<String> {
        self.seats.iter().filter(|(_, seat)| !seat.state().removed).map(|(name, _)| name.clone()).collect()
    }

    /// Members whose process runs, by name.
    pub fn up(&self) -> Vec<String> {
        self.members().into_iter().filter(|name| self.is_up(name)).collect()
    }

    /// Every machine but `name`, the clients' one included.
    pub fn others(&self, name: &str) -> Vec<String> {
        let all = self.seats.keys().map(String::as_str).chain([CLIENTS]);
        all.filter(|other| *other != name).map(str::to_owned).collect()
    }

    /// The network between machines, to be disturbed.
    pub fn network(&mut self) -> &mut turmoil::Sim<'a> {
        &mut self.sim
    }

    /// Every link carries messages again.
    pub fn mend_network(&mut self) {
        self.sim.set_fail_rate(0.0);
        for name in self.seats.keys() {
            for other in self.others(name) {
                self.sim.release(name.as_str(), other.as_str());
            }
        }
    }

    /// The files on a machine's disk and their lengths.
    pub fn files(&self, name: &str) -> Vec<(PathBuf, u64)> {
        let disk = Disk::memory(self.seats[name].state().disk.clone());
        let (mut open, mut files) = (vec![PathBuf::from("/data")], Vec::new());
        while let Some(path) = open.pop() {
            match disk.read(&path) {
                Ok(bytes) => files.push((path, bytes.len() as u64)),
                Err(_) => open.extend(disk.list(&path).unwrap_or_default().iter().map(|name| path.join(name))),
            }
        }
        files
    }

    /// Gives a machine another disk; it must be down.
    pub fn put_disk(&mut self, name: &str, disk: MemoryDisk) {
        assert!(!self.is_up(name), "disks are not changed in a machine that runs");
        self.seats[name].state().disk = disk;
    }
}
