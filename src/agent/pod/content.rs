//! What is in a pod's volumes: a pure function of the pod, its sources and its tokens.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, Pod, Secret, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};

use super::downward_api::DownwardApi;
use super::sources::Sources;
use super::{lifecycle, limits};
use crate::agent::error::Error;
use crate::kube::quantity::Quantity;

const MODE_DEFAULT: i32 = 0o644;
/// Of all files of a volume: they are in memory until they are written.
const BYTES_MAX: usize = 64 << 20;
const TOKEN_SECONDS_DEFAULT: i64 = 3_600;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// Files by their path within the volume, which never leaves it.
pub type Files = BTreeMap<String, FileContent>;

/// A volume whose files are being put together.
#[derive(Default)]
struct Filling {
    files: Files,
    /// Of all items, also of those that another one replaced.
    bytes: usize,
}

/// Where an `emptyDir` is, and how much it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyDir {
    pub in_memory: bool,
    /// The kernel enforces it for one in memory only.
    pub bytes_max: Option<u64>,
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory of the pod's own, empty at first.
    Empty(EmptyDir),
    /// A path on the node, which must be of that type (`hostPath.type`).
    Host {
        path: PathBuf,
        kind: String,
    },
    Files(Files),
}

/// A service-account token that a pod's volume holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenNeed {
    /// Empty for the API's own.
    pub audience: String,
    pub expiration_seconds: i64,
}

impl TokenNeed {
    fn of(projection: &ServiceAccountTokenProjection) -> TokenNeed {
        TokenNeed {
            audience: projection.audience.clone().unwrap_or_default(),
            expiration_seconds: projection.expiration_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT),
        }
    }
}

/// Tokens, as last issued.
pub type Tokens = BTreeMap<TokenNeed, String>;

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten())
}

/// The tokens that the pod's volumes need.
pub fn tokens_needed(pod: &Pod) -> Vec<TokenNeed> {
    let volumes = lifecycle::spec(pod).volumes.iter().flatten();
    let mut needs: Vec<_> = volumes
        .flat_map(projections)
        .filter_map(|source| source.service_account_token.as_ref())
        .map(TokenNeed::of)
        .collect();
    needs.sort();
    needs.dedup();
    needs
}

/// Whether the volume's files come from objects that may change.
pub fn is_refreshed(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}

/// What is in a volume; an error names what is missing or not supported.
pub fn content(
    volume: &Volume,
    downward_api: DownwardApi<'_>,
    sources: &Sources,
    tokens: &Tokens,
) -> Result<Content, Error> {
    if let Some(source) = &volume.empty_dir {
        return empty_dir(volume, source, downward_api.pod).map(Content::Empty);
    }
    if let Some(host) = &volume.host_path {
        let path = PathBuf::from(&host.path);
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(Error::Config(format!("volume {:?}: hostPath {:?} is not absolute", volume.name, host.path)));
        }
        return Ok(Content::Host { path, kind: host.type_.clone().unwrap_or_default() });
    }
    let mut files = Filling::default();
    if let Some(source) = &volume.config_map {
        let map = sources.config_map(&source.name, source.optional == Some(true))?;
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        add_config_map(&mut files, map, source.items.as_deref(), mode, source.optional == Some(true))?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let secret = sources.secret(name, source.optional == Some(true))?;
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        add_secret(&mut files, secret, source.items.as_deref(), mode, source.optional == Some(true))?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        add_downward(&mut files, source.items.as_deref().unwrap_or_default(), downward_api, mode)?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        for projection in projections(volume) {
            add_projection(&mut files, projection, downward_api, sources, tokens, mode)?;
        }
    } else {
        return Err(Error::Config(format!("volume {:?}: this kind of volume is not supported", volume.name)));
    }
    Ok(Content::Files(files.files))
}

