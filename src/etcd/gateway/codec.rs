//! JSON from and to the messages of one RPC, as the .proto files describe them: names as in those files, 64-bit
//! integers as strings, bytes in base64, enums by name, fields with their default value left out.

use std::sync::LazyLock;

use bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::Status;

use super::reader;
use crate::etcd::frame::{PREFIX_BYTES, frame};
use crate::etcd::rpc::Rpc;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(chorus_proto::DESCRIPTORS).expect("the compiler wrote them"));

const OUT: SerializeOptions = SerializeOptions::new()
    .stringify_64_bit_integers(true)
    .use_enum_numbers(false)
    .use_proto_field_name(true)
    .skip_default_fields(true);

/// The two messages of an RPC.
#[derive(Clone)]
pub(super) struct Codec {
    request: MessageDescriptor,
    response: MessageDescriptor,
}

impl Codec {
    pub fn of(rpc: Rpc) -> Codec {
        let service = POOL.get_service_by_name(rpc.service()).expect("every RPC is in the .proto files");
        let method = service.methods().find(|method| method.name() == rpc.method());
        let method = method.expect("every RPC is in the .proto files");
        Codec { request: method.input(), response: method.output() }
    }

    /// Reads the first JSON value of `json` as a request, framed for gRPC. Without a value, the request has no fields.
    pub fn request(&self, json: &[u8]) -> Result<Bytes, Status> {
        let json = json.trim_ascii_start();
        if json.is_empty() {
            return Ok(frame(&DynamicMessage::new(self.request.clone())));
        }
        if json[0] != b'{' {
            return Err(Status::invalid_argument("a message is a JSON object: expected '{' at its start"));
        }
        reader::read(&self.request, json).map(|message| frame(&message)).map_err(|error| malformed(&error))
    }

    /// A framed response as JSON, after `before` and before `after`.
    pub fn response(&self, framed: &[u8], before: &str, after: &str) -> Result<Bytes, Status> {
        let message = framed.get(PREFIX_BYTES..).ok_or_else(|| Status::internal("an answer was cut short"))?;
        let message = DynamicMessage::decode(self.response.clone(), message)
            .map_err(|error| Status::internal(format!("malformed answer: {error}")))?;
        let mut json = Vec::with_capacity(framed.len() * 2 + before.len() + after.len());
        json.extend_from_slice(before.as_bytes());
        message
            .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &OUT)
            .map_err(|error| Status::internal(format!("an answer does not fit JSON: {error}")))?;
        json.extend_from_slice(after.as_bytes());
        Ok(json.into())
    }
}

fn malformed(error: &serde_json::Error) -> Status {
    if error.is_eof() {
        return Status::invalid_argument("unexpected EOF");
    }
    let (line, column, text) = (error.line(), error.column(), error.to_string());
    let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let syntax = if error.is_syntax() { "syntax error " } else { "" };
    Status::invalid_argument(format!("proto: {syntax}(line {line}:{column}): {reason}"))
}

#[cfg(test)]
mod tests {
    use chorus_proto::etcdserverpb as pb;
    use prost::Message;
    use prost_reflect::Kind;

    use super::*;

    fn range(json: &str) -> Result<pb::RangeRequest, Status> {
        let framed = Codec::of(Rpc::Range).request(json.as_bytes())?;
        Ok(pb::RangeRequest::decode(&framed[PREFIX_BYTES..]).unwrap())
    }

    #[test]
    fn every_rpc_has_its_messages() {
        for rpc in Rpc::ALL {
            Codec::of(*rpc);
        }
    }

