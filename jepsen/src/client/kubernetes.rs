//! The client of a Kubernetes API: HTTPS with the administrator's certificate, one connection a call.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{CALL_LIMIT, Failed};

const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A client of one frontend.
#[derive(Clone)]
pub struct Kubernetes {
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Kubernetes {
    /// `pki` is the directory with the certificates of the cluster and of its administrator.
    pub fn new(host: &str, port: u16, pki: &Path) -> anyhow::Result<Kubernetes> {
        let read =
            |name: &str| std::fs::read(pki.join(name)).with_context(|| format!("no {name} in {}", pki.display()));
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&read("ca.crt")?) {
            roots.add(authority?)?;
        }
        let certificate = CertificateDer::pem_slice_iter(&read("admin.crt")?).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&read("admin.key")?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificate, key)?;
        Ok(Kubernetes { host: host.to_owned(), port, tls: TlsConnector::from(Arc::new(config)) })
    }

    pub async fn get(&self, path: &str) -> Result<Value, Failed> {
        self.call(Method::GET, path, "", &Value::Null).await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Result<Value, Failed> {
        self.call(Method::POST, path, "application/json", object).await
    }

    pub async fn patch(&self, path: &str, merged: &Value) -> Result<Value, Failed> {
        self.call(Method::PATCH, path, "application/merge-patch+json", merged).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value, Failed> {
        self.call(Method::DELETE, path, "application/json", options).await
    }

    async fn call(&self, method: Method, path: &str, kind: &'static str, body: &Value) -> Result<Value, Failed> {
        let called = async {
            let answer = self.send(method, path, kind, body).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Failed::Perhaps(error.to_string()))?.to_bytes();
            let told: Value = serde_json::from_slice(&body)
                .map_err(|error| Failed::Perhaps(format!("{status} with a malformed answer: {error}")))?;
            if status.is_success() { Ok(told) } else { Err(refused(status, &told)) }
        };
        tokio::time::timeout(CALL_LIMIT, called).await.unwrap_or_else(|_| Err(Failed::timed_out()))
    }

    /// Opens a watch. The path has the query.
    pub async fn watch(&self, path: &str) -> Result<Lines, Failed> {
        let opening = self.send(Method::GET, path, "", &Value::Null);
        let answer = tokio::time::timeout(CALL_LIMIT, opening).await.unwrap_or_else(|_| Err(Failed::timed_out()))?;
        match answer.status() {
            status if status.is_success() => Ok(Lines { body: answer.into_body(), read: BytesMut::new() }),
            status => Err(refused(status, &Value::Null)),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: &Value,
    ) -> Result<Response<Incoming>, Failed> {
        // Until the connection is there, nothing was sent.
        let unsent = |error: std::io::Error| Failed::Surely(format!("not connected: {error}"));
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unsent)?;
        let name = ServerName::try_from(self.host.clone()).expect("a member's host is an address");
        let stream = self.tls.connect(name, stream).await.map_err(unsent)?;
        let perhaps = |error: hyper::Error| Failed::Perhaps(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(perhaps)?;
        tokio::spawn(connection);
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        sender.send_request(request.body(Full::new(body)).expect("the parts are valid")).await.map_err(perhaps)
    }
}

/// What a status says of a request that was sent: only a refusal of the client's own making is sure.
fn refused(status: StatusCode, told: &Value) -> Failed {
    let text = format!("{status}: {}", told["message"].as_str().unwrap_or("no message"));
    if status.is_client_error() { Failed::Surely(text) } else { Failed::Perhaps(text) }
}

/// The events of a watch: JSON, one a line.
pub struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    /// The next event; nothing when the watch is over.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                return serde_json::from_slice(&line).ok();
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.read.extend_from_slice(data);
            }
        }
    }
}
