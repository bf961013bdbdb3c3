//! What goes wrong, and how it gets well again.

use std::time::Duration;

use chorus::world::Random;

use crate::history::History;
use crate::hosts::{CLIENTS, Hosts};
use crate::operator::{Ask, Desk};
use crate::swarm::{Swarm, one_of};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Some machines are cut off from the others; perhaps from the clients, too.
    Partition,
    /// Messages arrive in one direction only.
    OneWay,
    /// A link comes and goes.
    Flapping,
    Delay,
    Loss,
    /// A machine is not heard of for a while; then everything that was said to it and by it arrives at once.
    Pause,
    Kill,
    PowerLoss,
    /// All lose their power at once.
    Blackout,
    /// While a member is down, one bit of one of its files changes.
    BitFlip,
    DiskFull,
    SlowDisk,
    /// A machine comes back with its wall clock ahead.
    ClockSkew,
    AddMember,
    AddLearner,
    RemoveMember,
    MoveLeader,
    Defragment,
}

impl Fault {
    pub const ALL: [Fault; 18] = [
        Fault::Partition,
        Fault::OneWay,
        Fault::Flapping,
        Fault::Delay,
        Fault::Loss,
        Fault::Pause,
        Fault::Kill,
        Fault::PowerLoss,
        Fault::Blackout,
        Fault::BitFlip,
        Fault::DiskFull,
        Fault::SlowDisk,
        Fault::ClockSkew,
        Fault::AddMember,
        Fault::AddLearner,
        Fault::RemoveMember,
        Fault::MoveLeader,
        Fault::Defragment,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Partition => "partition",
            Fault::OneWay => "one-way partition",
            Fault::Flapping => "flapping link",
            Fault::Delay => "delay",
            Fault::Loss => "loss",
            Fault::Pause => "pause",
            Fault::Kill => "kill",
            Fault::PowerLoss => "power loss",
            Fault::Blackout => "blackout",
            Fault::BitFlip => "bit flip",
            Fault::DiskFull => "full disk",
            Fault::SlowDisk => "slow disk",
            Fault::ClockSkew => "clock skew",
            Fault::AddMember => "member added",
            Fault::AddLearner => "learner added",
            Fault::RemoveMember => "member removed",
            Fault::MoveLeader => "leader moved",
            Fault::Defragment => "defragmentation",
        }
    }

    /// Whether it can happen to a cluster of `members`.
    pub fn is_possible(self, members: u64, control_plane: bool) -> bool {
        match self {
            Fault::AddMember | Fault::AddLearner | Fault::Defragment => !control_plane,
            Fault::RemoveMember | Fault::BitFlip => !control_plane && members > 2,
            Fault::MoveLeader => !control_plane && members > 1,
            _ => true,
        }
    }
}

