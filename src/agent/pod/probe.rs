//! Probes: how a container is asked whether it has started, is ready, is alive.
//!
//! One task a probe asks in its rhythm and reports verdicts, each once; the pod actor starts and ends these tasks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container as Spec, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::agent::runtime::ContainerRuntime;
use crate::world::World;

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

/// Turns answers into verdicts: so many in a row decide.
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

    /// The verdict, once enough equal answers came in a row.
    fn note(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        (self.run >= threshold).then_some(success)
    }
}

/// What a prober asks.
pub struct Prober {
    pub world: World,
    pub runtime: Arc<dyn ContainerRuntime>,
    pub container_id: String,
    pub kind: ProbeKind,
    pub probe: Probe,
    pub spec: Spec,
    pub address: IpAddr,
}

impl Prober {
    /// Asks until it is dropped. `verdict` hears each change of verdict, `failure` each failed answer.
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
                Err(_) => Err(format!("no answer within {limit:?}")),
            };
            if let Err(why) = &answer {
                failure(why);
            }
            let decided = counter.note(answer.is_ok());
            if decided.is_some() && decided != known {
                known = decided;
                verdict(answer.is_ok());
                // A startup probe that has decided has done its work.
                if self.kind == ProbeKind::Startup {
                    return;
                }
            }
            self.world.clock.sleep(period).await;
        }
    }

    async fn ask(&self, limit: Duration) -> Result<(), String> {
        if let Some(exec) = &self.probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            return match self.runtime.exec(&self.container_id, &command, limit).await {
                Ok(outcome) if outcome.exit_code == 0 => Ok(()),
                Ok(outcome) => Err(outcome.output),
                Err(error) => Err(error.to_string()),
            };
        }
        if let Some(http) = &self.probe.http_get {
            return http_get(&self.world, http, self.address, &self.spec).await;
        }
        let (host, port) = match (&self.probe.tcp_socket, &self.probe.grpc) {
            (Some(tcp), _) => (tcp.host.clone(), port(&tcp.port, &self.spec)?),
            (None, Some(grpc)) => (None, u16::try_from(grpc.port).map_err(|error| error.to_string())?),
            (None, None) => return Ok(()),
        };
        let host = host.unwrap_or_else(|| self.address.to_string());
        self.world.net.connect(&join(&host, port)).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// An HTTP GET, as probes and hooks make it; an error unless the answer is below 400.
pub async fn http_get(world: &World, action: &HTTPGetAction, address: IpAddr, spec: &Spec) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err("the scheme HTTPS is not supported".to_owned());
    }
    let port = port(&action.port, spec)?;
    let host = action.host.clone().unwrap_or_else(|| address.to_string());
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = http::Request::get(path).header(http::header::HOST, join(&host, port));
    request = request.header(http::header::USER_AGENT, "kube-probe/1.35").header(http::header::ACCEPT, "*/*");
    for header in action.http_headers.iter().flatten() {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| text(&error))?;
    let stream = world.net.connect(&join(&host, port)).await.map_err(|error| text(&error))?;
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| text(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        // Read what fits in one frame, so that the server need not see a reset.
        let _ = response.into_body().frame().await;
        if status.as_u16() < 400 {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        }
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        _ = connection => Err("the connection was closed".to_owned()),
    }
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
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
    use super::*;

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
