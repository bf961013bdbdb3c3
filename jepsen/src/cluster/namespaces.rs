//! Network namespaces, one a member and one for the clients, on a bridge that has its own.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The namespace of this process.
pub const CLIENT: &str = "jepsen-client";
const SWITCH: &str = "jepsen-switch";
/// What the names of members' namespaces begin with.
const MEMBERS: &str = "jepsen-n";
const CLIENT_HOST: usize = 100;

pub fn namespace(number: usize) -> String {
    format!("{MEMBERS}{number}")
}

/// The address of a member.
pub fn address(number: usize) -> String {
    format!("10.77.0.{number}")
}

/// Runs a command; its error tells what it printed.
pub fn run(words: &str) -> anyhow::Result<()> {
    let mut parts = words.split_whitespace();
    let program = parts.next().context("an empty command")?;
    let output = Command::new(program)
        .args(parts)
        // Ctrl-C in a terminal must not end half of what puts a fault in place or heals it.
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}: install it (iproute2, iptables, e2fsprogs, mount)"))?;
    if !output.status.success() {
        bail!("`{words}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Makes the network for `members` members. What an earlier run left behind is removed first.
pub fn make(members: usize) -> anyhow::Result<()> {
    remove();
    run(&format!("ip netns add {SWITCH}"))?;
    run(&format!("ip -n {SWITCH} link add br0 type bridge"))?;
    run(&format!("ip -n {SWITCH} link set br0 up"))?;
    for number in 1..=members {
        attach(&namespace(number), number)?;
    }
    attach(CLIENT, CLIENT_HOST)
}

/// Lets the members, which have mounts of their own, see it when a filesystem is mounted or unmounted here; otherwise
/// they would keep one alive whose power was cut. This process has its own mounts by now, so nobody else is affected.
pub fn share_mounts() -> anyhow::Result<()> {
    run("mount --make-rshared /")
}

fn attach(namespace: &str, host: usize) -> anyhow::Result<()> {
    run(&format!("ip netns add {namespace}"))?;
    run(&format!("ip -n {SWITCH} link add port{host} type veth peer name eth0 netns {namespace}"))?;
    run(&format!("ip -n {SWITCH} link set port{host} master br0 up"))?;
    run(&format!("ip -n {namespace} addr add {}/24 dev eth0", address(host)))?;
    run(&format!("ip -n {namespace} link set lo up"))?;
    run(&format!("ip -n {namespace} link set eth0 up"))
}

/// Removes all that [`make`] makes, and members that a run left there when it was killed. What is not there is no error.
pub fn remove() {
    let listed = Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        if name.starts_with(MEMBERS) {
            kill_all(name);
        }
        if name.starts_with("jepsen-") {
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}

fn kill_all(namespace: &str) {
    let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() else { return };
    for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            // One that has ended meanwhile is what was wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Lets `to` no longer hear from `from`.
pub fn cut(from: usize, to: usize) -> anyhow::Result<()> {
    run(&format!("ip netns exec {} iptables -w -A INPUT -s {} -j DROP", namespace(to), address(from)))
}

/// Drops a share of all packets between members at `number`; clients are spared.
pub fn lose(number: usize, share: f64, members: usize) -> anyhow::Result<()> {
    for other in (1..=members).filter(|other| *other != number) {
        run(&format!(
            "ip netns exec {} iptables -w -A INPUT -s {} -m statistic --mode random --probability {share:.2} -j DROP",
            namespace(number),
            address(other)
        ))?;
    }
    Ok(())
}

/// Makes everything that `number` sends wait in a narrow queue.
pub fn slow(number: usize) -> anyhow::Result<()> {
    run(&format!(
        "ip netns exec {} tc qdisc add dev eth0 root tbf rate 2mbit burst 3000 latency 400ms",
        namespace(number)
    ))
}

/// Hands what `number` receives from `from` to whoever holds that queue; without a holder it goes on at once.
pub fn queue(number: usize, from: usize, queue: u16) -> anyhow::Result<()> {
    run(&format!(
        "ip netns exec {} iptables -w -A INPUT -s {} -j NFQUEUE --queue-num {queue} --queue-bypass",
        namespace(number),
        address(from)
    ))
}

/// Takes back all of the above.
pub fn heal(members: usize) -> anyhow::Result<()> {
    for number in 1..=members {
        run(&format!("ip netns exec {} iptables -w -F INPUT", namespace(number)))?;
        // There is nothing to delete unless it was slowed down.
        let _ = run(&format!("ip netns exec {} tc qdisc del dev eth0 root", namespace(number)));
    }
    Ok(())
}
