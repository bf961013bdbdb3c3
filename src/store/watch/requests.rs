//! What a client asks of its stream: create, cancel, progress.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::watch_create_request::FilterType;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;

use super::interest::Interest;
use super::response;
use super::watchers::{StreamKey, Watcher, Watchers};
use crate::store::Error;
use crate::store::range::KeyRange;
use crate::world::failpoints::failpoint;

impl Watchers {
    /// Handles one request of `stream`; `current` is the newest revision of the store, up to which no event is sent
    /// to a watch without a start revision.
    pub fn request(
        &mut self,
        stream: StreamKey,
        request: pb::WatchRequest,
        refusal: Option<Error>,
        current: i64,
        watches_max: usize,
    ) {
        if !self.streams.contains_key(&stream) {
            return;
        }
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                self.create(stream, request, refusal, current, watches_max);
            }
            Some(RequestUnion::CancelRequest(request)) => self.cancel(stream, request.watch_id, current),
            // A stream without watches has no progress to report.
            Some(RequestUnion::ProgressRequest(_)) if self.streams[&stream].watches.is_empty() => {}
            Some(RequestUnion::ProgressRequest(_)) => {
                failpoint!("beforeProgressIfSync");
                self.progress_wanted.insert(stream);
                self.answer_progress();
            }
            None => {}
        }
    }

    fn create(
        &mut self,
        stream_key: StreamKey,
        request: pb::WatchCreateRequest,
        refusal: Option<Error>,
        current: i64,
        watches_max: usize,
    ) {
        let interest = interest(&request, range_of(&request));
        let has_room = self.has_room(&interest);
        let stream = self.streams.get_mut(&stream_key).expect("the stream of a request exists");
        let refusal = if request.start_revision < 0 {
            Some("etcdserver: mvcc: required revision has been compacted".to_owned())
        } else if let Some(refusal) = refusal {
            Some(grpc_text(&refusal))
        } else if interest.range.is_empty() {
            Some("mvcc: watcher range is empty".to_owned())
        } else if request.watch_id != 0 && stream.watches.contains_key(&request.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream".to_owned())
        } else if stream.watches.len() >= watches_max || !has_room {
            Some("etcdserver: too many requests".to_owned())
        } else {
            None
        };
        if let Some(reason) = refusal {
            stream.send(response::refused(current, reason));
            return;
        }
        let id = match request.watch_id {
            0 => {
                while stream.watches.contains_key(&stream.next_id) {
                    stream.next_id += 1;
                }
                stream.next_id += 1;
                stream.next_id - 1
            }
            id => id,
        };
        stream.send(response::created(current, id));
        let next = if request.start_revision == 0 { current + 1 } else { request.start_revision };
        let key = self.insert(Watcher {
            stream: stream_key,
            id,
            interest,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            start: request.start_revision,
            next,
            synced: next > current,
            active: false,
        });
        self.streams.get_mut(&stream_key).expect("the stream of a request exists").watches.insert(id, key);
    }

    /// Cancelling a watch that does not exist is no error.
    fn cancel(&mut self, stream: StreamKey, id: i64, current: i64) {
        let stream = self.streams.get_mut(&stream).expect("the stream of a request exists");
        if let Some(key) = stream.watches.remove(&id) {
            stream.send(response::canceled(current, id));
            self.remove(key);
        }
    }
}

/// An empty key stands for the first possible one: with an open end, the range has all keys.
fn range_of(request: &pb::WatchCreateRequest) -> KeyRange {
    let key = if request.key.is_empty() { bytes::Bytes::from_static(b"\0") } else { request.key.clone() };
    KeyRange::new(key, request.range_end.clone())
}

fn interest(request: &pb::WatchCreateRequest, range: KeyRange) -> Interest {
    let without = |filter: FilterType| request.filters.contains(&(filter as i32));
    Interest {
        range,
        puts: !without(FilterType::Noput),
        deletions: !without(FilterType::Nodelete),
        prev_kv: request.prev_kv,
    }
}

/// An error as etcd writes it into a cancel reason: with the code before the text.
fn grpc_text(error: &Error) -> String {
    let (code, text) = error.to_wire();
    format!("rpc error: code = {:?} desc = {text}", tonic::Code::from_i32(code))
}
