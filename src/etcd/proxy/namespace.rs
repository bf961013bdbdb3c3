//! Keys with a prefix: clients of a namespace see only keys below it, without the prefix.

use bytes::Bytes;
use chorus_proto::{etcdserverpb as pb, mvccpb};
use prost::Message;
use tonic::Status;

use super::rewrite::Change;
use crate::etcd::rpc::Rpc;
use crate::etcd::status;
use crate::store::Error;

/// How deep transactions may be nested.
const DEPTH_MAX: usize = 64;

/// A prefix that all keys have.
#[derive(Clone, Debug)]
pub(super) struct Namespace(Vec<u8>);

impl Namespace {
    /// Nothing for an empty prefix.
    pub fn of(prefix: &[u8]) -> Option<Namespace> {
        (!prefix.is_empty()).then(|| Namespace(prefix.to_vec()))
    }

    /// The changes of the requests and of the answers of `rpc`. Most RPCs need none.
    pub fn changes(&self, rpc: Rpc) -> Option<(Change, Change)> {
        match rpc {
            Rpc::Range => Some((self.on(Namespace::range), self.on(Namespace::range_answer))),
            Rpc::RangeStream => Some((self.on(Namespace::range), self.on(Namespace::range_part))),
            Rpc::Put => Some((self.on(Namespace::put), self.on(Namespace::put_answer))),
            Rpc::DeleteRange => Some((self.on(Namespace::delete), self.on(Namespace::delete_answer))),
            Rpc::Txn => Some((self.on(Namespace::txn), self.on(Namespace::txn_answer))),
            Rpc::Watch => Some((self.on(Namespace::watch), self.on(Namespace::watch_answer))),
            Rpc::LeaseTimeToLive => {
                Some((self.on(|_, _: &mut pb::LeaseTimeToLiveRequest| Ok(())), self.on(Namespace::lease_answer)))
            }
            _ => None,
        }
    }