type Undo = Box<dyn FnOnce(&mut Hosts<'_>, &Random)>;

/// Makes faults happen, and ends them.
pub struct Faults {
    random: Random,
    swarm: Swarm,
    history: History,
    desk: Desk,
    next: Duration,
    /// What ends a fault, and when.
    pending: Vec<(Duration, Undo)>,
}

impl Faults {
    pub fn new(random: Random, swarm: Swarm, history: History, desk: Desk) -> Faults {
        Faults { random, swarm, history, desk, next: Duration::ZERO, pending: Vec::new() }
    }

    /// Ends faults whose time has come, and begins the next one if its time has come.
    pub fn go_on(&mut self, hosts: &mut Hosts<'_>) {
        let now = hosts.now();
        self.end_those(hosts, |until| until <= now);
        if now >= self.next {
            let fault = one_of(&self.random, &self.swarm.faults);
            self.next = now + self.random.duration(self.swarm.calm.clone());
            if self.begin(fault, hosts).is_some() {
                self.history.count(fault.name());
            }
        }
    }

    /// Everything is well again.
    pub fn end_all(&mut self, hosts: &mut Hosts<'_>) {
        self.end_those(hosts, |_| true);
        hosts.mend_network();
        for name in hosts.members() {
            hosts.start(&name);
        }
    }

    fn end_those(&mut self, hosts: &mut Hosts<'_>, over: impl Fn(Duration) -> bool) {
        let (due, pending) = std::mem::take(&mut self.pending).into_iter().partition(|(until, _)| over(*until));
        self.pending = pending;
        let due: Vec<(Duration, Undo)> = due;
        due.into_iter().for_each(|(_, undo)| undo(hosts, &self.random));
    }

    /// Ends what begins now after a while.
    fn later(&mut self, hosts: &Hosts<'_>, undo: impl FnOnce(&mut Hosts<'_>, &Random) + 'static) {
        let until = hosts.now() + self.random.duration(Duration::from_millis(100)..Duration::from_millis(4000));
        self.pending.push((until, Box::new(undo)));
    }

    /// `None`: it did not happen, or not yet.
    fn begin(&mut self, fault: Fault, hosts: &mut Hosts<'_>) -> Option<()> {
        let up = hosts.up();
        let victim = (!up.is_empty()).then(|| one_of(&self.random, &up))?;
        self.history.note(format_args!("fault: {} for {victim}", fault.name()));
        match fault {
            Fault::Partition => return self.partition(hosts, victim),
            Fault::OneWay => return self.one_way(hosts, victim),
            Fault::Flapping => self.flap(hosts, victim, 4),
            Fault::Delay => self.delay(hosts, victim),
            Fault::Loss => self.lose(hosts),
            Fault::Pause => self.pause(hosts, victim),
            Fault::Kill => {
                hosts.kill(&victim);
                self.later(hosts, move |hosts, _| hosts.start(&victim));
            }
            Fault::PowerLoss => self.cut_power(hosts, victim),
            Fault::Blackout => up.into_iter().for_each(|name| self.cut_power(hosts, name)),
            Fault::BitFlip => return self.flip_bit(hosts, victim),
            Fault::DiskFull => self.fill(hosts, victim),
            Fault::SlowDisk => self.slow_disk_down(hosts, victim),
            Fault::ClockSkew => {
                let ahead = self.random.duration(Duration::ZERO..Duration::from_secs(100_000));
                hosts.seats[&victim].state().clock_ahead = ahead;
                hosts.kill(&victim);
                hosts.start(&victim);
            }
            Fault::AddMember => return self.ask(Ask::Add { learner: false }),
            Fault::AddLearner => return self.ask(Ask::Add { learner: true }),
            Fault::RemoveMember => return self.ask(Ask::Remove(victim)),
            Fault::MoveLeader => return self.ask(Ask::MoveLeader(victim)),
            Fault::Defragment => return self.ask(Ask::Defragment(victim)),
        }
        Some(())
    }

    /// It happens if and when the operator has managed it, who then counts it.
    fn ask(&self, ask: Ask) -> Option<()> {
        self.desk.ask(ask);
        None
    }

    fn partition(&mut self, hosts: &mut Hosts<'_>, victim: String) -> Option<()> {
        let together = one_of(&self.random, &hosts.members());
        let side = if self.random.within(0..2) == 0 { vec![victim] } else { vec![victim, together] };
        let mut links = Vec::new();
        for name in &side {
            let apart = |other: &String| !side.contains(other) && (other != CLIENTS || self.random.within(0..2) == 0);
            let others: Vec<String> = hosts.others(name).into_iter().filter(apart).collect();
            links.extend(others.into_iter().map(|other| (name.clone(), other)));
        }
        if links.is_empty() {
            return None;
        }
        links.iter().for_each(|(one, other)| hosts.network().partition(one.as_str(), other.as_str()));
        self.later(hosts, move |hosts, _| {
            links.iter().for_each(|(one, other)| hosts.network().repair(one.as_str(), other.as_str()));
        });
        Some(())
    }

    fn one_way(&mut self, hosts: &mut Hosts<'_>, victim: String) -> Option<()> {
        let deaf = self.random.within(0..2) == 0;
        let others = hosts.others(&victim).into_iter().filter(|other| other != CLIENTS);
        let links: Vec<_> =
            others.map(|other| if deaf { (other, victim.clone()) } else { (victim.clone(), other) }).collect();
        if links.is_empty() {
            return None;
        }
        links.iter().for_each(|(from, to)| hosts.network().partition_oneway(from.as_str(), to.as_str()));
        self.later(hosts, move |hosts, _| {
            links.iter().for_each(|(from, to)| hosts.network().repair_oneway(from.as_str(), to.as_str()));
        });
        Some(())
    }

    fn flap(&mut self, hosts: &mut Hosts<'_>, victim: String, times: u32) {
        let other = one_of(&self.random, &hosts.others(&victim));
        let beat = Duration::from_millis(self.random.within(50..500));
        for turn in 0..times * 2 {
            let (one, other) = (victim.clone(), other.clone());
            let at = hosts.now() + beat * turn;
            self.pending.push((
                at,
                Box::new(move |hosts, _| match turn % 2 {
                    0 => hosts.network().partition(one.as_str(), other.as_str()),
                    _ => hosts.network().repair(one.as_str(), other.as_str()),
                }),
            ));
        }
    }

    fn delay(&mut self, hosts: &mut Hosts<'_>, victim: String) {
        let slow = self.random.duration(Duration::from_millis(30)..Duration::from_millis(800));
        let (usual, others) = (self.swarm.latency_max, hosts.others(&victim));
        let set = move |hosts: &mut Hosts<'_>, latency| {
            for other in &others {
                hosts.network().set_link_max_message_latency(victim.as_str(), other.as_str(), latency);
            }
        };
        set(hosts, slow);
        self.later(hosts, move |hosts, _| set(hosts, usual));
    }

    fn lose(&mut self, hosts: &mut Hosts<'_>) {
        let rate = self.random.within(1..30) as f64 / 1000.0;
        hosts.network().set_fail_rate(rate);
        self.later(hosts, |hosts, _| hosts.network().set_fail_rate(0.0));
    }

    fn pause(&mut self, hosts: &mut Hosts<'_>, victim: String) {
        let others = hosts.others(&victim);
        others.iter().for_each(|other| hosts.network().hold(victim.as_str(), other.as_str()));
        self.later(hosts, move |hosts, _| {
            others.iter().for_each(|other| hosts.network().release(victim.as_str(), other.as_str()));
        });
    }

    fn cut_power(&mut self, hosts: &mut Hosts<'_>, victim: String) {
        hosts.cut_power(&victim, &self.random);
        self.later(hosts, move |hosts, _| hosts.start(&victim));
    }

    fn fill(&mut self, hosts: &mut Hosts<'_>, victim: String) {
        let room = self.random.within(0..20_000) as usize;
        ail(hosts, &victim);
        let disk = hosts.seats[&victim].state().disk.clone();
        disk.limit(Some(disk.used() + room));
        self.later(hosts, move |hosts, _| {
            hosts.seats[&victim].state().disk.limit(None);
            recover(hosts, &victim);
        });
    }

    fn slow_disk_down(&mut self, hosts: &mut Hosts<'_>, victim: String) {
        let lag = self.random.duration(Duration::from_millis(5)..Duration::from_millis(600));
        hosts.seats[&victim].state().disk.slow_down(lag);
        self.later(hosts, move |hosts, _| hosts.seats[&victim].state().disk.slow_down(Duration::ZERO));
    }

    /// The member is tried out in a room of its own: it must say that something is wrong, or do everything right. Then
    /// it gets back what it had.
    fn flip_bit(&mut self, hosts: &mut Hosts<'_>, victim: String) -> Option<()> {
        // Whatever else is wrong might end while the member is tried out, and let it out.
        let all_is_well = self.pending.is_empty() && hosts.up().len() == hosts.members().len();
        let mut files = hosts.files(&victim);
        files.retain(|(_, bytes)| *bytes > 0);
        if !all_is_well || files.is_empty() {
            return None;
        }
        hosts.kill(&victim);
        let image = hosts.seats[&victim].state().disk.image();
        let (path, bytes) = one_of(&self.random, &files);
        let bit = self.random.within(0..bytes * 8);
        self.history.note(format_args!("bit {bit} of {} flips", path.display()));
        hosts.seats[&victim].state().disk.flip_bit(&path, bit).expect("the file was listed");
        let others = hosts.others(&victim);
        others.iter().for_each(|other| hosts.network().partition(victim.as_str(), other.as_str()));
        ail(hosts, &victim);
        hosts.start(&victim);
        let history = self.history.clone();
        let end = move |hosts: &mut Hosts<'_>, _: &Random| {
            let told = !hosts.is_up(&victim) || hosts.seats[&victim].state().refused.is_some();
            history.count(if told { "bit flip told" } else { "bit flip without effect" });
            if hosts.is_up(&victim) {
                hosts.kill(&victim);
            }
            recover(hosts, &victim);
            hosts.put_disk(&victim, image);
            others.iter().for_each(|other| hosts.network().repair(victim.as_str(), other.as_str()));
            hosts.start(&victim);
        };
        self.next = hosts.now() + Duration::from_secs(1);
        self.pending.push((self.next, Box::new(end)));
        Some(())
    }
}

/// From here on the machine's process may end because of its disk.
fn ail(hosts: &mut Hosts<'_>, name: &str) {
    *hosts.ailing.entry(name.to_owned()).or_default() += 1;
}

fn recover(hosts: &mut Hosts<'_>, name: &str) {
    let ailing = hosts.ailing.get_mut(name).expect("it ailed before");
    *ailing -= 1;
    if *ailing == 0 {
        hosts.ailing.remove(name);
    }
    let refused = hosts.seats[name].state().refused.take();
    if refused.is_some() && hosts.is_up(name) {
        hosts.kill(name);
        hosts.start(name);
    }
}
