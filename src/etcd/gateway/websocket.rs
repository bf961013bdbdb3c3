//! WebSocket: each message of the client is a request, each line of the answer is a message back. A call ends when
//! the socket closes, and the socket closes when the call ends.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tonic::Status;

use super::call::Call;
use super::lines::{self, Failed};
use super::{response, unary};
use crate::etcd::body::{Body, RequestBody};
use crate::etcd::rpc::{Kind, Rpc};
use crate::etcd::server::EtcdServer;

/// Requests that were received and not yet read.
const REQUESTS_WAITING_MAX: usize = 16;
const TOKEN_COOKIE: &str = "token=";
const BEARER: &str = "Bearer";

pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    says(headers, header::CONNECTION, "upgrade") && says(headers, header::UPGRADE, "websocket")
}

fn says(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
}

/// Agrees to speak WebSocket, and then answers `rpc` over it.
pub(super) fn answer(server: Arc<EtcdServer>, rpc: Rpc, mut request: Request<RequestBody>) -> Response<Body> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return response::refused(&Status::invalid_argument(
            "a WebSocket handshake needs the header Sec-WebSocket-Key",
        ));
    };
    let accepted = derive_accept_key(key.as_bytes());
    let call = match Call::new(&server, rpc, &with_token(request.headers())) {
        Ok(call) => call,
        Err(refused) => return response::refused(&refused),
    };
    let bearer = protocol(request.headers()).is_some_and(|protocol| protocol.starts_with(BEARER));
    let upgrade = hyper::upgrade::on(&mut request);
    let config = WebSocketConfig::default()
        .max_message_size(Some(call.json_bytes_max()))
        .max_frame_size(Some(call.json_bytes_max()));
    server.world.spawner.clone().task(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        serve(server, call, socket).await;
    });
    switching(&accepted, bearer)
}

fn switching(accepted: &str, bearer: bool) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(accepted).expect("base64 is a header value"));
    if bearer {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    response
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()
}

/// The headers with the token that a browser can send only as a sub-protocol or a cookie.
fn with_token(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    let from_protocol = protocol(&headers).and_then(|protocol| protocol.split_once("Bearer,")).map(|(_, token)| token);
    let cookies = headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    let from_cookie = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(TOKEN_COOKIE));
    if let Some(token) = from_cookie.or(from_protocol)
        && let Ok(value) = HeaderValue::from_str(&format!("{BEARER} {}", token.trim()))
    {
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

async fn serve<S>(server: Arc<EtcdServer>, call: Call, socket: S)
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Send,
{
    let (mut answers, messages) = socket.split();
    let (sender, requests) = mpsc::channel(REQUESTS_WAITING_MAX);
    tokio::select! {
        () = forward(messages, sender) => {}
        () = reply(call, requests, &mut answers) => {}
        () = server.shutdown.wait() => {}
    }
    // The client may be gone already, which is as good.
    let _ = answers.close().await;
}

/// Passes messages on until the client closes.
async fn forward(mut messages: impl Stream<Item = Result<Message, Error>> + Unpin, requests: mpsc::Sender<Bytes>) {
    while let Some(Ok(message)) = messages.next().await {
        if message.is_close() {
            return;
        }
        if (message.is_text() || message.is_binary()) && requests.send(message.into_data()).await.is_err() {
            // The call reads no more requests, but may still have answers.
            std::future::pending::<()>().await;
        }
    }
}

async fn reply(
    call: Call,
    mut requests: mpsc::Receiver<Bytes>,
    answers: &mut (impl Sink<Message, Error = Error> + Unpin),
) {
    if call.rpc.kind() != Kind::BidiStream {
        // One request, which is the first message.
        let Some(request) = requests.recv().await else { return };
        let body = RequestBody::framed(futures::stream::iter([Ok(request)]));
        return reply_once(call, body, answers).await;
    }
    let body = RequestBody::framed(ReceiverStream::new(requests).map(Ok));
    reply_lines(call, body, answers).await;
}

async fn reply_once(call: Call, body: RequestBody, answers: &mut (impl Sink<Message, Error = Error> + Unpin)) {
    if call.rpc.kind() != Kind::Unary {
        return reply_lines(call, body, answers).await;
    }
    let answer = unary::run(call, body).await;
    let json = answer.as_ref().map_or_else(response::error, |answer| answer.json.clone());
    let _ = send(answers, &json).await;
}

async fn reply_lines(call: Call, body: RequestBody, answers: &mut (impl Sink<Message, Error = Error> + Unpin)) {
    let mut lines = match lines::open(call, body).await {
        Ok(lines) => lines,
        Err(Failed::Asking(status)) => return drop(send(answers, &response::error(&status)).await),
        Err(Failed::Answering(status)) => return drop(send(answers, &response::error_line(&status)).await),
    };
    while let Some(line) = lines.next().await {
        if send(answers, &line).await.is_err() {
            return;
        }
    }
}

async fn send(answers: &mut (impl Sink<Message, Error = Error> + Unpin), json: &[u8]) -> Result<(), Error> {
    let text = String::from_utf8_lossy(json.trim_ascii_end()).into_owned();
    answers.send(Message::text(text)).await
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn an_upgrade_is_told_by_both_headers() {
        assert!(is_asked(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!is_asked(&headers(&[("connection", "Upgrade"), ("upgrade", "h2c")])));
        assert!(!is_asked(&headers(&[("upgrade", "websocket")])));
    }

    #[test]
    fn a_token_comes_as_a_protocol_or_a_cookie() {
        let token = |pairs| with_token(&headers(pairs)).get(header::AUTHORIZATION).cloned();
        assert_eq!(token(&[("sec-websocket-protocol", "Bearer, a.1")]).unwrap(), "Bearer a.1");
        assert_eq!(token(&[("cookie", "x=1; token=b.2")]).unwrap(), "Bearer b.2");
        assert_eq!(token(&[("sec-websocket-protocol", "chat")]), None);
    }
}
