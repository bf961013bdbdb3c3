//! A container's environment: services, then `envFrom`, then `env`, each later one over the earlier; and `$(NAME)` in
//! values, commands and arguments.

use k8s_openapi::api::core::v1::{Container as Spec, EnvVarSource, Service};

use super::downward_api::DownwardApi;
use super::sources::Sources;
use crate::agent::error::Error;

/// The longest string that Linux takes as a variable or an argument.
const STRING_BYTES_MAX: usize = 128 << 10;
/// How much of variables or arguments Linux takes by default.
const BYTES_MAX: usize = 2 << 20;
/// Longest part of a refused text that is shown.
const SHOWN_CHARS_MAX: usize = 32;

/// Variables in the order they were first set, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> Result<(), Error> {
        let (name, value) = (name.into(), value.into());
        if name.len() + value.len() >= STRING_BYTES_MAX {
            return Err(Error::Config(format!("the variable {name} is longer than {STRING_BYTES_MAX} bytes")));
        }
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
        let bytes: usize = self.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > BYTES_MAX {
            return Err(Error::Config(format!("the environment is longer than {BYTES_MAX} bytes")));
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// As [`expand`](Environment::expand), for all of a command or of its arguments.
    pub fn expand_all(&self, texts: &[String]) -> Result<Vec<String>, Error> {
        let mut left = BYTES_MAX;
        let mut expanded = Vec::with_capacity(texts.len());
        for text in texts {
            let text = self.expand(text)?;
            let too_long = || Error::Config(format!("the command or its arguments are longer than {BYTES_MAX} bytes"));
            left = left.checked_sub(text.len()).ok_or_else(too_long)?;
            expanded.push(text);
        }
        Ok(expanded)
    }

    /// Replaces `$(NAME)` by the variable's value. `$$` stands for `$`; a reference to no variable stays as it is.
    pub fn expand(&self, text: &str) -> Result<String, Error> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            if out.len() > STRING_BYTES_MAX {
                break;
            }
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let name = rest.strip_prefix('(').and_then(|inside| inside.split_once(')'));
            match name.and_then(|(name, after)| Some((self.get(name)?, after))) {
                Some((value, after)) => {
                    out.push_str(value);
                    rest = after;
                }
                None => out.push('$'),
            }
        }
        out.push_str(rest);
        if out.len() >= STRING_BYTES_MAX {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            return Err(Error::Config(format!("{shown:?} expands to more than {STRING_BYTES_MAX} bytes")));
        }
        Ok(out)
    }

    pub fn into_variables(self) -> Vec<(String, String)> {
        self.0
    }
}

/// The environment of one container, with the variables of `services`.
pub fn environment(
    container: &Spec,
    downward_api: DownwardApi<'_>,
    sources: &Sources,
    services: &[(String, String)],
) -> Result<Environment, Error> {
    let mut environment = Environment(services.to_vec());
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let map = sources.config_map(&reference.name, reference.optional == Some(true))?;
            for (key, value) in map.and_then(|map| map.data.as_ref()).into_iter().flatten() {
                environment.set(format!("{prefix}{key}"), value)?;
            }
        }
        if let Some(reference) = &from.secret_ref {
            let secret = sources.secret(&reference.name, reference.optional == Some(true))?;
            for (key, value) in secret.and_then(|secret| secret.data.as_ref()).into_iter().flatten() {
                environment.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0))?;
            }
        }
    }
    for variable in container.env.iter().flatten() {
        match &variable.value_from {
            None => {
                let value = environment.expand(variable.value.as_deref().unwrap_or_default())?;
                environment.set(&variable.name, value)?;
            }
            Some(from) => {
                if let Some(value) = value(container, from, downward_api, sources)? {
                    environment.set(&variable.name, value)?;
                }
            }
        }
    }
    Ok(environment)
}

