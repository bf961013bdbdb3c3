//! Pure translation between the room's types and the engine's.

use std::net::IpAddr;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState as EngineState, ContainerStateStatusEnum,
    ContainerSummary, EventMessage, HostConfig, HostConfigLogConfig, Mount as EngineMount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, PortBinding,
};
use jiff::Timestamp;

use crate::agent::image;
use crate::agent::runtime::{
    Container, ContainerSpec, ContainerState, Exit, Mount, PidNamespace, PodId, PodLifecycleEvent, PodView, Privileges,
    Profile, Propagation, Sandbox, SandboxSpec,
};

const NODE: &str = "io.chorus.node";
const CLUSTER: &str = "io.chorus.cluster";
const TERMINATION_MESSAGE: &str = "io.chorus.termination-message";
const IMAGE: &str = "io.chorus.image";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const HASH: &str = "io.kubernetes.container.hash";
const SANDBOX_ID: &str = "io.kubernetes.sandbox.id";
/// The node's own namespace.
const HOST: &str = "host";
/// The container name of a pod's pause container.
const PAUSE: &str = "POD";

/// The size at which the engine begins a new log file, and how many files it keeps.
const LOG_FILE: (&str, &str) = ("10m", "5");
/// Exit status of a process that could not be started, as a shell and other runtimes report it.
const EXIT_NOT_STARTED: i32 = 128;
/// The pause process should be the last that the kernel ends for want of memory.
const PAUSE_OOM_SCORE: i64 = -998;
const PAUSE_CPU_SHARES: i64 = 2;

/// Whose containers: one agent of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub node: String,
    pub cluster: String,
}

impl Owner {
    pub fn filter(&self) -> Vec<String> {
        vec![format!("{NODE}={}", self.node), format!("{CLUSTER}={}", self.cluster)]
    }

    pub fn filter_pod(&self, uid: &str) -> Vec<String> {
        let mut labels = self.filter();
        labels.push(format!("{POD_UID}={uid}"));
        labels
    }

    fn labels(&self, pod: &PodId, container: &str, attempt: u32) -> Vec<(&'static str, String)> {
        vec![
            (NODE, self.node.clone()),
            (CLUSTER, self.cluster.clone()),
            (POD_NAME, pod.name.clone()),
            (POD_NAMESPACE, pod.namespace.clone()),
            (POD_UID, pod.uid.clone()),
            (CONTAINER_NAME, container.to_owned()),
            (RESTART_COUNT, attempt.to_string()),
        ]
    }
}

/// A container's name, as Kubernetes has always written it for Docker.
pub(super) fn name(container: &str, pod: &PodId, attempt: u32) -> String {
    format!("k8s_{container}_{}_{}_{}_{attempt}", pod.name, pod.namespace, pod.uid)
}

