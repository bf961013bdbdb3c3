//! The service account controller: every namespace has the service account `default`, and a ConfigMap with the root
//! certificate by which its pods verify the API.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::context::ControllerContext;
use crate::kube::client::{Client, PatchType};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;

const DEFAULT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

struct Accounts {
    client: Client,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    certificates: Informer<ConfigMap>,
    root_ca: String,
}

pub fn start(context: &ControllerContext, root_ca: String) {
    let namespaces = Informer::of(&context.client.api::<Namespace>()).start(&context.world, &context.shutdown);
    let accounts = Informer::of(&context.client.api::<ServiceAccount>())
        .fields(&format!("metadata.name={DEFAULT}"))
        .start(&context.world, &context.shutdown);
    let certificates = Informer::of(&context.client.api::<ConfigMap>())
        .fields(&format!("metadata.name={ROOT_CA}"))
        .start(&context.world, &context.shutdown);
    let controller = Accounts {
        client: context.client.clone(),
        namespaces: namespaces.clone(),
        accounts: accounts.clone(),
        certificates: certificates.clone(),
        root_ca,
    };
    let of = |meta: &ObjectMeta| vec![Key::new("", meta.namespace.clone().unwrap_or_default())];
    Builder::new("ServiceAccount", controller)
        .of(&namespaces)
        .watches(&accounts, move |account: &ServiceAccount| of(&account.metadata))
        .watches(&certificates, move |certificate: &ConfigMap| of(&certificate.metadata))
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

#[async_trait::async_trait]
impl Reconcile for Accounts {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(namespace) = self.namespaces.get(key) else { return Ok(Requeue::No) };
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::No);
        }
        let meta = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(key.name.clone()),
            ..Default::default()
        };
        if self.accounts.get(&Key::new(key.name.clone(), DEFAULT)).is_none() {
            let account = ServiceAccount { metadata: meta(DEFAULT), ..Default::default() };
            unless_there(self.client.api::<ServiceAccount>().namespaced(&key.name).create(&account).await)?;
        }
        let data = BTreeMap::from([("ca.crt".to_owned(), self.root_ca.clone())]);
        let api = self.client.api::<ConfigMap>().namespaced(&key.name);
        match self.certificates.get(&Key::new(key.name.clone(), ROOT_CA)) {
            Some(held) if held.data.as_ref() == Some(&data) => {}
            Some(_) => drop(
                api.patch(ROOT_CA, PatchType::Json, &json!([{"op": "add", "path": "/data", "value": data}])).await?,
            ),
            None => {
                let certificate = ConfigMap { metadata: meta(ROOT_CA), data: Some(data), ..Default::default() };
                unless_there(api.create(&certificate).await)?;
            }
        }
        Ok(Requeue::No)
    }
}

fn unless_there<T>(created: Result<T, Status>) -> Result<(), Status> {
    match created {
        Err(status) if !status.is_already_exists() => Err(status),
        _ => Ok(()),
    }
}
