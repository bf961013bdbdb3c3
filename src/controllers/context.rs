//! What every controller gets at start.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use crate::actor::Shutdown;
use crate::kube::client::Client;
use crate::kube::events::Recorder;
use crate::kube::informer::Informer;
use crate::kube::leader_election::Leadership;
use crate::world::World;

#[derive(Clone)]
pub struct ControllerContext {
    pub world: World,
    pub client: Client,
    pub shutdown: Shutdown,
    pub leadership: Leadership,
    pub pods: Informer<Pod>,
    pub replica_sets: Informer<ReplicaSet>,
}

impl ControllerContext {
    pub fn recorder(&self, component: &str) -> Recorder {
        Recorder::start(&self.world, &self.client, component, "", &self.shutdown)
    }
}
