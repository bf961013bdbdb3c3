//! What all pod actors of one agent share.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use tokio::sync::Semaphore;

use super::config::Capacity;
use super::runtime::ContainerRuntime;
use crate::disk::notebook::Notebook;
use crate::kube::client::Client;
use crate::kube::events::Recorder;
use crate::kube::informer::Informer;
use crate::world::{World, tls};

/// Pulls at the same time: more would only share the bandwidth.
pub const PULLS_MAX: usize = 2;

pub struct Context {
    pub world: World,
    pub client: Client,
    pub runtime: Arc<dyn ContainerRuntime>,
    pub events: Recorder,
    pub services: Informer<Service>,
    pub pulls: Arc<Semaphore>,
    /// `None` if no notebook is configured.
    pub notebook: Option<Notebook>,
    pub data_dir: PathBuf,
    pub address: IpAddr,
    pub capacity: Capacity,
    /// For probes and hooks over TLS, which trust any server, as the kubelet's do.
    pub any_server: tls::Client,
}
