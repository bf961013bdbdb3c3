//! What is shown: etcdctl's plain words, or its JSON with bytes in base64.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::response_op::Response;
use chorus_proto::mvccpb::event::EventType;
use chorus_proto::mvccpb::{Event, KeyValue};
use serde_json::{Map, Value, json};

use super::args::Get;
use crate::cli::terminal::{OutputError, line};

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Keys and values as they are, a line each.
    Simple,
    /// One JSON object an answer.
    Json,
}

pub(super) struct Printer(Format);

/// Prints `$simple` or, for JSON, the object.
macro_rules! show {
    ($printer:ident, $json:expr, $simple:expr) => {
        match $printer.0 {
            Format::Json => line($json.to_string().as_bytes()),
            Format::Simple => $simple,
        }
    };
}

impl Printer {
    pub fn new(format: Format) -> Printer {
        Printer(format)
    }

    pub fn range(&self, answer: &pb::RangeResponse, get: &Get) -> Result<(), OutputError> {
        show!(self, range(answer), {
            if get.count_only {
                return line(answer.count.to_string().as_bytes());
            }
            for kv in &answer.kvs {
                if !get.print_value_only {
                    line(&kv.key)?;
                }
                if !get.keys_only {
                    line(&kv.value)?;
                }
            }
            Ok(())
        })
    }

    pub fn put(&self, answer: &pb::PutResponse) -> Result<(), OutputError> {
        show!(self, put(answer), {
            line(b"OK")?;
            answer.prev_kv.as_ref().map_or(Ok(()), pair)
        })
    }

    pub fn del(&self, answer: &pb::DeleteRangeResponse) -> Result<(), OutputError> {
        show!(self, del(answer), {
            line(answer.deleted.to_string().as_bytes())?;
            answer.prev_kvs.iter().try_for_each(pair)
        })
    }

    pub fn txn(&self, answer: &pb::TxnResponse) -> Result<(), OutputError> {
        show!(self, txn(answer), {
            line(if answer.succeeded { b"SUCCESS" } else { b"FAILURE" })?;
            for op in &answer.responses {
                line(b"")?;
                self.op(op)?;
            }
            Ok(())
        })
    }

    fn op(&self, op: &pb::ResponseOp) -> Result<(), OutputError> {
        match &op.response {
            Some(Response::ResponseRange(answer)) => self.range(answer, &Get::default()),
            Some(Response::ResponsePut(answer)) => self.put(answer),
            Some(Response::ResponseDeleteRange(answer)) => self.del(answer),
            Some(Response::ResponseTxn(answer)) => self.txn(answer),
            None => Ok(()),
        }
    }

    pub fn watch(&self, response: &pb::WatchResponse) -> Result<(), OutputError> {
        if response.created {
            return Ok(());
        }
        show!(self, watch(response), {
            if response.events.is_empty() {
                let revision = response.header.map_or(0, |header| header.revision);
                return line(format!("progress notify: {revision}").as_bytes());
            }
            response.events.iter().try_for_each(event)
        })
    }

    pub fn compacted(&self, revision: i64, answer: &pb::CompactionResponse) -> Result<(), OutputError> {
        show!(self, json!({"header": header(answer.header)}), line(format!("compacted revision {revision}").as_bytes()))
    }

    pub fn granted(&self, answer: &pb::LeaseGrantResponse) -> Result<(), OutputError> {
        let json = json!({"header": header(answer.header), "id": answer.id, "ttl": answer.ttl});
        let words = format!("lease {:016x} granted with TTL({}s)", answer.id, answer.ttl);
        show!(self, json, line(words.as_bytes()))
    }

    pub fn revoked(&self, id: i64, answer: &pb::LeaseRevokeResponse) -> Result<(), OutputError> {
        show!(self, json!({"header": header(answer.header)}), line(format!("lease {id:016x} revoked").as_bytes()))
    }

    pub fn time_to_live(&self, answer: &pb::LeaseTimeToLiveResponse, with_keys: bool) -> Result<(), OutputError> {
        let keys: Vec<_> = answer.keys.iter().map(|key| base64(key)).collect();
        let json = json!({"header": header(answer.header), "id": answer.id, "ttl": answer.ttl,
            "granted-ttl": answer.granted_ttl, "keys": keys});
        show!(self, json, {
            if answer.ttl < 0 {
                return line(format!("lease {:016x} already expired", answer.id).as_bytes());
            }
            let mut words = format!(
                "lease {:016x} granted with TTL({}s), remaining({}s)",
                answer.id, answer.granted_ttl, answer.ttl
            );
            if with_keys {
                let keys: Vec<_> = answer.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
                words += &format!(", attached keys([{}])", keys.join(" "));
            }
            line(words.as_bytes())
        })
    }

