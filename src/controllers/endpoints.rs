//! The endpoints controllers: for each service with a selector one Endpoints object and as many endpoint slices as it
//! takes. What they hold is decided in [`addresses`](super::addresses).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Kit;
use super::addresses::{self, Slice};
use super::pods;
use super::replication::ignore_gone;
use crate::kube::client::{Client, DeleteOptions};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::selector::Selector;
use crate::kube::status::Status;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGER_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// What both controllers look at.
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

pub fn start(kit: &Kit) {
    let services = Informer::of(&kit.client.api::<Service>()).start(&kit.world, &kit.shutdown);
    let caches = Caches { services: services.clone(), pods: kit.pods.clone() };
    let endpoints = Informer::of(&kit.client.api::<Endpoints>()).start(&kit.world, &kit.shutdown);
    let slices = Informer::of(&kit.client.api::<EndpointSlice>())
        .labels(&format!("{MANAGER_LABEL}={MANAGER}"))
        .start(&kit.world, &kit.shutdown);

    let selecting = |services: &Informer<Service>| {
        let services = services.clone();
        move |pod: &Pod| services_of(&services, pod)
    };
    let objects = EndpointsObjects { client: kit.client.clone(), caches: caches.clone(), endpoints: endpoints.clone() };
    Builder::new("Endpoints", objects)
        .of(&services)
        .of(&endpoints)
        .watches(&kit.pods, selecting(&services))
        .leadership(&kit.leadership)
        .start(&kit.world, &kit.shutdown);
    Builder::new("EndpointSlice", Slices { client: kit.client.clone(), caches, slices: slices.clone() })
        .of(&services)
        .watches(&slices, |slice: &EndpointSlice| service_of(slice).into_iter().collect())
        .watches(&kit.pods, selecting(&services))
        .leadership(&kit.leadership)
        .start(&kit.world, &kit.shutdown);
}

fn services_of(services: &Informer<Service>, pod: &Pod) -> Vec<Key> {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let selects = |service: &Arc<Service>| selector_of(service).is_some_and(|selector| selector.matches(&labels));
    services.in_namespace(namespace).into_iter().filter(selects).map(|service| Key::of(&service.metadata)).collect()
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

/// Services without a selector get their endpoints from somebody else.
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
            // Endpoints of a service that is gone go with it; those that never had one are somebody else's.
            if existing.is_some_and(|endpoints| is_ours(&endpoints.metadata)) {
                ignore_gone(api.delete(&key.name, DeleteOptions::default()).await)?;
            }
            return Ok(Requeue::No);
        };
        let Some(selector) = selector_of(&service) else { return Ok(Requeue::No) };
        let (subsets, cut) = addresses::subsets(&self.caches.backends(&service, &key.namespace, &selector));
        let mut annotations = BTreeMap::from([(MANAGER_LABEL.to_owned(), MANAGER.to_owned())]);
        if cut {
            annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        }
        let wanted = Endpoints {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                labels: service.metadata.labels.clone(),
                annotations: Some(annotations),
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
    meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MANAGER_LABEL))
}

fn same_endpoints(a: &Endpoints, b: &Endpoints) -> bool {
    a.subsets == b.subsets && a.metadata.labels == b.metadata.labels && a.metadata.annotations == b.metadata.annotations
}

#[async_trait::async_trait]
impl Reconcile for Slices {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let mut existing: Vec<Arc<EndpointSlice>> = self.slices.in_namespace(&key.namespace);
        existing.retain(|slice| service_of(slice).as_ref() == Some(key));
        let service = self.caches.services.get(key);
        let wanted = match service.as_ref().and_then(|service| Some((service, selector_of(service)?))) {
            Some((service, selector)) => {
                let mut slices = addresses::slices(&self.caches.backends(service, &key.namespace, &selector));
                if slices.is_empty() {
                    slices.push(Slice::default());
                }
                slices
            }
            None => Vec::new(),
        };
        // Slices that are right already stay; the others take what is left over.
        let mut missing = Vec::new();
        for slice in wanted {
            match existing.iter().position(|held| holds(held, &slice)) {
                Some(position) => drop(existing.swap_remove(position)),
                None => missing.push(slice),
            }
        }
        let api = self.client.api::<EndpointSlice>().namespaced(&key.namespace);
        for slice in missing {
            let Some(service) = &service else { break };
            let written = match existing.pop() {
                Some(held) => {
                    api.update(&EndpointSlice { metadata: held.metadata.clone(), ..as_object(service, slice) }).await?
                }
                None => api.create(&as_object(service, slice)).await?,
            };
            self.slices.reached(&written.metadata).await;
        }
        for surplus in existing {
            let name = surplus.metadata.name.as_deref().unwrap_or_default();
            ignore_gone(api.delete(name, DeleteOptions::default()).await)?;
        }
        Ok(Requeue::No)
    }
}

fn holds(held: &EndpointSlice, slice: &Slice) -> bool {
    held.endpoints == slice.endpoints && held.ports.clone().unwrap_or_default() == slice.ports
}

fn as_object(service: &Service, slice: Slice) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), name.clone());
    labels.insert(MANAGER_LABEL.to_owned(), MANAGER.to_owned());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![pods::controlled_by("v1", "Service", &service.metadata)]),
            ..Default::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: slice.endpoints,
        ports: Some(slice.ports).filter(|ports| !ports.is_empty()),
    }
}
