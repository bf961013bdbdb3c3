//! Answers of the gateway, and gRPC statuses as HTTP statuses and JSON.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use tonic::{Code, Status};

use crate::etcd::body::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The gateway shows the metadata of gRPC answers, and this is all there is.
const METADATA: (HeaderName, HeaderValue) =
    (HeaderName::from_static("grpc-metadata-content-type"), HeaderValue::from_static("application/grpc"));

/// An answer of JSON.
pub(super) fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(METADATA.0, METADATA.1);
    response
}

#[derive(Serialize)]
struct Refusal<'a> {
    code: i32,
    message: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    error: Refusal<'a>,
}

impl<'a> From<&'a Status> for Refusal<'a> {
    fn from(status: &'a Status) -> Refusal<'a> {
        Refusal { code: status.code() as i32, message: status.message() }
    }
}

/// The answer to a call that failed.
pub(super) fn refused(status: &Status) -> Response<Body> {
    let mut response = typed(status.code(), Body::Text(Full::new(error(status))));
    if status.code() == Code::Unauthenticated
        && let Ok(words) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, words);
    }
    response
}

/// A status as JSON.
pub(super) fn error(status: &Status) -> Bytes {
    serde_json::to_vec(&Refusal::from(status)).expect("a number and a string are JSON").into()
}

/// The answer to a stream that failed before its first message.
pub(super) fn refused_stream(status: &Status) -> Response<Body> {
    typed(status.code(), Body::Text(Full::new(error_line(status))))
}

/// The last line of a stream that failed.
pub(super) fn error_line(status: &Status) -> Bytes {
    let mut json = serde_json::to_vec(&Line { error: status.into() }).expect("a number and a string are JSON");
    json.push(b'\n');
    json.into()
}

fn typed(code: Code, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = http_status(code);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(number).expect("the table has statuses alone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_http_status() {
        let table = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (code, status) in table.into_iter().enumerate() {
            assert_eq!(http_status(Code::from_i32(code as i32)).as_u16(), status, "{code}");
        }
    }

    #[test]
    fn a_stream_ends_with_a_line() {
        let ended = error_line(&Status::unknown("election: no leader"));
        assert_eq!(ended, "{\"error\":{\"code\":2,\"message\":\"election: no leader\"}}\n");
    }
}