    pub fn kept_alive(&self, answer: &pb::LeaseKeepAliveResponse) -> Result<(), OutputError> {
        let json = json!({"header": header(answer.header), "id": answer.id, "ttl": answer.ttl});
        let words = match answer.ttl {
            ..=0 => format!("lease {:016x} expired or revoked.", answer.id),
            ttl => format!("lease {:016x} keepalived with TTL({ttl})", answer.id),
        };
        show!(self, json, line(words.as_bytes()))
    }

    pub fn leases(&self, answer: &pb::LeaseLeasesResponse) -> Result<(), OutputError> {
        let ids: Vec<_> = answer.leases.iter().map(|lease| json!({"id": lease.id})).collect();
        show!(self, json!({"header": header(answer.header), "leases": ids}), {
            line(format!("found {} leases", answer.leases.len()).as_bytes())?;
            answer.leases.iter().try_for_each(|lease| line(format!("{:016x}", lease.id).as_bytes()))
        })
    }
}

fn pair(kv: &KeyValue) -> Result<(), OutputError> {
    line(&kv.key)?;
    line(&kv.value)
}

fn event(event: &Event) -> Result<(), OutputError> {
    line(event.r#type().as_str_name().as_bytes())?;
    if let Some(prev) = &event.prev_kv {
        pair(prev)?;
    }
    event.kv.as_ref().map_or(Ok(()), pair)
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn header(header: Option<pb::ResponseHeader>) -> Value {
    let header = header.unwrap_or_default();
    json!({"cluster_id": header.cluster_id, "member_id": header.member_id, "revision": header.revision,
        "raft_term": header.raft_term})
}

/// `fields` without those that are zero, empty or absent, as protobuf's JSON leaves them out.
fn object(fields: Value) -> Value {
    let Value::Object(fields) = fields else { return fields };
    let said = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
    };
    Value::Object(fields.into_iter().filter(|(_, value)| said(value)).collect::<Map<_, _>>())
}

fn kv(kv: &KeyValue) -> Value {
    object(json!({"key": base64(&kv.key), "create_revision": kv.create_revision, "mod_revision": kv.mod_revision,
        "version": kv.version, "value": base64(&kv.value), "lease": kv.lease}))
}

fn range(answer: &pb::RangeResponse) -> Value {
    let kvs: Vec<_> = answer.kvs.iter().map(kv).collect();
    object(json!({"header": header(answer.header), "kvs": kvs, "more": answer.more, "count": answer.count}))
}

fn put(answer: &pb::PutResponse) -> Value {
    object(json!({"header": header(answer.header), "prev_kv": answer.prev_kv.as_ref().map(kv)}))
}

fn del(answer: &pb::DeleteRangeResponse) -> Value {
    let prev: Vec<_> = answer.prev_kvs.iter().map(kv).collect();
    object(json!({"header": header(answer.header), "deleted": answer.deleted, "prev_kvs": prev}))
}

fn txn(answer: &pb::TxnResponse) -> Value {
    let responses: Vec<_> = answer.responses.iter().map(op).collect();
    object(json!({"header": header(answer.header), "succeeded": answer.succeeded, "responses": responses}))
}

fn op(op: &pb::ResponseOp) -> Value {
    match &op.response {
        Some(Response::ResponseRange(answer)) => json!({"response_range": range(answer)}),
        Some(Response::ResponsePut(answer)) => json!({"response_put": put(answer)}),
        Some(Response::ResponseDeleteRange(answer)) => json!({"response_delete_range": del(answer)}),
        Some(Response::ResponseTxn(answer)) => json!({"response_txn": txn(answer)}),
        None => json!({}),
    }
}

fn watch(response: &pb::WatchResponse) -> Value {
    let events = response.events.iter().map(|event| {
        let kind = if event.r#type() == EventType::Delete { "DELETE" } else { "" };
        object(json!({"type": kind, "kv": event.kv.as_ref().map(kv), "prev_kv": event.prev_kv.as_ref().map(kv)}))
    });
    object(
        json!({"header": header(response.header), "watch_id": response.watch_id, "events": events.collect::<Vec<_>>()}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_leaves_out_what_is_zero() {
        let kv =
            KeyValue { key: "a".into(), value: "b".into(), mod_revision: 2, create_revision: 2, version: 1, lease: 0 };
        let answer = pb::RangeResponse { header: None, kvs: vec![kv], more: false, count: 1 };
        assert_eq!(
            range(&answer).to_string(),
            r#"{"header":{"cluster_id":0,"member_id":0,"revision":0,"raft_term":0},"kvs":[{"key":"YQ==","create_revision":2,"mod_revision":2,"version":1,"value":"Yg=="}],"count":1}"#
        );
    }
}
