//! Which kernel parameters a pod may set: those that change nothing outside of it.

use k8s_openapi::api::core::v1::PodSpec;

const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why the pod is not admitted; `None` if it may set all that it sets.
pub fn forbidden(spec: &PodSpec) -> Option<String> {
    let sysctls = spec.security_context.as_ref()?.sysctls.as_ref()?;
    let why = sysctls.iter().find_map(|sysctl| {
        let name = dotted(&sysctl.name);
        let shared = if name.starts_with("net.") {
            (spec.host_network == Some(true)).then_some("Net")
        } else {
            (spec.host_ipc == Some(true)).then_some("IPC")
        };
        match shared {
            _ if !SAFE.contains(&name.as_str()) => Some(format!("{name:?} not allowlisted")),
            Some(namespace) => Some(format!("{name:?} not allowed with host {namespace} enabled")),
            None => None,
        }
    })?;
    Some(format!("forbidden sysctl: {why}"))
}

/// The name with dots between its parts, if it has slashes there.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_stays_in_the_pod_may_be_set() {
        let forbidden = |name: &str, host: bool| {
            let spec = json!({"containers": [], "hostNetwork": host,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
            forbidden(&serde_json::from_value(spec).unwrap())
        };
        assert_eq!(forbidden("net.ipv4.tcp_syncookies", false), None);
        assert_eq!(forbidden("net/ipv4/tcp_syncookies", false), None);
        assert_eq!(forbidden("kernel.shm_rmid_forced", true), None);
        for name in ["kernel.msgmax", "net.ipv4.ip_forward", "kernel/msgmax"] {
            let expected = format!("forbidden sysctl: {:?} not allowlisted", name.replace('/', "."));
            assert_eq!(forbidden(name, false), Some(expected));
        }
        assert_eq!(
            forbidden("net.ipv4.tcp_rmem", true).unwrap(),
            "forbidden sysctl: \"net.ipv4.tcp_rmem\" not allowed with host Net enabled"
        );
    }
}
