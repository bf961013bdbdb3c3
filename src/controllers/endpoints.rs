//! The endpoints controllers: for each service with a selector one Endpoints object and as many endpoint slices as it
//! takes. What they hold is decided in [`addresses`](super::addresses).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::addresses;
use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use super::ownership;
use super::slices::{self, MANAGER_LABEL, SERVICE_LABEL};
use crate::kube::client::{Client, DeleteOptions};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::selector::Selector;
use crate::kube::status::Status;

/// On Endpoints that this controller writes.
const ENDPOINTS_MANAGER_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const ENDPOINTS_MANAGER: &str = "endpoint-controller";
/// On Endpoints and slices of a service without an address of its own.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// What both controllers read.
#[derive(Clone)]
struct Caches {
    services: Informer<Service>,
    pods: Informer<Pod>,
}

struct EndpointsObjects {
    client: Client,
    caches: Caches,
    endpoints: Informer<Endpoints>,
}

struct Slices {
    client: Client,
    caches: Caches,
    slices: Informer<EndpointSlice>,
}

/// Starts both controllers; the caches of services and of Endpoints serve others, too.
pub fn start(context: &ControllerContext) -> (Informer<Service>, Informer<Endpoints>) {
    let services = Informer::of(&context.client.api::<Service>()).start(&context.world, &context.shutdown);
    let caches = Caches { services: services.clone(), pods: context.pods.clone() };
    let endpoints = Informer::of(&context.client.api::<Endpoints>()).start(&context.world, &context.shutdown);
    let slices = Informer::of(&context.client.api::<EndpointSlice>())
        .labels(&format!("{MANAGER_LABEL}={MANAGER}"))
        .start(&context.world, &context.shutdown);

    let selecting = |services: &Informer<Service>| {
        let services = services.clone();
        move |pod: &Pod| services_of(&services, pod)
    };
    let objects =
        EndpointsObjects { client: context.client.clone(), caches: caches.clone(), endpoints: endpoints.clone() };
    Builder::new("Endpoints", objects)
        .of(&services)
        .of(&endpoints)
        .watches(&context.pods, selecting(&services))
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
    Builder::new("EndpointSlice", Slices { client: context.client.clone(), caches, slices: slices.clone() })
        .of(&services)
        .watches(&slices, |slice: &EndpointSlice| slices::service_of(slice).into_iter().collect())
        .watches(&context.pods, selecting(&services))
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
    (services, endpoints)
}

fn services_of(services: &Informer<Service>, pod: &Pod) -> Vec<Key> {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let selects = |service: &Arc<Service>| selector_of(service).is_some_and(|selector| selector.matches(&labels));
    services.in_namespace(namespace).into_iter().filter(selects).map(|service| Key::of(&service.metadata)).collect()
}

/// `None` for a service without a selector: others write its endpoints.
fn selector_of(service: &Service) -> Option<Selector> {
    let labels = service.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())?;
    Some(Selector::from_labels(labels))
}

impl Caches {
    fn backends(&self, service: &Service, namespace: &str, selector: &Selector) -> Backends {
        addresses::backends(service, &self.pods.select(namespace, selector))
    }
}

type Backends = BTreeMap<Vec<(Option<String>, i32, String)>, Vec<addresses::Backend>>;

#[async_trait::async_trait]
impl Reconcile for EndpointsObjects {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let api = self.client.api::<Endpoints>().namespaced(&key.namespace);
        let existing = self.endpoints.get(key);
        let Some(service) = self.caches.services.get(key) else {
            // Endpoints that this controller wrote are deleted with their service; others are not its own.
            if existing.is_some_and(|endpoints| is_ours(&endpoints.metadata)) {
                ignore_not_found(api.delete(&key.name, DeleteOptions::default()).await)?;
            }
            return Ok(Requeue::No);
        };
        let Some(selector) = selector_of(&service) else { return Ok(Requeue::No) };
        let (subsets, cut) = addresses::subsets(&self.caches.backends(&service, &key.namespace, &selector));
        let annotations = cut.then(|| BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())]));
        let mut labels = service.metadata.labels.clone().unwrap_or_default();
        labels.insert(ENDPOINTS_MANAGER_LABEL.to_owned(), ENDPOINTS_MANAGER.to_owned());
        if is_headless(&service) {
            labels.insert(HEADLESS_LABEL.to_owned(), String::new());
        }
        let wanted = Endpoints {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                labels: Some(labels),
                annotations,
                resource_version: existing.as_ref().and_then(|endpoints| endpoints.metadata.resource_version.clone()),
                ..Default::default()
            },
            subsets: Some(subsets).filter(|subsets| !subsets.is_empty()),
        };
        let written = match existing {
            None => api.create(&wanted).await?,
            Some(endpoints) if same_endpoints(&endpoints, &wanted) => return Ok(Requeue::No),
            Some(_) => api.update(&wanted).await?,
        };
        self.endpoints.reached(&written.metadata).await;
        Ok(Requeue::No)
    }
}

fn is_ours(meta: &ObjectMeta) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(ENDPOINTS_MANAGER_LABEL));
    label.is_some_and(|manager| manager == ENDPOINTS_MANAGER)
}

fn same_endpoints(a: &Endpoints, b: &Endpoints) -> bool {
    a.subsets == b.subsets && a.metadata.labels == b.metadata.labels && a.metadata.annotations == b.metadata.annotations
}

#[async_trait::async_trait]
impl Reconcile for Slices {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let service = self.caches.services.get(key);
        let selecting = service.as_ref().and_then(|service| Some((service, selector_of(service)?)));
        let (pattern, wanted) = match selecting {
            Some((service, selector)) => {
                (pattern(service), addresses::slices(&self.caches.backends(service, &key.namespace, &selector)))
            }
            None => (EndpointSlice::default(), Vec::new()),
        };
        slices::publish(&self.client, &self.slices, key, &pattern, wanted).await?;
        Ok(Requeue::No)
    }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// What the slices of a service have in common.
fn pattern(service: &Service) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), name.clone());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![ownership::controlled_by("v1", "Service", &service.metadata)]),
            ..Default::default()
        },
        ..EndpointSlice::default()
    }
}
