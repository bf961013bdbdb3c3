//! From a pod's specification to the engine's: pure, once volumes and sources are at hand.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container as Spec, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
    VolumeMount,
};
use sha2::{Digest, Sha256};

use super::env::Environment;
use super::{lifecycle, limits};
use crate::agent::error::Error;
use crate::agent::image;
use crate::agent::runtime::{
    ContainerSpec, Mount, PidNamespace, PodId, PortMapping, Privileges, Profile, Propagation, SandboxSpec,
    SelinuxOptions,
};

/// The longest host name of a pod, and the longest that Linux takes.
const HOSTNAME_MAX: usize = 63;
const FULL_HOSTNAME_MAX: usize = 64;
/// The domain of services, and of pods with a fully qualified name.
const CLUSTER_DOMAIN: &str = "cluster.local";
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

pub fn pod_id(pod: &Pod) -> PodId {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let meta = &pod.metadata;
    PodId { namespace: text(&meta.namespace), name: text(&meta.name), uid: text(&meta.uid) }
}

/// A digest of the fields whose change needs a new container: of the mutable ones, the image.
pub fn hash(spec: &Spec) -> String {
    let mut hash = Sha256::new();
    hash.update(&spec.name);
    hash.update([0]);
    hash.update(spec.image.as_deref().unwrap_or_default());
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// When the image is pulled: `Always`, `IfNotPresent` or `Never`.
pub fn pull_policy(spec: &Spec) -> &str {
    let by_tag = if image::is_latest(spec.image.as_deref().unwrap_or_default()) { "Always" } else { "IfNotPresent" };
    spec.image_pull_policy.as_deref().unwrap_or(by_tag)
}

/// A pod's host name, and the domain that makes it the full one.
fn hostname(pod: &Pod) -> Result<(String, String), Error> {
    let spec = lifecycle::spec(pod);
    if let Some(name) = &spec.hostname_override {
        return Ok((name.clone(), String::new()));
    }
    let name = spec.hostname.clone().or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let name: String = name.chars().take(HOSTNAME_MAX).collect();
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let Some(subdomain) = spec.subdomain.as_deref().filter(|name| !name.is_empty()) else {
        return Ok((name, String::new()));
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = format!("{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}");
    if spec.set_hostname_as_fqdn != Some(true) {
        return Ok((name, domain));
    }
    let full = format!("{name}.{domain}");
    if full.len() > FULL_HOSTNAME_MAX {
        return Err(Error::Config(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long \
             ({FULL_HOSTNAME_MAX} characters is the max, {} characters requested)",
            full.len()
        )));
    }
    Ok((full, String::new()))
}

pub fn sandbox(pod: &Pod, attempt: u32) -> Result<SandboxSpec, Error> {
    let spec = lifecycle::spec(pod);
    let (hostname, domain) = hostname(pod)?;
    let dns = spec.dns_config.clone().unwrap_or_default();
    let options = dns.options.into_iter().flatten().map(|option| match (option.name, option.value) {
        (name, Some(value)) => format!("{}:{value}", name.unwrap_or_default()),
        (name, None) => name.unwrap_or_default(),
    });
    let aliases = spec.host_aliases.iter().flatten();
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    let mut dns_searches = dns.searches.unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") && dns_searches.is_empty() {
        // Otherwise the engine takes the node's.
        dns_searches.push(".".to_owned());
    }
    Ok(SandboxSpec {
        attempt,
        hostname,
        domain,
        host_network: spec.host_network == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        host_pid: spec.host_pid == Some(true),
        ports: if spec.host_network == Some(true) { Vec::new() } else { host_ports(pod) },
        extra_hosts: aliases
            .flat_map(|alias| alias.hostnames.iter().flatten().map(|name| format!("{name}:{}", alias.ip)))
            .collect(),
        dns_servers: dns.nameservers.unwrap_or_default(),
        dns_searches,
        dns_options: options.collect(),
        sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
    })
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
pub struct ContainerInputs {
    pub attempt: u32,
    pub sandbox: String,
    pub image_id: String,
    /// The user of the image's processes.
    pub image_user: String,
    pub environment: Environment,
    pub mounts: Vec<Mount>,
    /// The node's file for the container's termination message.
    pub termination_message: Option<PathBuf>,
    pub node_memory_bytes: u64,
}

pub fn container(pod: &Pod, spec: &Spec, inputs: ContainerInputs) -> Result<ContainerSpec, Error> {
    let expand = |list: &Option<Vec<String>>| inputs.environment.expand_all(list.as_deref().unwrap_or_default());
    let mut mounts = inputs.mounts;
    if let Some(path) = &inputs.termination_message {
        mounts.push(Mount {
            host_path: path.clone(),
            container_path: spec.termination_message_path.clone().unwrap_or(TERMINATION_MESSAGE_PATH.to_owned()),
            read_only: false,
            propagation: Propagation::None,
        });
    }
    let of_pod = lifecycle::spec(pod);
    Ok(ContainerSpec {
        name: spec.name.clone(),
        attempt: inputs.attempt,
        sandbox: inputs.sandbox,
        pid_namespace: match (of_pod.host_pid, of_pod.share_process_namespace) {
            (Some(true), _) => PidNamespace::Node,
            (_, Some(true)) => PidNamespace::Pod,
            _ => PidNamespace::Container,
        },
        host_ipc: of_pod.host_ipc == Some(true),
        image: spec.image.clone().unwrap_or_default(),
        image_id: inputs.image_id,
        command: expand(&spec.command)?,
        args: expand(&spec.args)?,
        working_dir: spec.working_dir.clone().filter(|dir| !dir.is_empty()),
        stop_signal: spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
        mounts,
        limits: limits::limits(pod, spec, inputs.node_memory_bytes),
        privileges: privileges(pod, spec, &inputs.image_user)?,
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        tty: spec.tty == Some(true),
        hash: hash(spec),
        termination_message: inputs.termination_message,
        env: inputs.environment.into_variables(),
    })
}

/// The container's own settings over the pod's.
fn privileges(pod: &Pod, spec: &Spec, image_user: &str) -> Result<Privileges, Error> {
    let of_pod = lifecycle::spec(pod).security_context.clone().unwrap_or_default();
    let own = spec.security_context.clone().unwrap_or_default();
    verify_not_root(pod, &of_pod, spec, &own, image_user)?;
    let user = own.run_as_user.or(of_pod.run_as_user).map(|user| user.to_string());
    let group = own.run_as_group.or(of_pod.run_as_group);
    let capabilities = own.capabilities.unwrap_or_default();
    let groups = of_pod.supplemental_groups.into_iter().flatten().chain(of_pod.fs_group);
    Ok(Privileges {
        user: match (user, group) {
            (user, None) => user,
            // A group without a user leaves the user to the image.
            (user, Some(group)) => Some(format!("{}:{group}", user.as_deref().unwrap_or(user_of(image_user)))),
        },
        extra_groups: groups.map(|group| group.to_string()).collect(),
        privileged: own.privileged == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root: own.read_only_root_filesystem == Some(true),
        capabilities_added: capabilities.add.unwrap_or_default(),
        capabilities_dropped: capabilities.drop.unwrap_or_default(),
        seccomp: seccomp(own.seccomp_profile.or(of_pod.seccomp_profile))?,
        apparmor: apparmor(own.app_armor_profile.or(of_pod.app_armor_profile)),
        selinux: selinux(own.se_linux_options.or(of_pod.se_linux_options).unwrap_or_default()),
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    })
}

/// The user of `user` or `user:group`; root where nothing is named.
fn user_of(image_user: &str) -> &str {
    image_user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0")
}

/// Rejects a container that would or could run as root although its pod forbids that.
fn verify_not_root(
    pod: &Pod,
    of_pod: &PodSecurityContext,
    spec: &Spec,
    own: &SecurityContext,
    image_user: &str,
) -> Result<(), Error> {
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let why = match (own.run_as_user.or(of_pod.run_as_user), user_of(image_user)) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _) => return Ok(()),
        (None, user) => match user.parse::<i64>() {
            Ok(0) => "container has runAsNonRoot and image will run as root".to_owned(),
            Ok(_) => return Ok(()),
            Err(_) => format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
            ),
        },
    };
    let PodId { namespace, name, uid } = pod_id(pod);
    Err(Error::Config(format!("{why} (pod: \"{name}_{namespace}({uid})\", container: {})", spec.name)))
}

