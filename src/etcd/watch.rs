//! Watch: a gRPC stream joined to a watch stream of the store.
//!
//! Nothing is buffered here: the store reads requests when it is ready for them, and is asked for the next response
//! when the connection has taken the one before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chorus_proto::etcdserverpb as pb;
use futures::{StreamExt, stream};
use http::{Request, Response};
use prost::Message;
use tonic::Status;
use tonic::codec::Streaming;

use super::body::{Body, RequestBody};
use super::fragment::Fragments;
use super::metrics::Metrics;
use super::rpc::Rpc;
use super::server::EtcdServer;
use super::status;
use super::stream::{self as streams, Answers};
use crate::store::client::Client;

pub(super) async fn answer(server: &Arc<EtcdServer>, store: &Client, request: Request<RequestBody>) -> Response<Body> {
    streams::bidi_stream(server, Rpc::Watch, request, async |messages| open(server, store, messages).await).await
}

/// The state that both directions of one stream use.
struct Bridge {
    metrics: Metrics,
    fragments: Mutex<Fragments>,
    /// The client sent something that is no request, or is gone.
    refused: Mutex<Option<Status>>,
}

impl Bridge {
    fn fragments(&self) -> MutexGuard<'_, Fragments> {
        self.fragments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, Option<Status>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(
    server: &EtcdServer,
    store: &Client,
    messages: Streaming<pb::WatchRequest>,
) -> Result<Answers<pb::WatchResponse>, Status> {
    let bridge = Arc::new(Bridge {
        metrics: server.metrics.clone(),
        fragments: Mutex::new(Fragments::new(server.config.limits.request_bytes_max)),
        refused: Mutex::new(None),
    });
    let requests = requests(bridge.clone(), messages).boxed();
    let responses = store.watch(requests).await.map_err(|error| status::of(&error))?;
    let at_end = bridge.clone();
    let end = stream::once(async move { Err(at_end.refused().take().unwrap_or_else(status::stopped)) });
    let answers = responses.flat_map(move |response| {
        stream::iter(match response {
            Ok(response) => Whole::Pieces(bridge.fragments().cut(response)),
            Err(error) => Whole::Failure(Some(status::of(&error))),
        })
    });
    Ok(answers.chain(end).boxed())
}

/// The client's requests until it is gone or sends something that is no request. A client that closes its side of the
/// stream still wants the answers to its requests.
fn requests(
    bridge: Arc<Bridge>,
    messages: Streaming<pb::WatchRequest>,
) -> impl futures::Stream<Item = pb::WatchRequest> + Send {
    stream::unfold(messages, move |mut messages| {
        let bridge = bridge.clone();
        async move {
            match messages.message().await {
                Ok(Some(request)) => {
                    bridge.metrics.received(Rpc::Watch, request.encoded_len());
                    bridge.fragments().requested(&request);
                    Some((request, messages))
                }
                Ok(None) => std::future::pending().await,
                Err(refused) => {
                    *bridge.refused() = Some(refused);
                    None
                }
            }
        }
    })
}

/// One item of the store's stream, as the items the client gets.
enum Whole {
    Pieces(super::fragment::Pieces),
    Failure(Option<Status>),
}

impl Iterator for Whole {
    type Item = Result<pb::WatchResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Whole::Pieces(pieces) => pieces.next().map(Ok),
            Whole::Failure(status) => status.take().map(Err),
        }
    }
}
