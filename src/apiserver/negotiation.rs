//! The format of a body, and the media type that a client accepts for the answer. Pure.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::kube::client::PatchType;
use crate::kube::patch;
use crate::kube::schema::Format;
use crate::kube::status::Status;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// The media type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Yaml,
    Table,
    /// `PartialObjectMetadata`, or a list of it.
    Metadata,
    /// Aggregated discovery: `v2` or `v2beta1`.
    Discovery(&'static str),
}

/// A media range of `Accept`, or a content type, with its parameters.
struct MediaRange<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> MediaRange<'a> {
    fn parse(text: &'a str) -> MediaRange<'a> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
        MediaRange { name, parameters: parameters.collect() }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn is_refused(&self) -> bool {
        self.get("q").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
    }

    /// The media type that this range asks for, if it is served. `discovery`: the path has an aggregated form.
    fn media_type(&self, discovery: bool) -> Option<MediaType> {
        match (self.name, self.get("as")) {
            (YAML, None) => Some(MediaType::Yaml),
            (JSON | "application/*" | "*/*" | "", None) => Some(MediaType::Json),
            (JSON, Some("Table")) if !discovery => Some(MediaType::Table),
            (JSON, Some("PartialObjectMetadata" | "PartialObjectMetadataList")) if !discovery => {
                Some(MediaType::Metadata)
            }
            (JSON, Some("APIGroupDiscoveryList")) if discovery => match self.get("v") {
                Some("v2") => Some(MediaType::Discovery("v2")),
                Some("v2beta1") => Some(MediaType::Discovery("v2beta1")),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The first media type in `Accept` that is served; 406 if there is none. Protobuf is skipped: every client that
/// accepts it accepts JSON as well.
pub fn accepted(headers: &HeaderMap, discovery: bool) -> Result<MediaType, Status> {
    let mut asked = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if asked.peek().is_none() {
        return Ok(MediaType::Json);
    }
    let ranges = asked.flat_map(|value| value.split(',')).map(MediaRange::parse);
    let mut found = ranges.filter(|range| !range.is_refused()).filter_map(|range| range.media_type(discovery));
    found.next().ok_or_else(|| Status::not_acceptable(&[JSON, YAML]))
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map_or("", |text| MediaRange::parse(text).name)
}

/// The format of the body of a create, update or delete; 415 for others, protobuf among them.
pub fn body(headers: &HeaderMap) -> Result<Format, Status> {
    match content_type(headers) {
        "" | JSON | "*/*" => Ok(Format::Json),
        YAML | "application/x-yaml" | "text/yaml" => Ok(Format::Yaml),
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
            (table, false, Ok(MediaType::Table)),
            (discovery, true, Ok(MediaType::Discovery("v2"))),
            (discovery, false, Ok(MediaType::Json)),
            ("application/vnd.kubernetes.protobuf,application/json", false, Ok(MediaType::Json)),
            ("application/vnd.kubernetes.protobuf, */*", false, Ok(MediaType::Json)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", false, Ok(MediaType::Metadata)),
            ("application/yaml", false, Ok(MediaType::Yaml)),
            ("application/vnd.kubernetes.protobuf", false, Err(406)),
            ("text/plain", false, Err(406)),
            ("application/json;q=0", false, Err(406)),
        ] {
            let found = accepted(&headers(ACCEPT, accept), on_discovery).map_err(|status| status.code);
            assert_eq!(found, expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new(), false), Ok(MediaType::Json));
    }

    #[test]
    fn what_bodies_are_taken() {
        for (found, expected) in [
            ("application/json", Ok(Format::Json)),
            ("application/json; charset=utf-8", Ok(Format::Json)),
            ("application/yaml", Ok(Format::Yaml)),
            ("application/vnd.kubernetes.protobuf", Err(415)),
        ] {
            assert_eq!(body(&headers(CONTENT_TYPE, found)).map_err(|status| status.code), expected, "{found}");
        }
        assert_eq!(body(&HeaderMap::new()), Ok(Format::Json));
    }

    #[test]
    fn what_patches_are_taken() {
        let kind = |text: &str| patch(&headers(CONTENT_TYPE, text)).map_err(|status| status.code);
        assert_eq!(kind("application/strategic-merge-patch+json"), Ok(PatchType::Strategic));
        assert_eq!(kind("application/apply-patch+yaml"), Ok(PatchType::Apply));
        assert_eq!(kind("application/json"), Err(415));
    }
}