fn seccomp(profile: Option<SeccompProfile>) -> Result<Profile, Error> {
    match profile.as_ref().map(|profile| profile.type_.as_str()) {
        Some("Unconfined") => Ok(Profile::Unconfined),
        Some("Localhost") => Err(Error::Config("seccompProfile.type Localhost is not supported".to_owned())),
        _ => Ok(Profile::Default),
    }
}

fn apparmor(profile: Option<AppArmorProfile>) -> Profile {
    match profile {
        Some(profile) if profile.type_ == "Unconfined" => Profile::Unconfined,
        Some(profile) if profile.type_ == "Localhost" => Profile::Named(profile.localhost_profile.unwrap_or_default()),
        _ => Profile::Default,
    }
}

fn selinux(options: SELinuxOptions) -> SelinuxOptions {
    SelinuxOptions {
        user: options.user.unwrap_or_default(),
        role: options.role.unwrap_or_default(),
        kind: options.type_.unwrap_or_default(),
        level: options.level.unwrap_or_default(),
    }
}

/// The path on the node of a volume, or of a part of one.
pub struct MountSource {
    pub path: PathBuf,
    /// Read-only even if the mount does not say so.
    pub read_only: bool,
}

/// The mounts of one container: `find` returns the source of a volume, or of the part of it under a path.
pub fn mounts(
    spec: &Spec,
    environment: &Environment,
    mut find: impl FnMut(&VolumeMount, Option<&str>) -> Result<MountSource, Error>,
) -> Result<Vec<Mount>, Error> {
    let mut mounts = Vec::new();
    for mount in spec.volume_mounts.iter().flatten() {
        let expanded = mount.sub_path_expr.as_deref().map(|text| environment.expand(text)).transpose()?;
        let source = find(mount, expanded.as_deref().or(mount.sub_path.as_deref()))?;
        let container_path = Path::new("/").join(&mount.mount_path).to_string_lossy().into_owned();
        mounts.push(Mount {
            host_path: source.path,
            container_path,
            read_only: source.read_only || mount.read_only == Some(true),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::None,
            },
        });
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
        assert_eq!(sandbox(&pod, 0).unwrap().ports, [expected]);
    }

    #[test]
    fn host_names_are_the_pod_s_or_chosen() {
        let name = |spec: serde_json::Value| hostname(&pod(spec)).map_err(|error| error.to_string());
        let pair = |name: &str, domain: &str| Ok((name.to_owned(), domain.to_owned()));
        assert_eq!(name(json!({"containers": []})), pair("www", ""));
        let of_service = json!({"containers": [], "hostname": "a", "subdomain": "s"});
        assert_eq!(name(of_service.clone()), pair("a", "s.d.svc.cluster.local"));
        let full = |subdomain: &str| json!({"containers": [], "subdomain": subdomain, "setHostnameAsFQDN": true});
        assert_eq!(name(full("s")), pair("www.s.d.svc.cluster.local", ""));
        assert!(name(full(&"s".repeat(60))).unwrap_err().contains("is too long (64 characters is the max"));
        assert_eq!(name(json!({"containers": [], "hostnameOverride": "mine.org"})), pair("mine.org", ""));
        let alone = sandbox(&pod(json!({"containers": [], "dnsPolicy": "None"})), 0).unwrap();
        assert_eq!(alone.dns_searches, ["."]);
    }

    fn user(of_pod: serde_json::Value, own: serde_json::Value, image: &str) -> Result<Option<String>, String> {
        let pod = pod(json!({"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}));
        let found = privileges(&pod, &lifecycle::spec(&pod).containers[0], image);
        found.map(|found| found.user).map_err(|error| error.to_string())
    }

    #[test]
    fn a_container_s_user_goes_over_the_pod_s_and_the_image_s() {
        let table = [
            (json!({}), json!({}), "", None),
            (json!({}), json!({}), "7:8", None),
            (json!({"runAsUser": 5}), json!({}), "7", Some("5")),
            (json!({"runAsUser": 5, "runAsGroup": 6}), json!({"runAsUser": 7}), "", Some("7:6")),
            (json!({"runAsGroup": 6}), json!({}), "7:8", Some("7:6")),
            (json!({"runAsGroup": 6}), json!({}), "web", Some("web:6")),
            (json!({}), json!({"runAsGroup": 6}), "", Some("0:6")),
        ];
        for (of_pod, own, image, expected) in table {
            assert_eq!(user(of_pod.clone(), own, image).unwrap().as_deref(), expected, "{of_pod} {image}");
        }
    }

    #[test]
    fn who_must_not_be_root_is_not() {
        let must_not = || json!({"runAsNonRoot": true});
        let about = " (pod: \"www_d(u)\", container: c)";
        let root = format!("container has runAsNonRoot and image will run as root{about}");
        for image in ["", "0", "0:5", ":5", "00"] {
            assert_eq!(user(must_not(), json!({}), image), Err(root.clone()), "{image:?}");
        }
        let named = "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root";
        assert_eq!(user(must_not(), json!({}), "web:5"), Err(format!("{named}{about}")));
        let breaks = format!("container's runAsUser breaks non-root policy{about}");
        assert_eq!(user(must_not(), json!({"runAsUser": 0}), "5"), Err(breaks.clone()));
        assert_eq!(user(json!({"runAsUser": 0}), must_not(), "5"), Err(breaks));
        assert_eq!(user(must_not(), json!({}), "5"), Ok(None));
        assert_eq!(user(must_not(), json!({"runAsUser": 9}), "web"), Ok(Some("9".to_owned())));
        assert_eq!(user(must_not(), json!({"runAsNonRoot": false}), ""), Ok(None));
    }

    #[test]
    fn confinement_comes_from_the_container_or_its_pod() {
        let pod = pod(json!({
            "securityContext": {"seccompProfile": {"type": "Unconfined"}, "seLinuxOptions": {"level": "s0"}},
            "containers": [{"name": "c", "securityContext": {
                "procMount": "Unmasked", "appArmorProfile": {"type": "Localhost", "localhostProfile": "mine"}}}]}));
        let found = privileges(&pod, &lifecycle::spec(&pod).containers[0], "").unwrap();
        assert_eq!((found.seccomp, found.apparmor), (Profile::Unconfined, Profile::Named("mine".into())));
        assert_eq!((found.selinux.level.as_str(), found.unmasked_proc), ("s0", true));
    }

    #[test]
    fn what_the_agent_publishes_is_read_only_whatever_the_mount_says() {
        let spec: Spec = serde_json::from_value(json!({"name": "c", "volumeMounts": [
            {"name": "own", "mountPath": "/own", "mountPropagation": "HostToContainer"},
            {"name": "published", "mountPath": "published", "readOnly": false}]}))
        .unwrap();
        let find = |mount: &VolumeMount, _: Option<&str>| {
            Ok(MountSource { path: "/v".into(), read_only: mount.name == "published" })
        };
        let found = mounts(&spec, &Environment::default(), find).unwrap();
        let shown: Vec<_> =
            found.iter().map(|mount| (mount.container_path.as_str(), mount.read_only, mount.propagation)).collect();
        let expected = [("/own", false, Propagation::HostToContainer), ("/published", true, Propagation::None)];
        assert_eq!(shown, expected);
    }
}