/// What is in memory counts towards the memory of the pod's containers: it never needs to hold more than they may use.
fn empty_dir(volume: &Volume, source: &EmptyDirVolumeSource, pod: &Pod) -> Result<EmptyDir, Error> {
    let in_memory = match source.medium.as_deref().unwrap_or_default() {
        "" => false,
        "Memory" => true,
        other => {
            let why = format!("volume {:?}: storage medium {other:?} is not supported", volume.name);
            return Err(Error::Config(why));
        }
    };
    let size = source.size_limit.as_ref().and_then(|limit| limit.0.parse::<Quantity>().ok());
    let size = size.and_then(|size| u64::try_from(size.units()).ok()).filter(|size| *size > 0);
    let of_pod = if in_memory { limits::memory_of_all(pod) } else { None };
    Ok(EmptyDir { in_memory, bytes_max: size.into_iter().chain(of_pod).min() })
}

fn add_projection(
    files: &mut Filling,
    projection: &VolumeProjection,
    downward_api: DownwardApi<'_>,
    sources: &Sources,
    tokens: &Tokens,
    mode: i32,
) -> Result<(), Error> {
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        add_config_map(files, sources.config_map(&source.name, optional)?, source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        add_secret(files, sources.secret(&source.name, optional)?, source.items.as_deref(), mode, optional)?;
    }
    if let Some(source) = &projection.downward_api {
        add_downward(files, source.items.as_deref().unwrap_or_default(), downward_api, mode)?;
    }
    if let Some(source) = &projection.service_account_token {
        let token = tokens.get(&TokenNeed::of(source));
        let token = token.ok_or_else(|| Error::Config("the service account token is not issued yet".to_owned()))?;
        add(files, &source.path, token.as_bytes(), mode)?;
    }
    let unsupported = match projection {
        VolumeProjection { cluster_trust_bundle: Some(_), .. } => "clusterTrustBundle",
        VolumeProjection { pod_certificate: Some(_), .. } => "podCertificate",
        _ => return Ok(()),
    };
    Err(Error::Config(format!("a projected volume of {unsupported} is not supported")))
}

fn add_config_map(
    files: &mut Filling,
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), Error> {
    let Some(map) = map else { return Ok(()) };
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    add_entries(files, &text.chain(binary).collect(), items, mode, optional)
}

fn add_secret(
    files: &mut Filling,
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), Error> {
    let data = secret.and_then(|secret| secret.data.as_ref());
    let entries = data.into_iter().flatten().map(|(key, ByteString(value))| (key.as_str(), value.as_slice()));
    add_entries(files, &entries.collect(), items, mode, optional || secret.is_none())
}

/// All entries under their keys, or those that `items` names under the paths it gives.
fn add_entries(
    files: &mut Filling,
    entries: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), Error> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return entries.iter().try_for_each(|(key, bytes)| add(files, key, bytes, mode));
    };
    for item in items {
        match entries.get(item.key.as_str()) {
            Some(bytes) => add(files, &item.path, bytes, item.mode.unwrap_or(mode))?,
            None if optional => {}
            None => return Err(Error::Config(format!("references non-existent key: {}", item.key))),
        }
    }
    Ok(())
}

