//! The endpoint slice mirroring controller: copies Endpoints that users wrote, for a service without a selector, to
//! endpoint slices, which proxies read.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::addresses::Slice;
use super::context::ControllerContext;
use super::ownership;
use super::slices::{self, MANAGER_LABEL, SERVICE_LABEL};
use crate::kube::client::Client;
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// On Endpoints that are not mirrored, since others write their slices.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// On Endpoints that serve as a lock for leader election.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are not copied, since they are about the Endpoints object.
const OWN_ANNOTATIONS: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// At most so many addresses of each subset are mirrored; a slice can't hold more.
const ADDRESSES_MAX: usize = 1000;

struct Mirror {
    client: Client,
    endpoints: Informer<Endpoints>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

pub fn start(context: &ControllerContext, services: &Informer<Service>, endpoints: &Informer<Endpoints>) {
    let slices = Informer::of(&context.client.api::<EndpointSlice>())
        .labels(&format!("{MANAGER_LABEL}={MANAGER}"))
        .start(&context.world, &context.shutdown);
    let mirror = Mirror {
        client: context.client.clone(),
        endpoints: endpoints.clone(),
        services: services.clone(),
        slices: slices.clone(),
    };
    Builder::new("EndpointSliceMirroring", mirror)
        .of(endpoints)
        .of(services)
        .watches(&slices, |slice: &EndpointSlice| slices::service_of(slice).into_iter().collect())
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

#[async_trait::async_trait]
impl Reconcile for Mirror {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let by_hand = self.services.get(key).is_some_and(|service| !selects(&service));
        let endpoints = self.endpoints.get(key).filter(|endpoints| by_hand && is_mirrored(&endpoints.metadata));
        let (pattern, wanted) = match &endpoints {
            Some(endpoints) => (pattern(endpoints), endpoints.subsets.iter().flatten().flat_map(mirrored).collect()),
            None => (EndpointSlice::default(), Vec::new()),
        };
        slices::publish(&self.client, &self.slices, key, &pattern, wanted).await?;
        Ok(Requeue::No)
    }
}

fn selects(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|labels| !labels.is_empty())
}

fn is_mirrored(meta: &ObjectMeta) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(SKIP_LABEL));
    let leads = meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    meta.deletion_timestamp.is_none() && label.is_none_or(|skip| skip != "true") && !leads
}

/// What the slices of `endpoints` have in common.
fn pattern(endpoints: &Endpoints) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), name.clone());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    let mut annotations: BTreeMap<String, String> = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN_ANNOTATIONS.contains(&name.as_str()));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![ownership::controlled_by("v1", "Endpoints", meta)]),
            ..ObjectMeta::default()
        },
        ..EndpointSlice::default()
    }
}

/// The slices of a subset: one for each family of addresses.
fn mirrored(subset: &EndpointSubset) -> Vec<Slice> {
    let ports: Vec<discovery::EndpointPort> = (subset.ports.iter().flatten())
        .map(|port| discovery::EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: port.protocol.clone().or_else(|| Some("TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let mut families: BTreeMap<&'static str, Vec<discovery::Endpoint>> = BTreeMap::new();
    for (address, ready) in ready.chain(unready).take(ADDRESSES_MAX) {
        if let Some(family) = family(&address.ip) {
            families.entry(family).or_default().push(endpoint(address, ready));
        }
    }
    let slice = |(address_type, endpoints)| Slice { address_type, endpoints, ports: ports.clone() };
    families.into_iter().map(slice).collect()
}

fn family(ip: &str) -> Option<&'static str> {
    match ip.parse().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> discovery::Endpoint {
    discovery::Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(discovery::EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn addresses_of_each_family_make_a_slice() {
        let subset = json!({
            "addresses": [{"ip": "10.0.0.1", "hostname": "a"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"name": "db", "port": 5432, "protocol": "TCP"}],
        });
        let slices = mirrored(&serde_json::from_value(subset).unwrap());
        let told: Vec<_> = (slices.iter())
            .map(|slice| {
                let ready = |endpoint: &discovery::Endpoint| endpoint.conditions.as_ref().unwrap().ready.unwrap();
                let endpoints = slice.endpoints.iter().map(|e| (e.addresses[0].as_str(), ready(e)));
                (slice.address_type, endpoints.collect::<Vec<_>>(), slice.ports[0].port)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("IPv4", vec![("10.0.0.1", true), ("10.0.0.2", false)], Some(5432)),
                ("IPv6", vec![("fd00::1", true)], Some(5432)),
            ]
        );
    }

    #[test]
    fn locks_and_what_others_mirror_stay_out() {
        let meta = |labels: Value, annotations: Value| -> ObjectMeta {
            serde_json::from_value(json!({"labels": labels, "annotations": annotations})).unwrap()
        };
        for (labels, annotations, expected) in [
            (json!({}), json!({}), true),
            (json!({SKIP_LABEL: "true"}), json!({}), false),
            (json!({SKIP_LABEL: "false"}), json!({}), true),
            (json!({}), json!({LEADER: "{}"}), false),
        ] {
            assert_eq!(is_mirrored(&meta(labels.clone(), annotations)), expected, "{labels}");
        }
    }

    #[test]
    fn slices_carry_what_the_endpoints_say_and_not_what_is_said_of_them() {
        let annotations = json!({"a": "b", OWN_ANNOTATIONS[0]: "x", OWN_ANNOTATIONS[1]: "{}"});
        let meta = json!({"name": "db", "uid": "u", "labels": {"app": "db"}, "annotations": annotations});
        let pattern = pattern(&serde_json::from_value(json!({"metadata": meta})).unwrap()).metadata;
        assert_eq!(pattern.annotations.unwrap(), [("a".to_owned(), "b".to_owned())].into());
        assert_eq!(pattern.labels.unwrap()[SERVICE_LABEL], "db");
        assert_eq!(pattern.owner_references.unwrap()[0].kind, "Endpoints");
    }
}
