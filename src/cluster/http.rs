//! One plain GET, for what members and nodes tell without gRPC.

use bytes::Bytes;
use http::response::Parts;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;

use crate::world::World;
use crate::world::net::Dialler;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The answer to a GET of `path`, which must be 200. Keep a deadline. The error is a reason.
pub(super) async fn get(world: &World, dialler: &Dialler, path: &str) -> Result<(Parts, Bytes), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let stream = world.net.dial(dialler).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    world.spawner.task(async move { drop(connection.await) });
    let request = Request::get(path).header("host", dialler.address.place()).body(Empty::<Bytes>::new());
    let response =
        sender.send_request(request.map_err(|error| failed(&error))?).await.map_err(|error| failed(&error))?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("the answer is {}", head.status));
    }
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| failed(&error))?;
    Ok((head, body.to_bytes()))
}
