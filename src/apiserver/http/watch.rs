//! A watch as a response: one JSON line an event, several lines in one frame where several events wait.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apiserver::metrics::OpenWatch;
use crate::apiserver::negotiation::MediaType;
use crate::apiserver::request::Watched;
use crate::apiserver::watch_cache::stream::Event;
use crate::apiserver::watch_cache::view::{EventType, line};
use crate::kube::object::Object;
use crate::kube::printing::partial_metadata;
use crate::kube::resources::Resource;
use crate::kube::status::Status;
use crate::world::Clock;

use super::respond::{self, Body, OutputFormat};

/// Events put into one frame at most.
const FRAME_EVENTS_MAX: usize = 64;

/// The stream of lines.
pub fn response(watched: Watched, format: OutputFormat, clock: Clock, open: OpenWatch) -> Response<Body> {
    let Watched { resource, events } = watched;
    let mut lines = Lines { resource, format, clock, no_headers: false, _open: open };
    let frames = events.ready_chunks(FRAME_EVENTS_MAX).map(move |events| {
        let mut frame = BytesMut::new();
        for event in events {
            frame.extend_from_slice(&lines.line(event));
        }
        Ok(Frame::data(frame.freeze()))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

struct Lines {
    resource: Arc<Resource>,
    format: OutputFormat,
    clock: Clock,
    /// Only the first table has its column definitions.
    no_headers: bool,
    _open: OpenWatch,
}

impl Lines {
    fn line(&mut self, event: Result<Event, Status>) -> Bytes {
        let plain = !matches!(self.format.media_type, MediaType::Table | MediaType::Metadata);
        match event {
            Err(status) => line("ERROR", &status.to_bytes()),
            Ok(Event::Initial(object)) if plain => line("ADDED", &object.json),
            Ok(Event::Change(event_type, change)) if plain => change.line(event_type),
            Ok(Event::Initial(object)) => self.projected(EventType::Added.as_str(), &object),
            Ok(Event::Change(event_type, change)) => self.projected(event_type.as_str(), &change.item.object),
            Ok(Event::Bookmark { revision, initial_events_end }) => {
                let bookmark = bookmark(&self.resource, revision.0, initial_events_end);
                line("BOOKMARK", &serde_json::to_vec(&self.bookmark_form(bookmark)).unwrap_or_default())
            }
        }
    }

    fn projected(&mut self, word: &str, object: &Object) -> Bytes {
        let value = object.value();
        let shown = if self.format.media_type == MediaType::Metadata {
            partial_metadata(&value)
        } else {
            let metadata = json!({"resourceVersion": object.meta.resource_version});
            self.table(&[value], metadata)
        };
        line(word, &serde_json::to_vec(&shown).unwrap_or_default())
    }

    fn bookmark_form(&mut self, bookmark: Value) -> Value {
        match self.format.media_type {
            MediaType::Metadata => partial_metadata(&bookmark),
            MediaType::Table => self.table(&[], bookmark["metadata"].clone()),
            _ => bookmark,
        }
    }

    fn table(&mut self, rows: &[Value], metadata: Value) -> Value {
        self.format.now = now(&self.clock);
        let table = respond::table(&self.resource, rows, metadata, &self.format, self.no_headers);
        self.no_headers = true;
        table
    }
}

/// Now, for the ages in tables.
pub fn now(clock: &Clock) -> Timestamp {
    crate::kube::time::timestamp(clock)
}

fn bookmark(resource: &Resource, revision: i64, initial_events_end: bool) -> Value {
    let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
    if initial_events_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    json!({"kind": resource.kind, "apiVersion": resource.group_version(), "metadata": metadata})
}