    #[test]
    fn requests_are_read_as_protobuf_writes_json() {
        let read = range(r#"{"key":"YQ==","limit":"5","revision":7,"sort_order":"DESCEND","sortTarget":2,"new":{}}"#);
        let read = read.unwrap();
        assert_eq!((&read.key[..], read.limit, read.revision), (&b"a"[..], 5, 7));
        assert_eq!((read.sort_order, read.sort_target), (2, 2));
        assert_eq!(range("").unwrap(), pb::RangeRequest::default());
        assert_eq!(range(r#"{"sort_order":"UP"}"#).unwrap(), pb::RangeRequest::default());
        assert_eq!(range(" {} trailing").unwrap(), pb::RangeRequest::default());
    }

    #[test]
    fn malformed_requests_are_refused() {
        assert_eq!(range(r#"{"key":"#).unwrap_err().message(), "unexpected EOF");
        for (malformed, reason) in [
            (r#"{"key":"!"}"#, r#"proto: (line 1:11): invalid value for bytes field key: "!""#),
            (r#"{"limit":"x"}"#, r#"proto: (line 1:13): invalid value for int64 field limit: "x""#),
            (r#"{"sort_order":1.5}"#, "proto: (line 1:18): invalid value for enum field sort_order: 1.5"),
            (r#"{"rangeEnd":"","range_end":""}"#, r#"proto: (line 1:26): duplicate field "range_end""#),
            (r#"{"key" "YQ=="}"#, "proto: syntax error (line 1:8): expected `:`"),
            ("[]", "a message is a JSON object: expected '{' at its start"),
        ] {
            let refused = range(malformed).unwrap_err();
            assert_eq!((refused.code(), refused.message()), (tonic::Code::InvalidArgument, reason), "{malformed}");
        }
        // A number that is rounded would name another member.
        let remove = Codec::of(Rpc::MemberRemove).request(br#"{"ID":18446744073709551616}"#);
        assert_eq!(remove.unwrap_err().code(), tonic::Code::InvalidArgument);
        let two = br#"{"compare":[],"success":[{"requestPut":{},"request_range":{}}]}"#;
        let refused = Codec::of(Rpc::Txn).request(two).unwrap_err();
        assert!(refused.message().ends_with("oneof etcdserverpb.RequestOp.request is already set"), "{refused}");
    }

    #[test]
    fn no_field_is_there_that_stands_as_null() {
        assert_eq!(range(r#"{"key":null,"limit":null,"serializable":null}"#).unwrap(), pb::RangeRequest::default());
        let framed = Codec::of(Rpc::Txn).request(br#"{"compare":null,"success":[{"requestPut":null}]}"#).unwrap();
        let txn = pb::TxnRequest::decode(&framed[PREFIX_BYTES..]).unwrap();
        assert_eq!((txn.compare.len(), txn.success.len()), (0, 1));
        assert!(Codec::of(Rpc::Txn).request(br#"{"success":[null]}"#).is_err());
    }

    #[test]
    fn every_field_of_a_request_can_be_read() {
        let mut open: Vec<MessageDescriptor> = Rpc::ALL.iter().map(|rpc| Codec::of(*rpc).request).collect();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(message) = open.pop() {
            if !seen.insert(message.full_name().to_owned()) {
                continue;
            }
            for field in message.fields() {
                let kind = field.kind();
                let readable = !field.is_map() && !matches!(kind, Kind::Double | Kind::Float);
                assert!(readable, "{}", field.full_name());
                open.extend(kind.as_message().cloned());
            }
        }
    }

    #[test]
    fn values_are_bounded() {
        let many = |count| format!(r#"{{"success":[{}{{}}]}}"#, "{},".repeat(count));
        assert!(Codec::of(Rpc::Txn).request(many(65_000).as_bytes()).is_ok());
        let refused = Codec::of(Rpc::Txn).request(many(66_000).as_bytes()).unwrap_err();
        assert!(refused.message().contains("more than 65536 values"), "{refused}");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = r#"{"success":[{"request_txn":"#.repeat(10_000);
        assert_eq!(Codec::of(Rpc::Txn).request(nested.as_bytes()).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn responses_are_compact_and_leave_defaults_out() {
        let response = pb::RangeResponse {
            header: Some(pb::ResponseHeader { revision: 2, ..Default::default() }),
            kvs: vec![chorus_proto::mvccpb::KeyValue { key: "a".into(), version: 1, ..Default::default() }],
            more: false,
            count: 1,
        };
        let framed = frame(&response);
        let json = Codec::of(Rpc::Range).response(&framed, "<", ">").unwrap();
        let expected = r#"<{"header":{"revision":"2"},"kvs":[{"key":"YQ==","version":"1"}],"count":"1"}>"#;
        assert_eq!(json, expected);
    }
}
