//! The token controller: fills secrets of type `kubernetes.io/service-account-token`, and removes those whose service
//! account is gone.

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::json;

use super::context::ControllerContext;
use super::not_found::ignore_not_found;
use crate::kube::client::{Client, DeleteOptions, PatchType};
use crate::kube::controller::{Builder, Reconcile, Requeue};
use crate::kube::informer::Informer;
use crate::kube::object::Key;
use crate::kube::status::Status;

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// Ten years: the token is bound to its secret, and lasts as long.
const TOKEN_SECONDS: i64 = 10 * 365 * 24 * 3600;

struct Tokens {
    client: Client,
    secrets: Informer<Secret>,
    accounts: Informer<ServiceAccount>,
    root_ca: String,
}

pub fn start(context: &ControllerContext, root_ca: String) {
    let secrets = Informer::of(&context.client.api::<Secret>())
        .fields(&format!("type={TYPE}"))
        .start(&context.world, &context.shutdown);
    let accounts = Informer::of(&context.client.api::<ServiceAccount>()).start(&context.world, &context.shutdown);
    let controller =
        Tokens { client: context.client.clone(), secrets: secrets.clone(), accounts: accounts.clone(), root_ca };
    let of_account = secrets.clone();
    Builder::new("Token", controller)
        .of(&secrets)
        .watches(&accounts, move |account: &ServiceAccount| {
            let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
            let names = |secret: &std::sync::Arc<Secret>| account_of(secret) == account.metadata.name.as_deref();
            of_account
                .in_namespace(namespace)
                .iter()
                .filter(|secret| names(secret))
                .map(|s| Key::of(&s.metadata))
                .collect()
        })
        .leadership(&context.leadership)
        .start(&context.world, &context.shutdown);
}

fn account_of(secret: &Secret) -> Option<&str> {
    secret.metadata.annotations.as_ref()?.get(ACCOUNT).map(String::as_str)
}

#[async_trait::async_trait]
impl Reconcile for Tokens {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Status> {
        let Some(secret) = self.secrets.get(key) else { return Ok(Requeue::No) };
        let Some(name) = account_of(&secret) else { return Ok(Requeue::No) };
        let api = self.client.api::<Secret>().namespaced(&key.namespace);
        let account = match self.accounts.get(&Key::new(key.namespace.clone(), name)) {
            Some(account) => Some((*account).clone()),
            // The cache may be behind: a secret is deleted only if the API itself has no such account.
            None => self.client.api::<ServiceAccount>().namespaced(&key.namespace).get_opt(name).await?,
        };
        let recorded = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ACCOUNT_UID));
        let account = account.filter(|account| recorded.is_none() || recorded == account.metadata.uid.as_ref());
        let Some(account) = account else {
            let options = DeleteOptions { precondition_uid: secret.metadata.uid.clone(), ..Default::default() };
            ignore_not_found(api.delete(&key.name, options).await)?;
            return Ok(Requeue::No);
        };
        if secret.data.as_ref().is_some_and(|data| data.contains_key("token")) {
            return Ok(Requeue::No);
        }
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Vec::new(),
                expiration_seconds: Some(TOKEN_SECONDS),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Secret".to_owned()),
                    name: Some(key.name.clone()),
                    uid: secret.metadata.uid.clone(),
                }),
            },
            ..Default::default()
        };
        let accounts = self.client.api::<ServiceAccount>().namespaced(&key.namespace);
        let issued = accounts.create_token(name, &request).await?;
        let token = issued.status.map(|status| status.token).unwrap_or_default();
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let patch = json!({
            "metadata": {
                "resourceVersion": secret.metadata.resource_version,
                "annotations": {ACCOUNT_UID: account.metadata.uid},
            },
            "data": {"token": bytes(&token), "ca.crt": bytes(&self.root_ca), "namespace": bytes(&key.namespace)},
        });
        let written = api.patch(&key.name, PatchType::Merge, &patch).await?;
        self.secrets.reached(&written.metadata).await;
        Ok(Requeue::No)
    }
}
