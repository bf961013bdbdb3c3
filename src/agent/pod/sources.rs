//! The ConfigMaps and Secrets that a pod names: which they are, how they are fetched, and what is taken from them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::{Deserialize, Serialize};

use super::lifecycle;
use crate::agent::error::Error;
use crate::agent::image;
use crate::agent::runtime::Credentials;
use crate::kube::client::Client;

/// Copies of the objects that a pod names, as last fetched. One that does not exist is left out.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
}

/// The names a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.config_maps.is_empty() && self.secrets.is_empty()
    }
}

/// The names in the environments of the pod's containers.
pub fn env_names(pod: &Pod) -> Names {
    let mut names = Names::default();
    for container in lifecycle::init_containers(pod).iter().chain(&lifecycle::spec(pod).containers) {
        for from in container.env_from.iter().flatten() {
            names.config_maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
            names.secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            names.config_maps.extend(from.config_map_key_ref.iter().map(|reference| reference.name.clone()));
            names.secrets.extend(from.secret_key_ref.iter().map(|reference| reference.name.clone()));
        }
    }
    names
}

/// The names in the pod's volumes.
pub fn volume_names(pod: &Pod) -> Names {
    let mut names = Names::default();
    for volume in lifecycle::spec(pod).volumes.iter().flatten() {
        names.config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        names.secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for source in projected {
            names.config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            names.secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    names
}

/// The pod's `imagePullSecrets`.
pub fn pull_secrets(pod: &Pod) -> BTreeSet<String> {
    let references = lifecycle::spec(pod).image_pull_secrets.iter().flatten();
    references.map(|reference| reference.name.clone()).collect()
}

/// Fetches objects by name. On an error of the API the caller keeps what it fetched before.
pub async fn fetch(client: &Client, namespace: &str, names: &Names) -> Result<Sources, Error> {
    let mut sources = Sources::default();
    let config_maps = client.api::<ConfigMap>().namespaced(namespace);
    for name in &names.config_maps {
        if let Some(found) = config_maps.get_opt(name).await? {
            sources.config_maps.insert(name.clone(), found);
        }
    }
    let secrets = client.api::<Secret>().namespaced(namespace);
    for name in &names.secrets {
        if let Some(found) = secrets.get_opt(name).await? {
            sources.secrets.insert(name.clone(), found);
        }
    }
    Ok(sources)
}

impl Sources {
    /// Replaces the objects of these `names` by those `fetched`; those that do not exist are removed.
    pub fn update(&mut self, names: &Names, fetched: Sources) {
        self.config_maps.retain(|name, _| !names.config_maps.contains(name));
        self.secrets.retain(|name, _| !names.secrets.contains(name));
        self.config_maps.extend(fetched.config_maps);
        self.secrets.extend(fetched.secrets);
    }

    /// A ConfigMap; `None` if it is optional and missing.
    pub fn config_map(&self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, Error> {
        let found = self.config_maps.get(name);
        if found.is_none() && !optional {
            return Err(Error::Config(format!("configmap {name:?} not found")));
        }
        Ok(found)
    }

    /// A Secret; `None` if it is optional and missing.
    pub fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, Error> {
        let found = self.secrets.get(name);
        if found.is_none() && !optional {
            return Err(Error::Config(format!("secret {name:?} not found")));
        }
        Ok(found)
    }

    /// The pod's credentials for the registry that holds `image`.
    pub fn credentials(&self, pod: &Pod, image: &str) -> Option<Credentials> {
        let references = lifecycle::spec(pod).image_pull_secrets.iter().flatten();
        references
            .filter_map(|reference| self.secrets.get(&reference.name))
            .filter_map(|secret| secret.data.as_ref()?.get(".dockerconfigjson"))
            .find_map(|config| credentials(&config.0, image::registry(image)))
    }
}

/// The entry for `registry` in a Docker client's configuration.
fn credentials(config: &[u8], registry: &str) -> Option<Credentials> {
    use base64::Engine;

    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    let host = |key: &str| {
        let host =
            key.trim_start_matches("https://").trim_start_matches("http://").split('/').next().unwrap_or_default();
        // The key that Docker's own client has always written for its registry.
        if host == "index.docker.io" { "docker.io".to_owned() } else { host.to_owned() }
    };
    let (_, entry) = config.get("auths")?.as_object()?.iter().find(|(key, _)| host(key) == registry)?;
    let text = |key: &str| entry.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let (username, password) = match (text("username"), text("password")) {
        (Some(username), Some(password)) => (username, password),
        _ => {
            let auth = base64::engine::general_purpose::STANDARD.decode(text("auth")?).ok()?;
            let (username, password) = std::str::from_utf8(&auth).ok()?.split_once(':')?;
            (username.to_owned(), password.to_owned())
        }
    };
    Some(Credentials { registry: registry.to_owned(), username, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_names_an_object_counts() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "containers": [{"name": "c",
                "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
                "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}],
            "initContainers": [{"name": "i",
                "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "d", "key": "k"}}}]}],
            "volumes": [{"name": "v", "configMap": {"name": "e"}}, {"name": "w", "secret": {"secretName": "f"}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "g"}}, {"secret": {"name": "h"}}]}}],
            "imagePullSecrets": [{"name": "i"}],
        }}))
        .unwrap();
        let joined = |names: BTreeSet<String>| names.into_iter().collect::<String>();
        let (env, volumes) = (env_names(&pod), volume_names(&pod));
        assert_eq!((joined(env.config_maps), joined(env.secrets)), ("ac".into(), "bd".into()));
        assert_eq!((joined(volumes.config_maps), joined(volumes.secrets)), ("eg".into(), "fh".into()));
        assert_eq!(joined(pull_secrets(&pod)), "i");
    }

    #[test]
    fn credentials_are_found_by_registry() {
        let config = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnE="},
            "quay.io": {"username": "x", "password": "y"}}}"#;
        let docker = credentials(config, "docker.io").unwrap();
        assert_eq!((docker.username.as_str(), docker.password.as_str()), ("u", "p:q"));
        assert_eq!(credentials(config, "quay.io").unwrap().username, "x");
        assert!(credentials(config, "ghcr.io").is_none());
    }
}
