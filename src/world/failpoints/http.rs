//! Setting failpoints and asking for them, over gofail's protocol:
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | a line `name=terms` for each failpoint |
//! | `GET /name`, `GET /name/count` | its terms; how often one was carried out |
//! | `PUT /name`, `PUT /failpoints` | 204; the body is the terms, or `name=terms;name=terms` |
//! | `DELETE /name` | 204; nothing happens there any more |

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::registry::{self, Answering, Error, NAMES};
use crate::world::{Listener, Stream, World};

const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 1 << 20;

type Answer = Response<Full<Bytes>>;

/// Sets the failpoints of `GOFAIL_FAILPOINTS`, and serves them at `GOFAIL_HTTP` for as long as the process lives. The
/// error is a text for the operator.
pub async fn begin(world: &World) -> Result<(), String> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let given = registry::parse(&variable("GOFAIL_FAILPOINTS"));
    for (name, terms) in given.map_err(|error| format!("fail to parse failpoint: {error}"))? {
        // What cannot be set was told; a name that is not ours may be another program's.
        let _ = registry::enable(&name, &terms);
    }
    let address = variable("GOFAIL_HTTP");
    if !address.is_empty() {
        let listener = world.net.listen(&address).await.map_err(|error| error.to_string())?;
        world.spawner.keep("failpoints", serve(world.clone(), listener));
    }
    Ok(())
}

async fn serve(world: World, listener: Listener) {
    loop {
        let (stream, _) = listener.next(&world.clock).await;
        world.spawner.task(converse(stream));
    }
}

/// One request a connection: once it has ended, the answer has been sent.
async fn converse(stream: Stream) {
    let answering = OnceLock::new();
    let service = service_fn(|request| {
        answering.get_or_init(Answering::begin);
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).keep_alive(false);
    // A client that goes away asks for nothing more.
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>) -> Answer {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let Some(name) = target.strip_prefix('/').map(str::to_owned) else {
        return refuse(StatusCode::BAD_REQUEST, "malformed request URI");
    };
    match *request.method() {
        Method::PUT => match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
            Ok(body) => set(&name, &String::from_utf8_lossy(&body.to_bytes())),
            Err(_) => refuse(StatusCode::BAD_REQUEST, "failed ReadAll in PUT"),
        },
        Method::GET => get(&name),
        Method::DELETE => match registry::disable(&name) {
            Ok(()) => empty(),
            Err(error) => refuse(StatusCode::BAD_REQUEST, &format!("failed to delete failpoint {error}")),
        },
        _ => {
            let mut refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
            refusal.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("PUT"));
            refusal
        }
    }
}

fn set(name: &str, body: &str) -> Answer {
    let given = if name.eq_ignore_ascii_case("failpoints") {
        match registry::parse(body) {
            Ok(given) => given,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("fail to parse failpoint: {error}")),
        }
    } else {
        [(name.to_owned(), body.to_owned())].into()
    };
    for (name, terms) in given {
        if let Err(error) = registry::enable(&name, &terms) {
            return refuse(StatusCode::BAD_REQUEST, &format!("fail to set failpoint: {error}"));
        }
    }
    empty()
}

fn get(name: &str) -> Answer {
    if name.is_empty() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        let line =
            |name: &str| format!("{name}={}\n", registry::status(name).map_or_else(|_| String::new(), |of| of.0));
        return text(StatusCode::OK, names.into_iter().map(line).collect());
    }
    if let Some(name) = name.strip_suffix("/count") {
        return match registry::status(name) {
            Ok((_, count)) => text(StatusCode::OK, count.to_string()),
            Err(Error::NotThere) => refuse(StatusCode::NOT_FOUND, &format!("failed to GET: {}", Error::NotThere)),
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed to GET: {error}")),
        };
    }
    match registry::status(name) {
        Ok((terms, _)) => text(StatusCode::OK, format!("{terms}\n")),
        // The line of the terms follows the error, empty as it is.
        Err(error) => refuse(StatusCode::NOT_FOUND, &format!("failed to GET: {error}\n")),
    }
}

fn empty() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

fn refuse(status: StatusCode, reason: &str) -> Answer {
    let mut answer = text(status, format!("{reason}\n"));
    let nosniff = header::HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(answer: Answer) -> (u16, String) {
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_are_gofails() {
        let disabled = "failed to GET: failpoint: failpoint is disabled\n";
        assert_eq!(said(get("defragdbFail")).await, (404, format!("{disabled}\n")));
        assert_eq!(said(get("defragdbFail/count")).await, (500, disabled.to_owned()));
        assert_eq!(said(get("none/count")).await.0, 404);
        assert_eq!(said(set("defragdbFail", "1*return(\"x\")")).await, (204, String::new()));
        assert_eq!(registry::returned("defragdbFail").as_deref(), Some("x"));
        assert_eq!(registry::returned("defragdbFail"), None);
        assert_eq!(said(get("defragdbFail")).await, (200, "1*return(\"x\")\n".to_owned()));
        assert_eq!(said(get("defragdbFail/count")).await, (200, "1".to_owned()));
        let (status, all) = said(get("")).await;
        assert_eq!((status, all.lines().count()), (200, NAMES.len()));
        assert!(all.contains("\ndefragdbFail=1*return(\"x\")\n") && all.contains("\nraftBeforeSave=\n"));
        assert_eq!(
            said(set("none", "off")).await,
            (400, "fail to set failpoint: failpoint: failpoint does not exist\n".to_owned())
        );
        let unreadable = "fail to set failpoint: failpoint: could not parse terms\n".to_owned();
        assert_eq!(said(set("defragdbFail", "nonsense")).await, (400, unreadable));
        assert_eq!(said(set("failpoints", "defragdbFail=off;beforePublishing=print")).await.0, 204);
        assert_eq!(said(set("failpoints", "defragdbFail")).await.0, 400);
        for name in ["defragdbFail", "beforePublishing"] {
            registry::disable(name).unwrap();
            assert_eq!(registry::disable(name), Err(Error::Disabled));
        }
    }
}