fn add_downward(
    files: &mut Filling,
    items: &[DownwardAPIVolumeFile],
    downward_api: DownwardApi<'_>,
    mode: i32,
) -> Result<(), Error> {
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward_api.field(&field.field_path)?,
            (None, Some(resource)) => downward_api.resource(None, resource)?,
            (None, None) => continue,
        };
        add(files, &item.path, text.as_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

fn add(files: &mut Filling, path: &str, bytes: &[u8], mode: i32) -> Result<(), Error> {
    let mut parts = Path::new(path).components();
    let stays_inside = !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)));
    if !stays_inside || path.starts_with("..") {
        return Err(Error::Config(format!("the path {path:?} leaves its volume")));
    }
    files.bytes += bytes.len();
    if files.bytes > BYTES_MAX {
        return Err(Error::Config(format!("the files of the volume have more than {BYTES_MAX} bytes")));
    }
    // Validation refuses other than permission bits.
    let mode = u32::try_from(mode).unwrap_or_default() & 0o777;
    files.files.insert(path.to_owned(), FileContent { bytes: bytes.to_vec(), mode });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::config::Capacity;

    fn files(volume: serde_json::Value) -> Result<Vec<(String, String, u32)>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "www", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c"}], "volumes": [volume]},
        }))
        .unwrap();
        let sources: Sources = serde_json::from_value(json!({
            "config_maps": {"m": {"data": {"k": "v", "l": "w"}, "binaryData": {"b": "AQI="}}},
            "secrets": {"s": {"data": {"p": "aGlkZGVu"}}},
        }))
        .unwrap();
        let tokens = tokens_needed(&pod).into_iter().map(|need| (need, "jwt".to_owned())).collect();
        let node = Capacity { cpu_millis: 0, memory_bytes: 0, storage_bytes: 0, pods: 0 };
        let downward_api = DownwardApi { pod: &pod, host_ip: "10.0.0.1".parse().unwrap(), pod_ip: None, node };
        let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        match content(volume, downward_api, &sources, &tokens).map_err(|error| error.to_string())? {
            Content::Files(files) => Ok(files
                .into_iter()
                .map(|(path, file)| (path, String::from_utf8_lossy(&file.bytes).into_owned(), file.mode))
                .collect()),
            other => panic!("{other:?}"),
        }
    }

    fn file(path: &str, text: &str, mode: u32) -> (String, String, u32) {
        (path.to_owned(), text.to_owned(), mode)
    }

    #[test]
    fn the_files_of_a_volume_are_bounded_together() {
        let mut files = Filling::default();
        let part = vec![0_u8; BYTES_MAX / 4];
        for name in ["a", "b", "c", "c"] {
            add(&mut files, name, &part, 0o644).unwrap();
        }
        assert!(add(&mut files, "d", b"x", 0o644).unwrap_err().to_string().contains("67108864"));
    }

    #[test]
    fn a_config_map_is_its_keys_or_the_chosen_ones() {
        let all = files(json!({"name": "v", "configMap": {"name": "m"}})).unwrap();
        assert_eq!(all, [file("b", "\u{1}\u{2}", 0o644), file("k", "v", 0o644), file("l", "w", 0o644)]);
        let some = json!({"name": "v", "configMap": {"name": "m", "defaultMode": 0o600, "items": [
            {"key": "k", "path": "a/b"}, {"key": "l", "path": "c", "mode": 0o400}]}});
        assert_eq!(files(some).unwrap(), [file("a/b", "v", 0o600), file("c", "w", 0o400)]);
    }

    #[test]
    fn a_projected_volume_joins_token_ca_and_fields() {
        let volume = json!({"name": "v", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "m", "items": [{"key": "k", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}});
        let expected = [file("ca.crt", "v", 0o644), file("labels", "a=\"b\"", 0o644), file("token", "jwt", 0o644)];
        assert_eq!(files(volume).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let table = [
            (json!({"name": "v", "secret": {"secretName": "none"}}), "secret \"none\" not found"),
            (
                json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "x", "path": "x"}]}}),
                "references non-existent key: x",
            ),
            (
                json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "p", "path": "../x"}]}}),
                "the path \"../x\" leaves its volume",
            ),
            (
                json!({"name": "v", "nfs": {"server": "s", "path": "/"}}),
                "volume \"v\": this kind of volume is not supported",
            ),
            (
                json!({"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"name": "b", "path": "p"}}]}}),
                "a projected volume of clusterTrustBundle is not supported",
            ),
            (
                json!({"name": "v", "emptyDir": {"medium": "HugePages"}}),
                "volume \"v\": storage medium \"HugePages\" is not supported",
            ),
        ];
        for (volume, expected) in table {
            assert_eq!(files(volume).unwrap_err(), expected);
        }
        let optional = json!({"name": "v", "secret": {"secretName": "none", "optional": true}});
        assert_eq!(files(optional).unwrap(), []);
    }
}
