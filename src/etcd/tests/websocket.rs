//! The gateway's streams over WebSocket.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Member, run};

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn open(member: &Member, path: &str) -> Socket {
    let request = Request::get(path)
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = member.send(request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

async fn ask(socket: &mut Socket, json: &str) {
    socket.send(Message::text(json)).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    let message = socket.next().await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

#[test]
fn a_watch_answers_message_by_message() {
    run(async {
        let member = Member::start().await;
        let mut socket = open(&member, "/v3/watch").await;
        for id in [None, Some("1")] {
            ask(&mut socket, r#"{"create_request":{"key":"YQ=="}}"#).await;
            let answer = hear(&mut socket).await;
            assert_eq!((&answer["result"]["created"], answer["result"]["watch_id"].as_str()), (&true.into(), id));
        }
        member.post("/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#.into()).await;
        for _ in 0..2 {
            let answer = hear(&mut socket).await;
            assert_eq!(answer["result"]["events"][0]["kv"]["value"], "Yg==");
        }
        ask(&mut socket, "[]").await;
        assert_eq!(hear(&mut socket).await["error"]["code"], 3);
        assert!(socket.next().await.unwrap().unwrap().is_close());
        member.stop().await;
    });
}

#[test]
fn a_unary_call_answers_once_and_closes() {
    run(async {
        let member = Member::start().await;
        let mut socket = open(&member, "/v3/kv/put").await;
        ask(&mut socket, r#"{"key":""}"#).await;
        assert_eq!(hear(&mut socket).await["message"], "etcdserver: key is not provided");
        assert!(socket.next().await.unwrap().unwrap().is_close());
        member.stop().await;
    });
}
