//! Members that are whole nodes: store, Kubernetes API, scheduler, controllers, and an agent whose pods only appear to
//! run.
//!
//! ```text
//!   DIR/cluster.toml    the configuration    DIR/pki/    certificates, made by the first node that starts
//!   DIR/n1              a member's filesystem, which is its data directory
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;

use super::{Plan, member, namespaces};

/// Where a member serves the Kubernetes API.
pub const API_PORT: u16 = 6443;

/// Histories are written by plain clients. Nodes that are away soon count as gone, so that a run sees their pods
/// replaced.
const SETTINGS: &str =
    "[tls]\nclient = \"plain\"\n\n[kubernetes]\nnode-grace-s = 12\neviction-s = 10\nleader-lease-s = 5\n";

fn config_file(plan: &Plan) -> PathBuf {
    plan.dir.join("cluster.toml")
}

pub fn pki(plan: &Plan) -> PathBuf {
    plan.dir.join("pki")
}

pub fn write_config(plan: &Plan) -> anyhow::Result<()> {
    let mut text = format!("name = \"jepsen\"\n\n[timing]\nelection-ms = {}\n\n{SETTINGS}", plan.election_timeout_ms);
    for number in 1..=plan.members {
        let (name, host) = (member::name(number), namespaces::address(number));
        let _ = write!(
            text,
            "\n[[node]]\nname = \"{name}\"\nclient = \"{host}:2379\"\npeer = \"{host}:2380\"\napi = \"{host}:{API_PORT}\"\n\
             kubelet = \"{host}:10250\"\n"
        );
    }
    Ok(std::fs::write(config_file(plan), text)?)
}

/// How a node is started.
pub fn arguments(plan: &Plan, number: usize) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let words = [
        "node".to_owned(),
        format!("--config={}", path(&config_file(plan))),
        format!("--name={}", member::name(number)),
        format!("--data-dir={}", path(&plan.dir)),
        "--runtime=hollow".to_owned(),
    ];
    words.into_iter().chain(plan.flags.iter().cloned()).collect()
}

/// Waits until the first node has made the certificates of all.
pub async fn wait_for_pki(plan: &Plan, limit: Duration) -> anyhow::Result<()> {
    // Written last.
    let last = pki(plan).join(member::name(plan.members)).join("etcd-peer.crt");
    let deadline = tokio::time::Instant::now() + limit;
    while !last.exists() {
        if tokio::time::Instant::now() > deadline {
            bail!("n1 made no certificates; see {}", plan.dir.join("n1.log").display());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
