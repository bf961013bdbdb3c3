//! Plain HTTP on the peer port: the members and their versions, for members that want to join and for operators.

use std::sync::Arc;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tonic::Code;

use super::status;
use crate::store::client::{Caller, Client};
use crate::store::error::Error;

const CLUSTER_ID: &str = "x-etcd-cluster-id";
const PROMOTE: &str = "/members/promote/";

/// Answers requests of the peer port out of `store`, asked in the process's own name; `version` is the server's.
pub fn peer_http(
    store: Client,
    version: String,
) -> impl Fn(Parts, Bytes) -> BoxFuture<'static, Response<Bytes>> + Send + Sync {
    let shared = Arc::new((store, version));
    move |request: Parts, body| {
        let shared = shared.clone();
        async move { answer(&shared.0, &shared.1, &request, &body).await }.boxed()
    }
}

async fn answer(store: &Client, version: &str, request: &Parts, body: &[u8]) -> Response<Bytes> {
    let path = request.uri.path();
    let method = if path.starts_with(PROMOTE) { Method::POST } else { Method::GET };
    match path {
        "/members" | "/members/hashkv" | "/version" | "/downgrade/enabled" if request.method != method => {
            not_allowed(method)
        }
        "/members" => members(store).await,
        "/members/hashkv" => hash(store, request, body).await,
        "/version" => json_of(&versions(store, version)),
        "/downgrade/enabled" => downgrading(store).await,
        _ => match path.strip_prefix(PROMOTE) {
            Some(_) if request.method != method => not_allowed(method),
            Some(id) => promote(store, id, request).await,
            None => text(StatusCode::NOT_FOUND, "404 page not found"),
        },
    }
}

fn versions(store: &Client, version: &str) -> Value {
    let agreed = store.versions();
    json!({
        "etcdserver": version,
        "etcdcluster": agreed.cluster.as_deref().unwrap_or("not_decided"),
        "storage": agreed.storage.as_deref().unwrap_or("unknown"),
    })
}

async fn members(store: &Client) -> Response<Bytes> {
    match store.member_list(pb::MemberListRequest { linearizable: false }).await {
        Ok(list) => of_cluster(list.header, json_of(&listed(list.members))),
        Err(error) => refused(&error),
    }
}

/// Members as etcd writes them: empty fields are left out, except for the peer URLs.
fn listed(members: Vec<pb::Member>) -> Value {
    let row = |member: pb::Member| {
        let mut row = json!({ "id": member.id, "peerURLs": member.peer_ur_ls });
        if member.is_learner {
            row["isLearner"] = true.into();
        }
        if !member.name.is_empty() {
            row["name"] = member.name.into();
        }
        if !member.client_ur_ls.is_empty() {
            row["clientURLs"] = member.client_ur_ls.into();
        }
        row
    };
    Value::Array(members.into_iter().map(row).collect())
}

#[derive(serde::Deserialize)]
struct HashRequest {
    #[serde(default)]
    revision: i64,
}

/// A checksum of this member's history, as `{"revision":…}` asks for it.
async fn hash(store: &Client, request: &Parts, body: &[u8]) -> Response<Bytes> {
    let Ok(HashRequest { revision }) = serde_json::from_slice(body) else {
        return text(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    let hashed = match store.hash_kv(pb::HashKvRequest { revision }).await {
        Ok(hashed) => hashed,
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_wire().1.trim_start_matches("etcdserver: ")),
    };
    let header = hashed.header.unwrap_or_default();
    let cluster = request.headers.get(CLUSTER_ID).map(HeaderValue::as_bytes);
    if cluster.is_some_and(|id| id != format!("{:x}", header.cluster_id).as_bytes()) {
        return text(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
    }
    let mut row = json!({ "header": { "revision": header.revision }, "hash": hashed.hash });
    for (name, number) in [("compact_revision", hashed.compact_revision), ("hash_revision", hashed.hash_revision)] {
        if number != 0 {
            row[name] = number.into();
        }
    }
    of_cluster(Some(header), json_of(&row))
}

async fn promote(store: &Client, id: &str, request: &Parts) -> Response<Bytes> {
    let Ok(number) = id.parse() else {
        return text(StatusCode::NOT_FOUND, &format!("member {id} not found in cluster"));
    };
    let token = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let store = store.on_behalf(Caller::Client { token, common_name: None });
    match store.member_promote(pb::MemberPromoteRequest { id: number }).await {
        Ok(promoted) => of_cluster(promoted.header, json_of(&listed(promoted.members))),
        Err(error) => refused(&error),
    }
}

async fn downgrading(store: &Client) -> Response<Bytes> {
    match store.status(pb::StatusRequest::default()).await {
        Ok(status) => {
            let enabled = status.downgrade_info.is_some_and(|info| info.enabled);
            let mut response = Response::new(Bytes::from(enabled.to_string()));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            of_cluster(status.header, response)
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Response<Bytes> {
    let code = match status::of(error).code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(code, error.to_wire().1)
}

fn not_allowed(method: Method) -> Response<Bytes> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allow = HeaderValue::from_str(method.as_str()).expect("methods are words");
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

fn of_cluster(header: Option<pb::ResponseHeader>, mut response: Response<Bytes>) -> Response<Bytes> {
    let cluster = format!("{:x}", header.unwrap_or_default().cluster_id);
    let cluster = HeaderValue::from_str(&cluster).expect("hexadecimal digits are a valid header");
    response.headers_mut().insert(CLUSTER_ID, cluster);
    response
}

fn json_of(value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{value}\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(code: StatusCode, words: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{words}\n")));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_etcd_does() {
        let new = pb::Member { id: 7, peer_ur_ls: vec!["http://a:1".into()], ..Default::default() };
        let started = pb::Member {
            id: 8,
            name: "b".into(),
            peer_ur_ls: vec!["http://b:1".into()],
            client_ur_ls: vec!["http://b:2".into()],
            is_learner: true,
        };
        assert_eq!(
            listed(vec![new, started]).to_string(),
            concat!(
                r#"[{"id":7,"peerURLs":["http://a:1"]},"#,
                r#"{"id":8,"peerURLs":["http://b:1"],"isLearner":true,"name":"b","clientURLs":["http://b:2"]}]"#
            )
        );
    }
}
