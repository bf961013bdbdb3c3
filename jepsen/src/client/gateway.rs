//! The client of the JSON gateway: HTTP/1.1, one connection a call, so that nothing is shared with the gRPC client.

use std::sync::LazyLock;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use tokio::net::TcpStream;

use super::{CALL_LIMIT, Failed};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(chorus_proto::DESCRIPTORS).expect("the compiler wrote them"));

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A client of one member.
#[derive(Clone)]
pub struct Gateway {
    /// `host:port`
    address: String,
}

impl Gateway {
    /// `url` is `http://host:port`.
    pub fn new(url: &str) -> Gateway {
        Gateway { address: url.trim_start_matches("http://").to_owned() }
    }

    /// Makes the call that gRPC knows as `rpc`, at the gateway's `path`.
    pub(super) async fn call<Q, R>(&self, rpc: &'static str, path: &'static str, request: Q) -> Result<R, Failed>
    where
        Q: Message,
        R: Message + Default,
    {
        let (input, output) = messages(rpc);
        let body = to_json(input, &request);
        let called = async { from_json(output, &self.post(path, body).await?) };
        tokio::time::timeout(CALL_LIMIT, called).await.unwrap_or_else(|_| Err(Failed::timed_out()))
    }

    /// What time the member thinks it is.
    pub async fn date(&self) -> Result<SystemTime, Failed> {
        let request = Request::get("/version").header(header::HOST, &self.address).body(Full::default());
        let asked = self.send(request.expect("the parts are valid"));
        let answer = tokio::time::timeout(CALL_LIMIT, asked).await.unwrap_or_else(|_| Err(Failed::timed_out()))?;
        let date =
            answer.headers().get(header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        date.ok_or_else(|| Failed::Surely("an answer without a date".to_owned()))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        // Until the connection is there, nothing was sent.
        let unsent = |error: std::io::Error| Failed::Surely(format!("not connected: {error}"));
        let stream = TcpStream::connect(&self.address).await.map_err(unsent)?;
        let perhaps = |error: hyper::Error| Failed::Perhaps(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(perhaps)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(perhaps)
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, Failed> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, &self.address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("the parts are valid");
        let response = self.send(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Failed::Perhaps(error.to_string()))?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let code =
            told["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(tonic::Code::Unknown as i32);
        Err(Failed::of(tonic::Code::from_i32(code), told["message"].as_str().unwrap_or("no message")))
    }
}

/// The request and the response of `/package.Service/Method`.
fn messages(rpc: &str) -> (MessageDescriptor, MessageDescriptor) {
    let (service, name) = rpc.trim_start_matches('/').split_once('/').expect("a path has two parts");
    let service = POOL.get_service_by_name(service).expect("the service is in the .proto files");
    let method = service.methods().find(|method| method.name() == name).expect("so is the method");
    (method.input(), method.output())
}

fn to_json(of: MessageDescriptor, message: &impl Message) -> Vec<u8> {
    let mut dynamic = DynamicMessage::new(of);
    dynamic.transcode_from(message).expect("both are the same message");
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let mut json = Vec::new();
    dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options).expect("a vector grows");
    json
}

fn from_json<R: Message + Default>(of: MessageDescriptor, json: &[u8]) -> Result<R, Failed> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(false);
    let dynamic = DynamicMessage::deserialize_with_options(of, &mut reader, &options)
        .map_err(|error| Failed::Perhaps(format!("malformed answer: {error}")))?;
    dynamic.transcode_to().map_err(|error| Failed::Perhaps(format!("malformed answer: {error}")))
}

#[cfg(test)]
mod tests {
    use chorus_proto::etcdserverpb as pb;

    use super::*;

    #[test]
    fn messages_survive_json() {
        let put = pb::PutRequest { key: "a".into(), value: "b".into(), lease: 7, ..Default::default() };
        let (input, output) = messages("/etcdserverpb.KV/Put");
        let json = to_json(input.clone(), &put);
        assert_eq!(String::from_utf8(json.clone()).unwrap(), r#"{"key":"YQ==","value":"Yg==","lease":"7"}"#);
        assert_eq!(from_json::<pb::PutRequest>(input, &json), Ok(put));
        let answer: pb::PutResponse = from_json(output, br#"{"header":{"revision":"9"},"novel":1}"#).unwrap();
        assert_eq!(answer.header.unwrap().revision, 9);
    }
}