    fn on<M: Message + Default + 'static>(&self, change: fn(&Namespace, &mut M) -> Result<(), Status>) -> Change {
        let namespace = self.clone();
        Box::new(move |bytes: Bytes| {
            let mut message = M::decode(bytes).map_err(|error| Status::internal(format!("grpc: {error}")))?;
            change(&namespace, &mut message)?;
            Ok(message.encode_to_vec())
        })
    }

    fn prefixed(&self, key: &[u8]) -> Vec<u8> {
        [&self.0[..], key].concat()
    }

    /// A range without a key is no range.
    fn interval(&self, key: &mut Bytes, range_end: &mut Bytes) -> Result<(), Status> {
        if key.is_empty() {
            return Err(status::of(&Error::EmptyKey));
        }
        *key = self.prefixed(key).into();
        *range_end = match &range_end[..] {
            [] => Bytes::new(),
            [0] => self.end().into(),
            end => self.prefixed(end).into(),
        };
        Ok(())
    }

    /// The first key after all of the namespace; "all that follow" where there is none.
    fn end(&self) -> Vec<u8> {
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return end;
            }
        }
        vec![0]
    }

    fn strip(&self, key: &mut Bytes) {
        if key.starts_with(&self.0) {
            *key = key.slice(self.0.len()..);
        }
    }

    fn strip_pair(&self, pair: &mut mvccpb::KeyValue) {
        self.strip(&mut pair.key);
    }

    fn range(&self, request: &mut pb::RangeRequest) -> Result<(), Status> {
        self.interval(&mut request.key, &mut request.range_end)
    }

    fn range_answer(&self, answer: &mut pb::RangeResponse) -> Result<(), Status> {
        answer.kvs.iter_mut().for_each(|pair| self.strip_pair(pair));
        Ok(())
    }

    fn range_part(&self, answer: &mut pb::RangeStreamResponse) -> Result<(), Status> {
        answer.range_response.iter_mut().try_for_each(|part| self.range_answer(part))
    }

    fn put(&self, request: &mut pb::PutRequest) -> Result<(), Status> {
        self.interval(&mut request.key, &mut Bytes::new())
    }

    fn put_answer(&self, answer: &mut pb::PutResponse) -> Result<(), Status> {
        answer.prev_kv.iter_mut().for_each(|pair| self.strip_pair(pair));
        Ok(())
    }

    fn delete(&self, request: &mut pb::DeleteRangeRequest) -> Result<(), Status> {
        self.interval(&mut request.key, &mut request.range_end)
    }

    fn delete_answer(&self, answer: &mut pb::DeleteRangeResponse) -> Result<(), Status> {
        answer.prev_kvs.iter_mut().for_each(|pair| self.strip_pair(pair));
        Ok(())
    }

    fn txn(&self, request: &mut pb::TxnRequest) -> Result<(), Status> {
        self.txn_at(request, 0)
    }

    fn txn_at(&self, request: &mut pb::TxnRequest, depth: usize) -> Result<(), Status> {
        use pb::request_op::Request;
        if depth > DEPTH_MAX {
            return Err(Status::invalid_argument("etcdserver: transactions are nested too deep"));
        }
        for compare in &mut request.compare {
            self.interval(&mut compare.key, &mut compare.range_end)?;
        }
        for operation in request.success.iter_mut().chain(&mut request.failure) {
            match &mut operation.request {
                Some(Request::RequestRange(range)) => self.range(range)?,
                Some(Request::RequestPut(put)) => self.put(put)?,
                Some(Request::RequestDeleteRange(delete)) => self.delete(delete)?,
                Some(Request::RequestTxn(inner)) => self.txn_at(inner, depth + 1)?,
                None => {}
            }
        }
        Ok(())
    }

    fn txn_answer(&self, answer: &mut pb::TxnResponse) -> Result<(), Status> {
        use pb::response_op::Response;
        answer.responses.iter_mut().try_for_each(|operation| match &mut operation.response {
            Some(Response::ResponseRange(range)) => self.range_answer(range),
            Some(Response::ResponsePut(put)) => self.put_answer(put),
            Some(Response::ResponseDeleteRange(delete)) => self.delete_answer(delete),
            Some(Response::ResponseTxn(inner)) => self.txn_answer(inner),
            None => Ok(()),
        })
    }

    fn watch(&self, request: &mut pb::WatchRequest) -> Result<(), Status> {
        use pb::watch_request::RequestUnion;
        let Some(RequestUnion::CreateRequest(create)) = &mut request.request_union else { return Ok(()) };
        if create.key.is_empty() {
            // A watch of all keys begins at the smallest key.
            create.key = Bytes::from_static(&[0]);
        }
        self.interval(&mut create.key, &mut create.range_end)
    }

    fn watch_answer(&self, answer: &mut pb::WatchResponse) -> Result<(), Status> {
        let pairs = answer.events.iter_mut().flat_map(|event| event.kv.iter_mut().chain(&mut event.prev_kv));
        pairs.for_each(|pair| self.strip_pair(pair));
        Ok(())
    }

    fn lease_answer(&self, answer: &mut pb::LeaseTimeToLiveResponse) -> Result<(), Status> {
        answer.keys.retain(|key| key.starts_with(&self.0));
        answer.keys.iter_mut().for_each(|key| self.strip(key));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(prefix: &[u8], key: &'static str, end: &'static [u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut key, mut end) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(end));
        Namespace::of(prefix).unwrap().interval(&mut key, &mut end).unwrap();
        (key.to_vec(), end.to_vec())
    }

    #[test]
    fn ranges_stay_in_their_namespace() {
        assert_eq!(interval(b"p/", "a", b""), (b"p/a".to_vec(), vec![]));
        assert_eq!(interval(b"p/", "a", b"b"), (b"p/a".to_vec(), b"p/b".to_vec()));
        assert_eq!(interval(b"p/", "a", b"\0"), (b"p/a".to_vec(), b"p0".to_vec()));
        assert_eq!(interval(b"p\xff", "a", b"\0").1, b"q");
        assert_eq!(interval(b"\xff", "a", b"\0").1, b"\0");
        assert!(Namespace::of(b"").is_none());
    }

    #[test]
    fn transactions_are_changed_all_the_way_down() {
        use pb::request_op::Request;
        let namespace = Namespace::of(b"p/").unwrap();
        let put = pb::PutRequest { key: "k".into(), ..Default::default() };
        let put = pb::RequestOp { request: Some(Request::RequestPut(put)) };
        let inner = pb::TxnRequest { success: vec![put], ..Default::default() };
        let inner = pb::RequestOp { request: Some(Request::RequestTxn(inner)) };
        let mut outer = pb::TxnRequest { failure: vec![inner], ..Default::default() };
        namespace.txn(&mut outer).unwrap();
        let Some(Request::RequestTxn(inner)) = &outer.failure[0].request else { panic!("a transaction") };
        let Some(Request::RequestPut(put)) = &inner.success[0].request else { panic!("a put") };
        assert_eq!(put.key, "p/k");
    }

    #[test]
    fn answers_lose_the_prefix() {
        let namespace = Namespace::of(b"p/").unwrap();
        let pair = mvccpb::KeyValue { key: "p/k".into(), ..Default::default() };
        let mut answer = pb::RangeResponse { kvs: vec![pair], ..Default::default() };
        namespace.range_answer(&mut answer).unwrap();
        assert_eq!(answer.kvs[0].key, "k");
        let keys = vec!["p/a".into(), "other".into()];
        let mut lease = pb::LeaseTimeToLiveResponse { keys, ..Default::default() };
        namespace.lease_answer(&mut lease).unwrap();
        assert_eq!(lease.keys, ["a"]);
    }
}