/// The pause container of a pod.
pub(super) fn sandbox(owner: &Owner, pod: &PodId, spec: &SandboxSpec, image: &str) -> ContainerCreateBody {
    let port =
        |mapping: &crate::agent::runtime::PortMapping| format!("{}/{}", mapping.container_port, mapping.protocol);
    let mut bindings: Vec<(String, Option<Vec<PortBinding>>)> = Vec::new();
    for mapping in &spec.ports {
        let binding = PortBinding { host_ip: mapping.host_ip.clone(), host_port: Some(mapping.host_port.to_string()) };
        match bindings.iter_mut().find(|(known, _)| *known == port(mapping)) {
            Some((_, known)) => known.get_or_insert_default().push(binding),
            None => bindings.push((port(mapping), Some(vec![binding]))),
        }
    }
    let host = |yes: bool, otherwise: &str| if yes { HOST.to_owned() } else { otherwise.to_owned() };
    let labels = owner.labels(pod, PAUSE, spec.attempt);
    ContainerCreateBody {
        // On the host's network a pod has the host's name.
        hostname: (!spec.host_network).then(|| spec.hostname.clone()),
        domainname: Some(spec.domain.clone()).filter(|domain| !spec.host_network && !domain.is_empty()),
        image: Some(image.to_owned()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        exposed_ports: filled(spec.ports.iter().map(port).collect()),
        host_config: Some(HostConfig {
            network_mode: Some(host(spec.host_network, "bridge")),
            ipc_mode: Some(host(spec.host_ipc, "shareable")),
            pid_mode: spec.host_pid.then(|| HOST.to_owned()),
            port_bindings: Some(bindings.into_iter().collect()),
            extra_hosts: filled(spec.extra_hosts.clone()),
            dns: filled(spec.dns_servers.clone()),
            dns_search: filled(spec.dns_searches.clone()),
            dns_options: filled(spec.dns_options.clone()),
            sysctls: (!spec.sysctls.is_empty()).then(|| spec.sysctls.iter().cloned().collect()),
            cpu_shares: Some(PAUSE_CPU_SHARES),
            oom_score_adj: Some(PAUSE_OOM_SCORE),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// A container of a pod, joined to its pause container.
pub(super) fn container(owner: &Owner, pod: &PodId, spec: &ContainerSpec) -> ContainerCreateBody {
    let mut labels = owner.labels(pod, &spec.name, spec.attempt);
    labels.extend([(SANDBOX_ID, spec.sandbox.clone()), (HASH, spec.hash.clone()), (IMAGE, spec.image.clone())]);
    if let Some(path) = &spec.termination_message {
        labels.push((TERMINATION_MESSAGE, path.to_string_lossy().into_owned()));
    }
    let join = format!("container:{}", spec.sandbox);
    let privileges = &spec.privileges;
    ContainerCreateBody {
        // The name may have moved to another image since this one was found.
        image: Some(if spec.image_id.is_empty() { image::with_tag(&spec.image) } else { spec.image_id.clone() }),
        entrypoint: filled(spec.command.clone()),
        // With a command of its own a pod does not use the image's arguments.
        cmd: if spec.command.is_empty() { filled(spec.args.clone()) } else { Some(spec.args.clone()) },
        env: Some(spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: spec.working_dir.clone(),
        stop_signal: spec.stop_signal.clone(),
        user: privileges.user.clone(),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin_once),
        tty: Some(spec.tty),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        host_config: Some(HostConfig {
            network_mode: Some(join.clone()),
            ipc_mode: Some(if spec.host_ipc { HOST.to_owned() } else { join.clone() }),
            pid_mode: match spec.pid_namespace {
                PidNamespace::Container => None,
                PidNamespace::Pod => Some(join),
                PidNamespace::Node => Some(HOST.to_owned()),
            },
            mounts: filled(spec.mounts.iter().map(mount).collect()),
            cpu_shares: Some(spec.limits.cpu_shares),
            cpu_quota: Some(spec.limits.cpu_quota_us),
            cpu_period: Some(spec.limits.cpu_period_us),
            memory: Some(spec.limits.memory_bytes_max),
            // Memory and swap together: no swap beyond the limit.
            memory_swap: Some(spec.limits.memory_bytes_max),
            oom_score_adj: Some(spec.limits.oom_score_adj),
            privileged: Some(privileges.privileged),
            readonly_rootfs: Some(privileges.read_only_root),
            cap_add: filled(privileges.capabilities_added.clone()),
            cap_drop: filled(privileges.capabilities_dropped.clone()),
            group_add: filled(privileges.extra_groups.clone()),
            security_opt: filled(security_options(privileges)),
            // An empty list hides nothing; the engine's own is used where there is none.
            masked_paths: privileges.unmasked_proc.then(Vec::new),
            readonly_paths: privileges.unmasked_proc.then(Vec::new),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(
                    [("max-size", LOG_FILE.0), ("max-file", LOG_FILE.1)]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Removes a lowered out-of-memory score from `body`; returns whether there was one.
pub(super) fn do_not_protect(body: &mut ContainerCreateBody) -> bool {
    let score = body.host_config.as_mut().and_then(|host| host.oom_score_adj.as_mut()).filter(|score| **score < 0);
    score.map(|score| *score = 0).is_some()
}

fn security_options(privileges: &Privileges) -> Vec<String> {
    let profile = |module: &str, profile: &Profile| match profile {
        Profile::Default => None,
        Profile::Unconfined => Some(format!("{module}=unconfined")),
        Profile::Named(name) => Some(format!("{module}={name}")),
    };
    let selinux = &privileges.selinux;
    let labels = [("user", &selinux.user), ("role", &selinux.role), ("type", &selinux.kind), ("level", &selinux.level)];
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let no_new = privileges.no_new_privileges.then(|| "no-new-privileges".to_owned());
    no_new
        .into_iter()
        .chain(profile("seccomp", &privileges.seccomp))
        .chain(profile("apparmor", &privileges.apparmor))
        .chain(labels.map(|(name, value)| format!("label={name}:{value}")))
        .collect()
}

fn mount(mount: &Mount) -> EngineMount {
    let propagation = match mount.propagation {
        Propagation::None => None,
        Propagation::HostToContainer => Some(MountBindOptionsPropagationEnum::RSLAVE),
        Propagation::Bidirectional => Some(MountBindOptionsPropagationEnum::RSHARED),
    };
    EngineMount {
        bind_options: propagation
            .map(|propagation| MountBindOptions { propagation: Some(propagation), ..MountBindOptions::default() }),
        typ: Some(MountType::BIND),
        source: Some(mount.host_path.to_string_lossy().into_owned()),
        target: Some(mount.container_path.clone()),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    }
}

fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The pod that a container belongs to; `None` for one that lacks the labels.
pub(super) fn pod_of(summary: &ContainerSummary) -> Option<PodId> {
    let label = |key: &str| summary.labels.as_ref()?.get(key).cloned();
    Some(PodId { namespace: label(POD_NAMESPACE)?, name: label(POD_NAME)?, uid: label(POD_UID)? })
}

/// The pod that an event is about.
pub(super) fn changed_pod(event: EventMessage) -> Option<PodLifecycleEvent> {
    event.actor?.attributes?.remove(POD_UID).map(|uid| PodLifecycleEvent { uid })
}

/// Why the container's process could not be started, if it could not.
pub(super) fn start_error(inspected: &ContainerInspectResponse) -> Option<String> {
    let state = inspected.state.as_ref()?;
    let created = state.status == Some(ContainerStateStatusEnum::CREATED);
    state.error.clone().filter(|error| created && !error.is_empty())
}

/// Adds a container to the view of its pod, as a sandbox or as a container.
pub(super) fn add_to_view(view: &mut PodView, inspected: ContainerInspectResponse) {
    let labels = inspected.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let attempt = label(RESTART_COUNT).parse().unwrap_or_default();
    let created = inspected.created.as_deref().and_then(time).unwrap_or_default();
    let id = inspected.id.clone().unwrap_or_default();
    if label(CONTAINER_NAME) == PAUSE {
        let state = inspected.state.clone().unwrap_or_default();
        let running = state.running == Some(true);
        view.sandboxes.push(Sandbox { id, attempt, running, ip: ip(&inspected), created });
        return;
    }
    let state = state(inspected.state.clone().unwrap_or_default(), start_error(&inspected), created);
    view.containers.push(Container {
        id,
        name: label(CONTAINER_NAME),
        attempt,
        sandbox: label(SANDBOX_ID),
        image: label(IMAGE),
        image_id: inspected.image.unwrap_or_default(),
        hash: label(HASH),
        created,
        state,
        termination_message: labels.get(TERMINATION_MESSAGE).map(PathBuf::from),
    });
}

fn state(state: EngineState, start_error: Option<String>, created: Timestamp) -> ContainerState {
    let started = state.started_at.as_deref().and_then(time);
    if let Some(error) = start_error {
        let exit = Exit { code: EXIT_NOT_STARTED, out_of_memory: false, error, started: None, finished: created };
        return ContainerState::Exited(exit);
    }
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
        _ if state.running == Some(true) => ContainerState::Running { started: started.unwrap_or(created) },
        _ => ContainerState::Exited(Exit {
            code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
            started,
            finished: state.finished_at.as_deref().and_then(time).unwrap_or(created),
        }),
    }
}

/// The address in the first network that has one.
fn ip(inspected: &ContainerInspectResponse) -> Option<IpAddr> {
    let networks = inspected.network_settings.as_ref()?.networks.as_ref()?;
    let mut found: Vec<_> = networks.iter().collect();
    found.sort_by_key(|(name, _)| name.as_str());
    found.iter().find_map(|(_, endpoint)| endpoint.ip_address.as_deref()?.parse().ok())
}

/// A time of the engine's; its year 1 means "never".
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|time: &Timestamp| *time > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodId {
        PodId { namespace: "default".into(), name: "www".into(), uid: "u-1".into() }
    }

    fn owner() -> Owner {
        Owner { node: "n1".into(), cluster: "c".into() }
    }

    fn inspected(labels: &[(&str, &str)], state: serde_json::Value) -> ContainerInspectResponse {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        serde_json::from_value(serde_json::json!({
            "Id": "abc", "Created": "2026-01-02T03:04:05.5Z", "Image": "sha256:1", "State": state,
            "Config": { "Labels": labels },
            "NetworkSettings": { "Networks": { "bridge": { "IPAddress": "172.17.0.2" } } },
        }))
        .unwrap()
    }

    #[test]
    fn names_follow_kubernetes() {
        assert_eq!(name("nginx", &pod(), 2), "k8s_nginx_www_default_u-1_2");
    }

    #[test]
    fn a_container_joins_its_sandbox_and_keeps_the_image_arguments_only_without_a_command() {
        let spec = ContainerSpec { sandbox: "s".into(), ..test_spec() };
        let body = container(&owner(), &pod(), &spec);
        assert_eq!(body.cmd, None);
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("container:s"));
        assert_eq!(host.pid_mode, None);
        assert_eq!(host.security_opt, None);
        let body = container(&owner(), &pod(), &ContainerSpec { command: vec!["/run".into()], ..test_spec() });
        assert_eq!((body.entrypoint, body.cmd), (Some(vec!["/run".to_owned()]), Some(vec![])));
    }

    #[test]
    fn the_nodes_namespaces_reach_every_container() {
        let spec = ContainerSpec { pid_namespace: PidNamespace::Node, host_ipc: true, ..test_spec() };
        let host = container(&owner(), &pod(), &spec).host_config.unwrap();
        assert_eq!((host.pid_mode.as_deref(), host.ipc_mode.as_deref()), (Some("host"), Some("host")));
        let spec = ContainerSpec { pid_namespace: PidNamespace::Pod, sandbox: "s".into(), ..test_spec() };
        let host = container(&owner(), &pod(), &spec).host_config.unwrap();
        let joined = Some("container:s");
        assert_eq!((host.pid_mode.as_deref(), host.ipc_mode.as_deref()), (joined, joined));
    }

    #[test]
    fn confinement_is_chosen_by_security_options() {
        let selinux = crate::agent::runtime::SelinuxOptions { level: "s0:c1".into(), ..Default::default() };
        let (seccomp, apparmor) = (Profile::Unconfined, Profile::Named("mine".into()));
        let privileges = Privileges {
            no_new_privileges: true,
            seccomp,
            apparmor,
            selinux,
            unmasked_proc: true,
            ..Default::default()
        };
        let spec = ContainerSpec { privileges, ..test_spec() };
        let host = container(&owner(), &pod(), &spec).host_config.unwrap();
        let expected = ["no-new-privileges", "seccomp=unconfined", "apparmor=mine", "label=level:s0:c1"];
        assert_eq!(host.security_opt.unwrap(), expected);
        assert_eq!((host.masked_paths, host.readonly_paths), (Some(vec![]), Some(vec![])));
    }

    #[test]
    fn published_ports_of_one_container_port_are_kept_together() {
        let port = |host_port| crate::agent::runtime::PortMapping {
            container_port: 80,
            host_port,
            host_ip: None,
            protocol: "tcp".into(),
        };
        let spec = SandboxSpec { ports: vec![port(8080), port(8081)], ..SandboxSpec::default() };
        let bindings = sandbox(&owner(), &pod(), &spec, "pause").host_config.unwrap().port_bindings.unwrap();
        assert_eq!(bindings["80/tcp"].as_ref().unwrap().len(), 2);
    }

    #[test]
    fn the_engine_s_states_translate() {
        let labels = [(CONTAINER_NAME, "c"), (RESTART_COUNT, "3"), (SANDBOX_ID, "s")];
        let table = [
            (
                serde_json::json!({"Status": "running", "Running": true, "StartedAt": "2026-01-02T03:04:06Z"}),
                ContainerState::Running { started: "2026-01-02T03:04:06Z".parse().unwrap() },
            ),
            (serde_json::json!({"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}), ContainerState::Created),
            (
                serde_json::json!({"Status": "created", "ExitCode": 127, "Error": "no such file"}),
                ContainerState::Exited(Exit {
                    code: 128,
                    out_of_memory: false,
                    error: "no such file".into(),
                    started: None,
                    finished: "2026-01-02T03:04:05.5Z".parse().unwrap(),
                }),
            ),
            (
                serde_json::json!({"Status": "exited", "ExitCode": 137, "OOMKilled": true,
                    "StartedAt": "2026-01-02T03:04:06Z", "FinishedAt": "2026-01-02T03:04:07Z"}),
                ContainerState::Exited(Exit {
                    code: 137,
                    out_of_memory: true,
                    error: String::new(),
                    started: Some("2026-01-02T03:04:06Z".parse().unwrap()),
                    finished: "2026-01-02T03:04:07Z".parse().unwrap(),
                }),
            ),
        ];
        for (state, expected) in table {
            let mut view = PodView::default();
            add_to_view(&mut view, inspected(&labels, state));
            assert_eq!((view.containers[0].attempt, &view.containers[0].state), (3, &expected));
        }
    }

    #[test]
    fn a_pause_container_is_the_sandbox_with_the_address() {
        let mut view = PodView::default();
        let state = serde_json::json!({"Status": "running", "Running": true});
        add_to_view(&mut view, inspected(&[(CONTAINER_NAME, PAUSE)], state));
        assert_eq!(view.active_sandbox().unwrap().ip, Some("172.17.0.2".parse().unwrap()));
    }

    fn test_spec() -> ContainerSpec {
        ContainerSpec { name: "c".into(), image: "busybox".into(), image_id: "sha256:1".into(), ..Default::default() }
    }
}