/// The value of a reference; `None` if the source is optional and missing.
fn value(
    container: &Spec,
    from: &EnvVarSource,
    downward_api: DownwardApi<'_>,
    sources: &Sources,
) -> Result<Option<String>, Error> {
    if let Some(field) = &from.field_ref {
        return downward_api.field(&field.field_path).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return downward_api.resource(Some(container), resource).map(Some);
    }
    if let Some(reference) = &from.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let map = sources.config_map(&reference.name, optional)?;
        let found = map.and_then(|map| map.data.as_ref()?.get(&reference.key)).cloned();
        return or_missing(found, optional, &reference.key, "ConfigMap", &reference.name);
    }
    if let Some(reference) = &from.secret_key_ref {
        let optional = reference.optional == Some(true);
        let secret = sources.secret(&reference.name, optional)?;
        let found = secret.and_then(|secret| secret.data.as_ref()?.get(&reference.key));
        let found = found.map(|value| String::from_utf8_lossy(&value.0).into_owned());
        return or_missing(found, optional, &reference.key, "Secret", &reference.name);
    }
    if from.file_key_ref.is_some() {
        return Err(Error::Config("fileKeyRef is not supported".to_owned()));
    }
    Ok(None)
}

fn or_missing(
    found: Option<String>,
    optional: bool,
    key: &str,
    kind: &str,
    name: &str,
) -> Result<Option<String>, Error> {
    if found.is_none() && !optional {
        return Err(Error::Config(format!("couldn't find key {key} in {kind} {name}")));
    }
    Ok(found)
}

