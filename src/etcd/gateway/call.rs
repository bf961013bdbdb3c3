//! One call of the gateway, made as a gRPC client makes it.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status};

use super::codec::Codec;
use super::metadata;
use crate::etcd::body::{Body, RequestBody};
use crate::etcd::dispatch;
use crate::etcd::rpc::Rpc;
use crate::etcd::server::EtcdServer;

/// How much larger JSON may be than the gRPC message it stands for: base64 takes a third more.
const JSON_OVERHEAD: usize = 2;

/// One call of the gateway.
pub(super) struct Call {
    pub server: Arc<EtcdServer>,
    pub rpc: Rpc,
    pub codec: Codec,
    headers: HeaderMap,
}

impl Call {
    pub fn new(server: &Arc<EtcdServer>, rpc: Rpc, headers: &HeaderMap) -> Result<Call, Status> {
        let headers = metadata::from_http(headers)?;
        Ok(Call { server: server.clone(), rpc, codec: Codec::of(rpc), headers })
    }

    pub fn json_bytes_max(&self) -> usize {
        self.server.config.limits.receive_bytes_max.saturating_mul(JSON_OVERHEAD)
    }

    /// Makes the call. Its failure is either the status in the response's headers, or the end of its body.
    pub async fn send(&mut self, body: RequestBody) -> Result<Response<Body>, Status> {
        let mut request = Request::new(body);
        *request.headers_mut() = std::mem::take(&mut self.headers);
        let response = dispatch::call(&self.server, self.rpc, request).await;
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => Err(status),
            _ => Ok(response),
        }
    }
}
