//! In which form a body comes and in which form the answer goes. Pure.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::kube::client::PatchType;
use crate::kube::patch;
use crate::kube::status::Status;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
/// How an object or a list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Yaml,
    Table,
    /// `PartialObjectMetadata`, or a list of it.
    Metadata,
    /// Aggregated discovery: `v2` or `v2beta1`.
    Discovery(&'static str),
}

/// A media type with its parameters.
struct Media<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Media<'a> {
    fn parse(text: &'a str) -> Media<'a> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
        Media { name, parameters: parameters.collect() }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn is_refused(&self) -> bool {
        self.get("q").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
    }

    /// The form this media type asks for, if it is served. `discovery`: the path has an aggregated form.
    fn form(&self, discovery: bool) -> Option<Form> {
        match (self.name, self.get("as")) {
            (YAML, None) => Some(Form::Yaml),
            (JSON | "application/*" | "*/*" | "", None) => Some(Form::Json),
            (JSON, Some("Table")) if !discovery => Some(Form::Table),
            (JSON, Some("PartialObjectMetadata" | "PartialObjectMetadataList")) if !discovery => Some(Form::Metadata),
            (JSON, Some("APIGroupDiscoveryList")) if discovery => match self.get("v") {
                Some("v2") => Some(Form::Discovery("v2")),
                Some("v2beta1") => Some(Form::Discovery("v2beta1")),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The first form in `Accept` that is served; 406 if there is none. Protobuf is passed over: every client that asks
/// for it takes JSON as well.
pub fn accepted(headers: &HeaderMap, discovery: bool) -> Result<Form, Status> {
    let mut asked = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if asked.peek().is_none() {
        return Ok(Form::Json);
    }
    let ranges = asked.flat_map(|value| value.split(',')).map(Media::parse);
    let mut found = ranges.filter(|media| !media.is_refused()).filter_map(|media| media.form(discovery));
    found.next().ok_or_else(|| Status::not_acceptable(&[JSON, YAML]))
}

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Json,
    Yaml,
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map_or("", |text| Media::parse(text).name)
}

/// The form of the body of a create, update or delete; 415 for others, protobuf among them.
pub fn body(headers: &HeaderMap) -> Result<Body, Status> {
    match content_type(headers) {
        "" | JSON | "*/*" => Ok(Body::Json),
        YAML | "application/x-yaml" | "text/yaml" => Ok(Body::Yaml),
        _ => Err(Status::unsupported_media_type(&[JSON, YAML])),
    }
}

/// The kind of a patch; 415 for others.
pub fn patch(headers: &HeaderMap) -> Result<PatchType, Status> {
    patch::type_of(content_type(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn what_clients_accept() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        for (accept, on_discovery, expected) in [
            (table, false, Ok(Form::Table)),
            (discovery, true, Ok(Form::Discovery("v2"))),
            (discovery, false, Ok(Form::Json)),
            ("application/vnd.kubernetes.protobuf,application/json", false, Ok(Form::Json)),
            ("application/vnd.kubernetes.protobuf, */*", false, Ok(Form::Json)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", false, Ok(Form::Metadata)),
            ("application/yaml", false, Ok(Form::Yaml)),
            ("application/vnd.kubernetes.protobuf", false, Err(406)),
            ("text/plain", false, Err(406)),
            ("application/json;q=0", false, Err(406)),
        ] {
            let found = accepted(&headers(ACCEPT, accept), on_discovery).map_err(|status| status.code);
            assert_eq!(found, expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new(), false), Ok(Form::Json));
    }

    #[test]
    fn what_bodies_are_taken() {
        for (found, expected) in [
            ("application/json", Ok(Body::Json)),
            ("application/json; charset=utf-8", Ok(Body::Json)),
            ("application/yaml", Ok(Body::Yaml)),
            ("application/vnd.kubernetes.protobuf", Err(415)),
        ] {
            assert_eq!(body(&headers(CONTENT_TYPE, found)).map_err(|status| status.code), expected, "{found}");
        }
        assert_eq!(body(&HeaderMap::new()), Ok(Body::Json));
    }

    #[test]
    fn what_patches_are_taken() {
        let kind = |text: &str| patch(&headers(CONTENT_TYPE, text)).map_err(|status| status.code);
        assert_eq!(kind("application/strategic-merge-patch+json"), Ok(PatchType::Strategic));
        assert_eq!(kind("application/apply-patch+yaml"), Ok(PatchType::Apply));
        assert_eq!(kind("application/json"), Err(415));
    }
}
