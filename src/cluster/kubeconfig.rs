//! The administrator's kubeconfig.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::config::{ClusterConfig, Role};
use super::pki::{Holder, Pki, PkiError};

/// A kubeconfig for the administrator, as YAML: one context a frontend, the first one current. `None` where the
/// cluster serves no API.
pub fn admin(config: &ClusterConfig, pki: &Pki) -> Result<Option<String>, PkiError> {
    let authority = STANDARD.encode(&pki.ca_certificate);
    let frontends: Vec<_> =
        config.with_role(Role::Apiserver).filter_map(|node| Some((node, node.api.as_ref()?))).collect();
    let Some(first) = frontends.first() else { return Ok(None) };
    let admin = pki.pair(Holder::Admin)?;
    let name = |node: &str| if node == first.0.name { config.name.clone() } else { format!("{}-{node}", config.name) };
    let clusters: Vec<_> = frontends
        .iter()
        .map(|(node, api)| {
            let cluster = json!({"server": format!("https://{api}"), "certificate-authority-data": authority});
            json!({"name": name(&node.name), "cluster": cluster})
        })
        .collect();
    let contexts: Vec<_> = frontends
        .iter()
        .map(|(node, _)| json!({"name": name(&node.name), "context": {"cluster": name(&node.name), "user": "admin"}}))
        .collect();
    let user = json!({
        "client-certificate-data": STANDARD.encode(&admin.certificate),
        "client-key-data": STANDARD.encode(&admin.key),
    });
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": config.name,
        "clusters": clusters,
        "contexts": contexts,
        "users": [{"name": "admin", "user": user}],
    });
    Ok(Some(serde_yaml_ng::to_string(&document).expect("JSON is YAML")))
}
