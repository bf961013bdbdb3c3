//! From a pod's specification to what the engine is asked for: pure, once volumes and sources are at hand.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container as Spec, Pod, SecurityContext};
use sha2::{Digest, Sha256};

use super::env::Environment;
use super::{lifecycle, limits};
use crate::agent::error::Error;
use crate::agent::image;
use crate::agent::runtime::{ContainerSpec, Mount, PodId, PortMapping, Privileges, SandboxSpec};

/// The longest host name that Linux takes.
const HOSTNAME_MAX: usize = 63;
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

pub fn pod_id(pod: &Pod) -> PodId {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let meta = &pod.metadata;
    PodId { namespace: text(&meta.namespace), name: text(&meta.name), uid: text(&meta.uid) }
}

/// A digest of what, when changed, needs a new container: of the mutable fields, the image.
pub fn hash(spec: &Spec) -> String {
    let mut hash = Sha256::new();
    hash.update(&spec.name);
    hash.update([0]);
    hash.update(spec.image.as_deref().unwrap_or_default());
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the image is asked for at its registry before each start.
pub fn pull_policy(spec: &Spec) -> &str {
    let by_tag = if image::is_latest(spec.image.as_deref().unwrap_or_default()) { "Always" } else { "IfNotPresent" };
    spec.image_pull_policy.as_deref().unwrap_or(by_tag)
}

pub fn sandbox(pod: &Pod, attempt: u32) -> SandboxSpec {
    let spec = lifecycle::spec(pod);
    let name = spec.hostname.clone().or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let hostname: String = name.chars().take(HOSTNAME_MAX).collect();
    let dns = spec.dns_config.clone().unwrap_or_default();
    let options = dns.options.into_iter().flatten().map(|option| match (option.name, option.value) {
        (name, Some(value)) => format!("{}:{value}", name.unwrap_or_default()),
        (name, None) => name.unwrap_or_default(),
    });
    let aliases = spec.host_aliases.iter().flatten();
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    SandboxSpec {
        attempt,
        hostname: hostname.trim_end_matches(['-', '.']).to_owned(),
        host_network: spec.host_network == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        host_pid: spec.host_pid == Some(true),
        ports: if spec.host_network == Some(true) { Vec::new() } else { host_ports(pod) },
        extra_hosts: aliases
            .flat_map(|alias| alias.hostnames.iter().flatten().map(|name| format!("{name}:{}", alias.ip)))
            .collect(),
        dns_servers: dns.nameservers.unwrap_or_default(),
        dns_searches: dns.searches.unwrap_or_default(),
        dns_options: options.collect(),
        sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
    }
}

fn host_ports(pod: &Pod) -> Vec<PortMapping> {
    let containers = lifecycle::init_containers(pod).iter().chain(&lifecycle::spec(pod).containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?;
            Some(PortMapping {
                container_port: u16::try_from(port.container_port).ok()?,
                host_port,
                host_ip: port.host_ip.clone().filter(|ip| !ip.is_empty()),
                protocol: port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
            })
        })
        .collect()
}

/// What a container needs beside the pod's specification.
pub struct Surroundings {
    pub attempt: u32,
    pub sandbox: String,
    pub image_id: String,
    pub environment: Environment,
    pub mounts: Vec<Mount>,
    /// The node's file for the container's last words.
    pub termination_message: Option<PathBuf>,
    pub node_memory_bytes: u64,
}

pub fn container(pod: &Pod, spec: &Spec, around: Surroundings) -> Result<ContainerSpec, Error> {
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| around.environment.expand(text)).collect()
    };
    let mut mounts = around.mounts;
    if let Some(path) = &around.termination_message {
        mounts.push(Mount {
            host_path: path.clone(),
            container_path: spec.termination_message_path.clone().unwrap_or(TERMINATION_MESSAGE_PATH.to_owned()),
            read_only: false,
        });
    }
    Ok(ContainerSpec {
        name: spec.name.clone(),
        attempt: around.attempt,
        sandbox: around.sandbox,
        share_processes: lifecycle::spec(pod).share_process_namespace == Some(true),
        image: spec.image.clone().unwrap_or_default(),
        image_id: around.image_id,
        command: expand(&spec.command),
        args: expand(&spec.args),
        working_dir: spec.working_dir.clone().filter(|dir| !dir.is_empty()),
        mounts,
        limits: limits::limits(pod, spec, around.node_memory_bytes),
        privileges: privileges(pod, spec)?,
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        tty: spec.tty == Some(true),
        hash: hash(spec),
        termination_message: around.termination_message,
        env: around.environment.into_variables(),
    })
}

