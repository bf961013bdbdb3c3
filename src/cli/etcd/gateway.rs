//! `etcd gateway start`: TCP connections passed on to members.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use super::subcommand::{self, Flag, Given, flag, switch};
use super::{logs, process};
use crate::actor::Shutdown;
use crate::cluster::server::gateway::Gateway;
use crate::cluster::server::values::{GoDuration, List};
use crate::world::World;

const USAGE: &str = "etcd gateway start [flags]";
const FLAGS: &[Flag] = &[
    flag("listen-addr", "127.0.0.1:23790", "Address to listen on."),
    flag("endpoints", "127.0.0.1:2379", "Members, separated by commas."),
    flag("retry-delay", "1m0s", "Time after which an endpoint that could not be reached is tried again."),
    flag("discovery-srv", "", "DNS domain whose SRV records name the members."),
    flag("discovery-srv-name", "", "Suffix of the SRV service name."),
    switch("insecure-discovery", "false", "Take SRV records without TLS."),
    flag("trusted-ca-file", "", "CA certificate file for members found by SRV records."),
];

pub async fn run(world: &World, arguments: &[String]) -> ExitCode {
    subcommand::exit_code(start(world, arguments).await)
}

async fn start(world: &World, arguments: &[String]) -> Result<ExitCode, String> {
    let given = match Given::to_start(USAGE, FLAGS, arguments)? {
        ControlFlow::Continue(given) => given,
        ControlFlow::Break(code) => return Ok(code),
    };
    if !given.text("discovery-srv").is_empty() {
        return Err("--discovery-srv: members are not looked up in DNS; name them in --endpoints".into());
    }
    let List(endpoints) = given.get("endpoints")?;
    let retry_delay = given.get::<GoDuration>("retry-delay")?.positive().unwrap_or(Duration::from_secs(300));
    logs::begin_plainly(false);
    logs::log_arguments();
    let shutdown = Shutdown::new();
    let listen = given.text("listen-addr");
    let gateway = Gateway::start(world, listen, &endpoints, retry_delay, shutdown.clone()).await;
    gateway.map_err(|error| error.to_string())?;
    process::run_until_interrupted(&shutdown).await;
    Ok(ExitCode::SUCCESS)
}