/// The variables for the services in a container's namespace, and for the API itself. Names are upper case
/// with `_` for `-`.
pub fn of_services<'a>(
    services: impl Iterator<Item = &'a Service>,
    own_namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let meta = &service.metadata;
        let (Some(name), Some(spec)) = (meta.name.as_deref(), service.spec.as_ref()) else { continue };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let is_api = namespace == "default" && name == "kubernetes";
        if !(is_api || links && namespace == own_namespace) {
            continue;
        }
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
        let prefix = upper(name);
        let mut set = |suffix: String, value: String| variables.push((format!("{prefix}_{suffix}"), value));
        set("SERVICE_HOST".to_owned(), ip.to_owned());
        set("SERVICE_PORT".to_owned(), first.port.to_string());
        for port in ports {
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                set(format!("SERVICE_PORT_{}", upper(name)), port.port.to_string());
            }
        }
        for (number, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{ip}:{}", protocol.to_ascii_lowercase(), port.port);
            let base = format!("PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
            if number == 0 {
                set("PORT".to_owned(), url.clone());
            }
            set(base.clone(), url);
            set(format!("{base}_PROTO"), protocol.to_ascii_lowercase());
            set(format!("{base}_PORT"), port.port.to_string());
            set(format!("{base}_ADDR"), ip.to_owned());
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::agent::config::Capacity;

    #[test]
    fn references_expand_as_documented() {
        let environment = Environment(vec![("A".into(), "1".into()), ("B".into(), "x$(A)".into())]);
        let table = [
            ("$(A)", "1"),
            ("-$(A)$(B)-", "-1x$(A)-"),
            ("$$(A)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("a$b$$c", "a$b$c"),
            ("$$$(A)", "$1"),
        ];
        for (text, expected) in table {
            assert_eq!(environment.expand(text).unwrap(), expected, "{text}");
        }
    }

    fn resolve(container: serde_json::Value, sources: &Sources) -> Result<Vec<(String, String)>, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "www"}, "spec": {"containers": [container]},
        }))
        .unwrap();
        let node = Capacity { cpu_millis: 0, memory_bytes: 0, storage_bytes: 0, pods: 0 };
        let downward_api = DownwardApi { pod: &pod, host_ip: "10.0.0.1".parse().unwrap(), pod_ip: None, node };
        let services = vec![("S".to_owned(), "svc".to_owned())];
        environment(&pod.spec.as_ref().unwrap().containers[0], downward_api, sources, &services)
            .map(Environment::into_variables)
            .map_err(|error| error.to_string())
    }

    fn sources() -> Sources {
        serde_json::from_value(json!({
            "config_maps": {"m": {"data": {"k": "from map", "S": "map wins"}}},
            "secrets": {"s": {"data": {"p": "aGlkZGVu"}}},
        }))
        .unwrap()
    }

    #[test]
    fn later_sources_win_and_earlier_variables_expand() {
        let container = json!({"name": "c",
            "envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "m"}}],
            "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "HELLO", "value": "$(NAME) $(P_p) $(LATER)"}, {"name": "LATER", "value": "x"}]});
        let expected = [
            ("S", "map wins"),
            ("P_p", "hidden"),
            ("k", "from map"),
            ("NAME", "www"),
            ("HELLO", "www hidden $(LATER)"),
            ("LATER", "x"),
        ];
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(resolve(container, &sources()).unwrap(), expected);
    }

    #[test]
    fn variables_that_double_end_at_what_linux_takes() {
        let mut variables = vec![json!({"name": "V0", "value": "0123456789"})];
        for at in 1..40 {
            let value = format!("$(V{})$(V{})", at - 1, at - 1);
            variables.push(json!({"name": format!("V{at}"), "value": value}));
        }
        let refused = resolve(json!({"name": "c", "env": variables}), &sources()).unwrap_err();
        assert_eq!(refused, "\"$(V13)$(V13)\" expands to more than 131072 bytes");
        let mut many = vec![json!({"name": "LONG", "value": "x".repeat(100_000)})];
        many.extend((0..40).map(|at| json!({"name": format!("V{at}"), "value": "$(LONG)"})));
        let refused = resolve(json!({"name": "c", "env": many}), &sources()).unwrap_err();
        assert_eq!(refused, "the environment is longer than 2097152 bytes");
        let environment = Environment(vec![("LONG".to_owned(), "x".repeat(100_000))]);
        environment.expand_all(&vec!["$(LONG)".to_owned(); 20]).unwrap();
        environment.expand_all(&vec!["$(LONG)".to_owned(); 21]).unwrap_err();
    }

    #[test]
    fn missing_sources_are_named_unless_optional() {
        let key = |kind: &str, name: &str, key: &str, optional: bool| {
            json!({"name": "c", "env": [{"name": "X",
                "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}]})
        };
        let table = [
            (key("configMapKeyRef", "none", "k", false), Err("configmap \"none\" not found")),
            (key("configMapKeyRef", "none", "k", true), Ok(())),
            (key("configMapKeyRef", "m", "none", false), Err("couldn't find key none in ConfigMap m")),
            (key("secretKeyRef", "s", "none", false), Err("couldn't find key none in Secret s")),
            (key("secretKeyRef", "none", "p", false), Err("secret \"none\" not found")),
        ];
        for (container, expected) in table {
            let found = resolve(container.clone(), &sources());
            assert_eq!(found.as_ref().map(|_| ()).map_err(String::as_str), expected, "{container}");
        }
    }

    #[test]
    fn services_of_the_namespace_and_the_api_are_told() {
        let service = |namespace: &str, name: &str, ip: &str| -> Service {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": ip, "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}}))
            .unwrap()
        };
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("shop", "front-end", "10.96.0.2"),
            service("shop", "headless", "None"),
            service("other", "hidden", "10.96.0.3"),
        ];
        let variables = of_services(services.iter(), "shop", true);
        let get = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(get("KUBERNETES_SERVICE_HOST"), Some("10.96.0.1"));
        assert_eq!(get("FRONT_END_SERVICE_PORT_WEB"), Some("80"));
        assert_eq!(get("FRONT_END_PORT_80_TCP_ADDR"), Some("10.96.0.2"));
        assert_eq!(get("FRONT_END_PORT"), Some("tcp://10.96.0.2:80"));
        assert!(get("HEADLESS_SERVICE_HOST").is_none() && get("HIDDEN_SERVICE_HOST").is_none());
        assert!(of_services(services.iter(), "shop", false).iter().all(|(name, _)| name.starts_with("KUBERNETES_")));
    }
}