/// The container's own settings over the pod's.
fn privileges(pod: &Pod, spec: &Spec) -> Result<Privileges, Error> {
    let pod = lifecycle::spec(pod).security_context.clone().unwrap_or_default();
    let own = spec.security_context.clone().unwrap_or_default();
    let SecurityContext { run_as_user, run_as_group, run_as_non_root, .. } = own;
    let user = run_as_user.or(pod.run_as_user);
    let group = run_as_group.or(pod.run_as_group);
    if run_as_non_root.or(pod.run_as_non_root) == Some(true) && user == Some(0) {
        return Err(Error::Config("container has runAsNonRoot and image will run as root".to_owned()));
    }
    let capabilities = own.capabilities.unwrap_or_default();
    let groups = pod.supplemental_groups.into_iter().flatten().chain(pod.fs_group);
    Ok(Privileges {
        user: match (user, group) {
            (Some(user), Some(group)) => Some(format!("{user}:{group}")),
            (Some(user), None) => Some(user.to_string()),
            (None, Some(group)) => Some(format!("0:{group}")),
            (None, None) => None,
        },
        extra_groups: groups.map(|group| group.to_string()).collect(),
        privileged: own.privileged == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root: own.read_only_root_filesystem == Some(true),
        capabilities_added: capabilities.add.unwrap_or_default(),
        capabilities_dropped: capabilities.drop.unwrap_or_default(),
    })
}

/// The mounts of one container: `path_of` tells where a volume is on the node, and `sub_path` what part of it.
pub fn mounts(
    spec: &Spec,
    environment: &Environment,
    mut place: impl FnMut(&k8s_openapi::api::core::v1::VolumeMount, Option<&str>) -> Result<PathBuf, Error>,
) -> Result<Vec<Mount>, Error> {
    let mut mounts = Vec::new();
    for mount in spec.volume_mounts.iter().flatten() {
        let expanded = mount.sub_path_expr.as_deref().map(|text| environment.expand(text));
        let host_path = place(mount, expanded.as_deref().or(mount.sub_path.as_deref()))?;
        let container_path = Path::new("/").join(&mount.mount_path).to_string_lossy().into_owned();
        mounts.push(Mount { host_path, container_path, read_only: mount.read_only == Some(true) });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "www", "namespace": "d", "uid": "u"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn pull_policy_follows_the_tag() {
        let table = [
            (json!({"name": "c", "image": "nginx"}), "Always"),
            (json!({"name": "c", "image": "nginx:latest"}), "Always"),
            (json!({"name": "c", "image": "nginx:1"}), "IfNotPresent"),
            (json!({"name": "c", "image": "nginx", "imagePullPolicy": "Never"}), "Never"),
        ];
        for (spec, expected) in table {
            assert_eq!(pull_policy(&serde_json::from_value(spec).unwrap()), expected);
        }
    }

    #[test]
    fn only_host_ports_are_published() {
        let pod = pod(json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}]}));
        let expected = PortMapping { container_port: 53, host_port: 5353, host_ip: None, protocol: "udp".into() };
        assert_eq!(sandbox(&pod, 0).ports, [expected]);
    }

    #[test]
    fn a_container_s_user_goes_over_the_pod_s() {
        let table = [
            (json!({}), json!({}), None),
            (json!({"runAsUser": 5}), json!({}), Some("5")),
            (json!({"runAsUser": 5, "runAsGroup": 6}), json!({"runAsUser": 7}), Some("7:6")),
        ];
        for (of_pod, own, expected) in table {
            let pod = pod(json!({"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}));
            let found = privileges(&pod, &lifecycle::spec(&pod).containers[0]).unwrap().user;
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn a_root_image_is_refused_where_root_is() {
        let pod =
            pod(json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}, "containers": [{"name": "c"}]}));
        assert!(privileges(&pod, &lifecycle::spec(&pod).containers[0]).is_err());
    }
}
