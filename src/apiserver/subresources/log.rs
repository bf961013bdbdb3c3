//! `pods/log`: the output of a container, streamed from the agent of its node.
//!
//! The agent answers `GET /containerLogs/{namespace}/{pod}/{container}` over mutual TLS. Its address comes from the
//! status of its Node, which the node itself writes: only a certificate in the node's own name is accepted there.

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::apiserver::request::{Api, RequestInfo};
use crate::kube::status::Status;
use crate::world::tls;

/// How much of an agent's refusal is read.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// The query parameters that are passed to the agent.
const PARAMETERS: [&str; 7] =
    ["follow", "limitBytes", "previous", "sinceSeconds", "sinceTime", "tailLines", "timestamps"];

impl Api {
    /// Opens the log of the pod in the path. `query` holds the request's parameters.
    pub async fn open_log(&self, info: &RequestInfo<'_>, query: &[(String, String)]) -> Result<Incoming, Status> {
        let name = info.name()?;
        let pod = self.storage.get(info.resource, info.namespace(), name).await?.object.value();
        let asked = query.iter().find(|(key, _)| key == "container").map(|(_, value)| value.as_str());
        let container = container(&pod, name, asked.filter(|asked| !asked.is_empty()))?;
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if node.is_empty() {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        let address = self.agent_address(node).await?;
        let namespace = info.namespace().unwrap_or_default();
        let mut path = format!("/containerLogs/{namespace}/{name}/{container}");
        let handed_on: Vec<String> = query
            .iter()
            .filter(|(key, _)| PARAMETERS.contains(&key.as_str()))
            .map(|(key, value)| format!("{key}={}", escape(value)))
            .collect();
        if !handed_on.is_empty() {
            path = format!("{path}?{}", handed_on.join("&"));
        }
        self.ask_agent(node, &address, &path).await.map_err(|status| match waits(&pod, name, container) {
            Some(why) if status.code == 404 => Status::bad_request(why),
            _ => status,
        })
    }

    /// Where the agent of a node listens.
    async fn agent_address(&self, node: &str) -> Result<String, Status> {
        let nodes = self.table.get("", "v1", "nodes").ok_or_else(Status::no_such_resource)?;
        let stored = self.storage.get(nodes, None, node).await?.object.value();
        let address = stored["status"]["addresses"]
            .as_array()
            .and_then(|all| {
                let of = |kind: &str| all.iter().find(|address| address["type"] == kind);
                of("InternalIP").or_else(|| of("Hostname"))?["address"].as_str()
            })
            .ok_or_else(|| Status::internal_error(format!("node {node:?} reports no address")))?;
        let port = stored["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or(10250);
        Ok(if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") })
    }

    async fn ask_agent(&self, node: &str, address: &str, path: &str) -> Result<Incoming, Status> {
        let scheme = if self.config.agent_tls.is_some() { "https" } else { "http" };
        let away = |error: &dyn std::fmt::Display| {
            Status::internal_error(format!(
                "Get \"{scheme}://{address}{path}\": the agent of node {node:?} does not answer: {error}"
            ))
        };
        let mut stream = self.world.net.connect(address).await.map_err(|error| away(&error))?;
        if let Some(base) = &self.config.agent_tls {
            let tls = tls::Client::new(&self.world, agent(node, base.clone())).map_err(|error| away(&error))?;
            stream = tls.connect(stream, node).await.map_err(|error| away(&error))?;
        }
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| away(&error))?;
        self.world.spawner.task(connection);
        let request =
            Request::get(path).header(HOST, address).body(Empty::<Bytes>::new()).map_err(Status::internal_error)?;
        let response = sender.send_request(request).await.map_err(|error| away(&error))?;
        let code = response.status();
        if code == StatusCode::OK {
            return Ok(response.into_body());
        }
        let message = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await.map(|body| body.to_bytes());
        let message = String::from_utf8_lossy(&message.unwrap_or_default()).trim().to_owned();
        Err(match code {
            StatusCode::BAD_REQUEST => Status::bad_request(message),
            StatusCode::NOT_FOUND => Status::new(404, "NotFound", message),
            code => Status::internal_error(format!("the agent of node {node:?} answered {code}: {message}")),
        })
    }
}

/// TLS to the agent of one node: other certificates of the cluster's authority are not accepted.
fn agent(node: &str, base: tls::Options) -> tls::Options {
    tls::Options {
        server_name: Some(node.to_owned()),
        allowed_common_names: vec![format!("system:node:{node}")],
        http1_only: true,
        ..base
    }
}

/// The container whose log is requested.
fn container<'a>(pod: &'a Value, name: &str, asked: Option<&'a str>) -> Result<&'a str, Status> {
    let of = |list: &str| -> Vec<&'a str> {
        let containers = pod["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
        containers.iter().filter_map(|container| container["name"].as_str()).collect()
    };
    let (all, init, ephemeral) = (of("containers"), of("initContainers"), of("ephemeralContainers"));
    match asked {
        Some(asked) if [&all, &init, &ephemeral].iter().any(|list| list.contains(&asked)) => Ok(asked),
        Some(asked) => Err(Status::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None => match all.as_slice() {
            [only] => Ok(only),
            _ => {
                let mut why =
                    format!("a container name must be specified for pod {name}, choose one of: [{}]", all.join(" "));
                if !init.is_empty() {
                    why = format!("{why} or one of the init containers: [{}]", init.join(" "));
                }
                Err(Status::bad_request(why))
            }
        },
    }
}

/// Why a container that was not created yet has no log, if its status says for what it waits.
fn waits(pod: &Value, name: &str, container: &str) -> Option<String> {
    let statuses = ["containerStatuses", "initContainerStatuses"].map(|list| pod["status"][list].as_array());
    let status = statuses.into_iter().flatten().flatten().find(|status| status["name"] == container)?;
    let why = match status["state"]["waiting"]["reason"].as_str()? {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    };
    Some(format!("container {container:?} in pod {name:?} is waiting to start: {why}"))
}

/// A parameter's value, percent-encoded.
fn escape(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_container_is_meant() {
        let one = json!({"spec": {"containers": [{"name": "a"}]}});
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&one, "p", None), Ok("a"));
        assert_eq!(container(&two, "p", Some("i")), Ok("i"));
        let unsure = container(&two, "p", None).unwrap_err();
        assert_eq!(
            unsure.message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(container(&one, "p", Some("x")).unwrap_err().message, "container x is not valid for pod p");
    }

    #[test]
    fn a_container_that_waits_says_for_what() {
        let table = [
            ("ErrImagePull", "image can't be pulled"),
            ("ImagePullBackOff", "trying and failing to pull image"),
            ("ContainerCreating", "ContainerCreating"),
            ("PodInitializing", "PodInitializing"),
        ];
        for (reason, why) in table {
            let pod = json!({"status": {"containerStatuses": [
                {"name": "b", "state": {"running": {}}}, {"name": "c", "state": {"waiting": {"reason": reason}}}]}});
            let expected = format!("container \"c\" in pod \"p\" is waiting to start: {why}");
            assert_eq!(waits(&pod, "p", "c"), Some(expected));
            assert_eq!(waits(&pod, "p", "b"), None);
        }
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(escape("2026-01-01T00:00:00Z"), "2026-01-01T00%3A00%3A00Z");
    }
}
