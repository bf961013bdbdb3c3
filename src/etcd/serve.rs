//! Serves one connection: HTTP/1.1 or HTTP/2, whichever the client's first bytes say.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;

use super::body::RequestBody;
use super::connection::{CommonName, Connection, Serves};
use super::listen::{Accepted, Security};
use super::pings::Guarded;
use super::router;
use super::server::EtcdServer;
use crate::world::net::{Answering, Guest, Opened};
use crate::world::{Spawner, Stream, World};

/// A client that has thousands of small calls under way on one connection must not wait for window updates.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// A Go client cancels calls in bursts when a context ends; that is no attack. More resets than this, of calls that the
/// server has not even begun, are one.
const RESETS_PENDING_MAX: usize = 1_000;
/// Calls that this end had to reset because the client broke the protocol; with more, the connection ends.
const FAULTS_MAX: usize = 1_000;
/// How long a connection that gives way to another one has to notice it.
const FAREWELL_LIMIT: Duration = Duration::from_millis(100);
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts a client and serves it.
pub(super) async fn begin(server: Arc<EtcdServer>, serves: Serves, security: Security, stream: Stream) {
    let guest = stream.guest();
    guest.gives_way();
    let accepted = tokio::select! {
        biased;
        () = server.shutdown.wait() => None,
        () = guest.displaced() => None,
        accepted = accept(&server.world, &security, stream, &guest) => accepted,
    };
    let Some((stream, secure, common_name)) = accepted else { return };
    let connection = Connection { server, serves, secure, common_name };
    serve(Arc::new(connection), stream, guest).await;
}

/// Waits until the client has shaken hands, where it has to, and has sent its first bytes.
async fn accept(
    world: &World,
    security: &Security,
    stream: Stream,
    guest: &Guest,
) -> Option<(Opened<Stream>, bool, Option<CommonName>)> {
    let Accepted { stream, secure, common_name } = security.accept(world, stream).await?;
    Some((Opened::wait(&world.clock, stream, guest).await?, secure, common_name))
}

/// Serves `stream` until the client leaves, has to give way, or the frontend has drained.
async fn serve(connection: Arc<Connection>, stream: Opened<Stream>, guest: Guest) {
    let server = connection.server.clone();
    let builder = builder(&connection);
    // Over TLS, etcd's own listener leaves pings to an HTTP library that does not count them.
    let ping_interval_min = match connection.secure && connection.serves != Serves::Grpc {
        true => Duration::ZERO,
        false => server.config.limits.ping_interval_min,
    };
    let (handler, visitor) = (connection, guest.clone());
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        if let Some(authority) = request.uri().authority() {
            let authority = authority.as_str();
            tracing::trace!(target: "http2", "decoded hpack field header field \":authority\" = {authority:?}");
        }
        if let Some(common_name) = &handler.common_name {
            request.extensions_mut().insert(common_name.clone());
        }
        let visitor = visitor.clone();
        let handler = handler.clone();
        async move {
            let call = visitor.call();
            let response = match call {
                Some(_) => router::answer(handler, request.map(RequestBody::Wire)).await?,
                None => router::too_much(&request),
            };
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                visitor.stays();
            }
            Ok::<_, Infallible>(response.map(|body| Answering::new(body, call)))
        }
    });
    let stream = Guarded::new(stream, server.world.clock.clone(), ping_interval_min);
    // An upgrade is a WebSocket, which the gateway then serves.
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            server.world.clock.timeout(server.config.limits.drain, connection).await.unwrap_or(Ok(()))
        }
        () = guest.displaced() => {
            connection.as_mut().graceful_shutdown();
            server.world.clock.timeout(FAREWELL_LIMIT, connection).await.unwrap_or(Ok(()))
        }
        () = guest.stalled(&server.world.clock) => Ok(()),
    };
    if let Err(error) = ended {
        // Clients often leave without closing their connections in order.
        tracing::debug!(%error, "a client connection ended early");
    }
}

fn builder(connection: &Connection) -> auto::Builder<Spawner> {
    let limits = &connection.server.config.limits;
    let mut builder = auto::Builder::new(connection.server.world.spawner.clone());
    builder = match (connection.serves, connection.secure) {
        (Serves::Grpc, _) => builder.http2_only(),
        // Without TLS, gRPC comes over HTTP/2 and everything else over HTTP/1.1.
        (Serves::Http | Serves::Metrics, false) => builder.http1_only(),
        _ => builder,
    };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).title_case_headers(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.concurrent_streams_max)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(Some(FAULTS_MAX))
        .keep_alive_interval(limits.keep_alive_interval)
        .keep_alive_timeout(limits.keep_alive_timeout);
    builder
}
