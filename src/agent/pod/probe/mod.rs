//! Probes: whether a container has started, is ready, is alive.
//!
//! Each probe has a task, which runs it in its period and reports each change of the result; the pod actor starts and
//! ends these tasks.
//!
//! - [`result`]: the result of one probe
//! - [`http`]: by HTTP, which hooks use as well
//! - [`grpc`]: by gRPC's health service

mod grpc;
mod http;
mod result;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use self::result::join;
use super::lifecycle::PodSnapshot;
use crate::agent::error::Error;
use crate::agent::runtime::{Container, ContainerRuntime};
use crate::world::{World, tls};

pub use self::result::ProbeResult;

/// A container that is probed over the network.
pub struct Target<'a> {
    pub world: &'a World,
    pub tls: &'a tls::Client,
    pub spec: &'a Spec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub fn of(self, spec: &Spec) -> Option<&Probe> {
        match self {
            ProbeKind::Startup => spec.startup_probe.as_ref(),
            ProbeKind::Readiness => spec.readiness_probe.as_ref(),
            ProbeKind::Liveness => spec.liveness_probe.as_ref(),
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }
}

/// Which probes of a running container run now. One that is being stopped need not be alive, but its readiness still
/// counts.
pub fn wanted(snapshot: PodSnapshot<'_>, spec: &Spec, running: &Container, pod_ends: bool) -> &'static [ProbeKind] {
    let ends = pod_ends || snapshot.memory.kills.contains_key(&running.id);
    match snapshot.is_started(spec) {
        true if ends => &[ProbeKind::Readiness],
        true => &[ProbeKind::Readiness, ProbeKind::Liveness],
        false if ends || snapshot.is_in_post_start(running) => &[],
        false => &[ProbeKind::Startup],
    }
}

/// Turns results into verdicts: so many equal ones in a row decide.
#[derive(Clone, Copy, Debug)]
struct Counter {
    success_threshold: i32,
    failure_threshold: i32,
    run: i32,
    last: Option<bool>,
}

impl Counter {
    fn new(probe: &Probe) -> Counter {
        Counter {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            run: 0,
            last: None,
        }
    }

    /// The verdict, after enough equal results in a row.
    fn note(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        (self.run >= threshold).then_some(success)
    }
}

/// Runs one probe of one container.
pub struct Prober {
    pub world: World,
    pub tls: tls::Client,
    pub runtime: Arc<dyn ContainerRuntime>,
    pub container_id: String,
    pub kind: ProbeKind,
    pub probe: Probe,
    pub spec: Spec,
    pub address: IpAddr,
}

impl Prober {
    /// Probes until it is dropped. It calls `verdict` with each change of the verdict, `failure` with each failed
    /// result.
    pub async fn run(self, mut verdict: impl FnMut(bool), mut failure: impl FnMut(&str)) {
        let seconds = |value: Option<i32>, default: u64, least: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default).max(least))
        };
        let period = seconds(self.probe.period_seconds, 10, 1);
        let limit = seconds(self.probe.timeout_seconds, 1, 1);
        self.world.clock.sleep(seconds(self.probe.initial_delay_seconds, 0, 0)).await;
        let mut counter = Counter::new(&self.probe);
        let mut known = None;
        loop {
            let answer = match self.world.clock.timeout(limit, self.ask(limit)).await {
                Ok(answer) => answer,
                Err(_) => ProbeResult::Failure(self.no_answer(limit)),
            };
            let decided = match &answer {
                ProbeResult::Success => counter.note(true),
                ProbeResult::Failure(why) => {
                    failure(&format!("failed: {why}"));
                    counter.note(false)
                }
                ProbeResult::Unknown(why) => {
                    failure(&format!("errored: {why}"));
                    None
                }
            };
            if let Some(success) = decided
                && decided != known
            {
                known = decided;
                verdict(success);
                // A startup probe ends once it has decided.
                if self.kind == ProbeKind::Startup {
                    return;
                }
            }
            self.world.clock.sleep(period).await;
        }
    }

    async fn ask(&self, limit: Duration) -> ProbeResult {
        if let Some(exec) = &self.probe.exec {
            return self.run_command(exec.command.as_deref().unwrap_or_default(), limit).await;
        }
        let target = Target { world: &self.world, tls: &self.tls, spec: &self.spec };
        if let Some(http) = &self.probe.http_get {
            return target.http_get(http, self.address).await;
        }
        if let Some(grpc) = &self.probe.grpc {
            return grpc::check(&self.world, grpc, self.address).await;
        }
        let Some(tcp) = &self.probe.tcp_socket else { return ProbeResult::Success };
        let port = match port(&tcp.port, &self.spec) {
            Ok(port) => port,
            Err(why) => return ProbeResult::Unknown(why),
        };
        let host = tcp.host.clone().unwrap_or_else(|| self.address.to_string());
        match self.world.net.connect(&join(&host, port)).await {
            Ok(_) => ProbeResult::Success,
            Err(error) => ProbeResult::Failure(error.to_string()),
        }
    }

    fn no_answer(&self, limit: Duration) -> String {
        match &self.probe {
            Probe { exec: Some(_), .. } => Error::TimedOut(limit).to_string(),
            Probe { grpc: Some(_), .. } => format!("timeout: health rpc did not complete within {limit:?}"),
            _ => format!("no answer within {limit:?}"),
        }
    }

    async fn run_command(&self, command: &[String], limit: Duration) -> ProbeResult {
        match self.runtime.exec(&self.container_id, command, limit).await {
            Ok(outcome) if outcome.exit_code == 0 => ProbeResult::Success,
            Ok(outcome) => ProbeResult::Failure(outcome.output),
            Err(error @ Error::TimedOut(_)) => ProbeResult::Failure(error.to_string()),
            // The engine is at fault, or the container has just ended.
            Err(error) => ProbeResult::Unknown(error.to_string()),
        }
    }
}

