//! The etcd frontend over sockets, before a store whose answers are frozen.
#![allow(clippy::disallowed_methods, reason = "clients stand outside the world")]

mod frozen;
mod grpc;
mod http;
mod tls;

use std::net::SocketAddr;

use chorus::actor::Shutdown;
use chorus::etcd::{Config, Frontend, Limits};
use chorus::store::client::Client;
use chorus::world::{MemoryDisk, Network, World};
use frozen::Frozen;
use tokio::task::LocalSet;
use tonic::transport::Channel;

/// A frontend on a free port.
struct Running {
    frontend: Frontend,
    shutdown: Shutdown,
}

impl Running {
    async fn start(store: Frozen) -> Running {
        let shutdown = Shutdown::new();
        let frontend = Frontend::start(world(), config(), Client::new(store), shutdown.clone()).await.unwrap();
        Running { frontend, shutdown }
    }

    fn address(&self) -> SocketAddr {
        self.frontend.addresses()[0]
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address())).unwrap().connect().await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.begin();
        self.frontend.stopped().await;
    }
}

/// Real sockets, all actors on the test's own thread.
fn world() -> World {
    World { net: Network::real(), ..World::simulated(1, MemoryDisk::default()) }
}

fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".into()],
        limits: Limits { drain: std::time::Duration::from_millis(200), ..Limits::default() },
        election_timeout: std::time::Duration::from_millis(20),
        ..Config::default()
    }
}

/// Runs a test where actors can live.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(std::time::Duration::from_secs(30), test).await.expect("the test ends in time");
    });
}

#[test]
fn an_address_in_use_is_named() {
    run(async {
        let running = Running::start(Frozen::default()).await;
        let taken = running.address().to_string();
        let config = Config { listen: vec![taken.clone()], ..config() };
        let refused = Frontend::start(world(), config, Client::new(Frozen::default()), Shutdown::new()).await;
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with(&format!("{taken} is in use")), "{text}");
        running.stop().await;
    });
}

#[test]
fn a_nonsense_address_is_named() {
    run(async {
        let config = Config { listen: vec!["nowhere".into()], ..config() };
        let refused = Frontend::start(world(), config, Client::new(Frozen::default()), Shutdown::new()).await;
        assert!(refused.unwrap_err().to_string().starts_with("cannot listen on nowhere: "));
    });
}