/// A port by number, or by the name that the container gives it.
fn port(port: &IntOrString, spec: &Spec) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("no port {port:?}"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::agent::pod::memory::{Health, Kill, KillReason, Memory, PreStop};
    use crate::agent::runtime::{ContainerState, PodView, Sandbox};

    #[test]
    fn what_ends_is_asked_for_its_readiness_alone_and_shows_it() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": [{"name": "c",
            "readinessProbe": {"tcpSocket": {"port": 1}}, "startupProbe": {"tcpSocket": {"port": 1}}}]}}))
        .unwrap();
        let spec = &pod.spec.as_ref().unwrap().containers[0];
        let at = Timestamp::UNIX_EPOCH;
        let sandbox = Sandbox { id: "s".into(), attempt: 0, running: true, ip: None, created: at };
        let container = Container {
            id: "c0".into(),
            name: "c".into(),
            attempt: 0,
            sandbox: "s".into(),
            image: String::new(),
            image_id: String::new(),
            hash: String::new(),
            created: at,
            state: ContainerState::Running { started: at },
            termination_message: None,
        };
        let view = PodView { sandboxes: vec![sandbox], containers: vec![container.clone()] };
        let kill = Kill { reason: KillReason::PodEnds, deadline: at, pre_stop: PreStop::Running, signaled: false };
        let (all, startup) = ([ProbeKind::Readiness, ProbeKind::Liveness], [ProbeKind::Startup]);
        for (is_killed, pod_ends, started, expected) in [
            (false, false, true, &all[..]),
            (true, false, true, &all[..1]),
            (false, true, true, &all[..1]),
            (true, true, true, &all[..1]),
            (false, false, false, &startup[..]),
            (true, true, false, &all[..0]),
        ] {
            for ready in [false, true] {
                let mut memory = Memory::default();
                let health = Health { started: Some(true).filter(|_| started), ready: Some(ready), alive: None };
                memory.health.insert("c0".into(), health);
                if is_killed {
                    memory.kills.insert("c0".into(), kill.clone());
                }
                let snapshot = PodSnapshot { pod: &pod, view: &view, memory: &memory, now: at, probed: true };
                assert_eq!(wanted(snapshot, spec, &container, pod_ends), expected);
                assert_eq!(snapshot.is_ready(spec), ready && started, "it is as ready as the probe says");
            }
        }
    }

    #[test]
    fn so_many_equal_answers_decide() {
        let probe = Probe { failure_threshold: Some(3), success_threshold: Some(2), ..Probe::default() };
        let mut counter = Counter::new(&probe);
        let answers = [true, true, false, false, true, false, false, false, true, true];
        let verdicts: Vec<_> = answers.iter().map(|answer| counter.note(*answer)).collect();
        let none = None;
        let expected = [none, Some(true), none, none, none, none, none, Some(false), none, Some(true)];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn ports_are_numbers_or_names() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
        .unwrap();
        assert_eq!(port(&IntOrString::Int(80), &spec), Ok(80));
        assert_eq!(port(&IntOrString::String("web".into()), &spec), Ok(8080));
        assert_eq!(port(&IntOrString::String("81".into()), &spec), Ok(81));
        assert!(port(&IntOrString::String("none".into()), &spec).is_err());
        assert!(port(&IntOrString::Int(70000), &spec).is_err());
    }
}
