//! Probes and hooks by HTTP and HTTPS.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;

use super::result::{self, ProbeResult, join};
use super::{Target, port};

/// How many redirects are followed within one host.
const REDIRECTS_MAX: usize = 10;
/// So much of a body is read, so that the server does not see a reset.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// The URL of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    secure: bool,
    host: String,
    port: u16,
    /// With the query.
    path: String,
}

impl Url {
    /// The URL that `location` names from here; `None` if it is invalid.
    fn redirected(&self, location: &str) -> Option<Url> {
        if !location.contains("://") {
            let path = match location.strip_prefix('/') {
                Some(_) => location.to_owned(),
                None => {
                    let here = self.path.split('?').next().unwrap_or_default();
                    format!("{}/{location}", here.rsplit_once('/').map_or("", |(parent, _)| parent))
                }
            };
            return Some(Url { path, ..self.clone() });
        }
        let uri: Uri = location.parse().ok()?;
        let secure = uri.scheme_str() == Some("https");
        Some(Url {
            secure,
            host: uri.host()?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

impl Target<'_> {
    /// A GET, as probes and hooks make it: a success where the answer is from 200 to 399. Redirects are followed within
    /// the host; one to another host counts as a success.
    pub async fn http_get(&self, action: &HTTPGetAction, address: IpAddr) -> ProbeResult {
        let path = action.path.as_deref().unwrap_or_default();
        let port = match port(&action.port, self.spec) {
            Ok(port) => port,
            Err(why) => return ProbeResult::Unknown(why),
        };
        let headers = match headers(action) {
            Ok(headers) => headers,
            Err(why) => return ProbeResult::Unknown(why),
        };
        let mut url = Url {
            secure: action.scheme.as_deref() == Some("HTTPS"),
            host: action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| address.to_string()),
            port,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
        };
        for _ in 0..=REDIRECTS_MAX {
            let (status, location) = match self.get(&url, &headers).await {
                Ok(answer) => answer,
                Err(why) => return ProbeResult::Failure(why),
            };
            let next = location.filter(|_| is_redirect(status)).and_then(|location| url.redirected(&location));
            match next {
                Some(next) if next.host == url.host => url = next,
                _ if (200..400).contains(&status.as_u16()) => return ProbeResult::Success,
                _ => return ProbeResult::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16())),
            }
        }
        ProbeResult::Failure(format!("stopped after {REDIRECTS_MAX} redirects"))
    }

    async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<(StatusCode, Option<String>), String> {
        let mut stream = self.world.net.connect(&join(&url.host, url.port)).await.map_err(text)?;
        if url.secure {
            stream = self.tls.connect(stream, &url.host).await.map_err(text)?;
        }
        let authority = join(&url.host, url.port);
        if stream.is_http2() {
            let io = TokioIo::new(stream);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(self.world.spawner.clone(), io).await.map_err(text)?;
            let scheme = if url.secure { "https" } else { "http" };
            let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(&authority);
            let mut request = request(&format!("{scheme}://{host}{}", url.path), headers)?;
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST);
            drive(exchange(sender.send_request(request)), connection).await
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
            let mut request = request(&url.path, headers)?;
            if !request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, authority.parse().map_err(text)?);
            }
            drive(exchange(sender.send_request(request)), connection).await
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The headers of the action, and the usual ones that it does not set.
fn headers(action: &HTTPGetAction) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in action.http_headers.iter().flatten() {
        let name: HeaderName = header.name.parse().map_err(text)?;
        headers.append(name, HeaderValue::from_str(&header.value).map_err(text)?);
    }
    for (name, value) in [(USER_AGENT, result::USER_AGENT), (ACCEPT, "*/*")] {
        match headers.get(&name).map(|value| value.is_empty()) {
            // An empty value removes the header.
            Some(true) => drop(headers.remove(name)),
            Some(false) => {}
            None => drop(headers.insert(name, HeaderValue::from_static(value))),
        }
    }
    Ok(headers)
}

fn request(target: &str, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(target).body(Empty::new()).map_err(text)?;
    *request.headers_mut() = headers.clone();
    Ok(request)
}

/// Waits for the answer and drives its connection. A connection that ends may have brought the whole answer.
async fn drive<T>(answer: impl Future<Output = T>, connection: impl Future) -> T {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

async fn exchange(
    sent: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<(StatusCode, Option<String>), String> {
    let response = sent.await.map_err(text)?;
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (status, mut body, mut read) = (response.status(), response.into_body(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= BODY_BYTES_MAX {
            break;
        }
    }
    Ok((status, location))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::time::Duration;

    use hyper::service::service_fn;
    use k8s_openapi::api::core::v1::{Container as Spec, HTTPHeader};
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::world::disk::Access;
    use crate::world::{MemoryDisk, World, tls};

    fn url(path: &str) -> Url {
        Url { secure: false, host: "10.0.0.1".into(), port: 80, path: path.into() }
    }

    #[test]
    fn redirects_lead_to_places() {
        let table = [
            ("/b?c", Some(url("/b?c"))),
            ("b", Some(url("/a/b"))),
            ("https://10.0.0.1/b", Some(Url { secure: true, port: 443, ..url("/b") })),
            ("http://other:81", Some(Url { host: "other".into(), port: 81, ..url("/") })),
            ("http://", None),
        ];
        for (location, expected) in table {
            assert_eq!(url("/a/x?y").redirected(location), expected, "{location}");
        }
    }

    #[test]
    fn headers_of_the_action_go_over_the_usual_ones() {
        let header = |name: &str, value: &str| HTTPHeader { name: name.into(), value: value.into() };
        let of = |list: Vec<HTTPHeader>| {
            headers(&HTTPGetAction { http_headers: Some(list), ..HTTPGetAction::default() }).unwrap()
        };
        assert_eq!(of(vec![])[USER_AGENT], "kube-probe/1.35");
        let own = of(vec![header("user-agent", "mine"), header("Accept", ""), header("Host", "x")]);
        assert_eq!(
            (&own[USER_AGENT], own.get(ACCEPT), own.get_all(HOST).iter().count()),
            (&"mine".parse().unwrap(), None, 1)
        );
    }

    /// What is learned of the server at `address`.
    async fn ask(world: &World, scheme: &str, address: SocketAddr) -> ProbeResult {
        let believe_any = tls::Options { insecure_skip_verify: true, ..tls::Options::default() };
        let tls = tls::Client::new(world, believe_any).unwrap();
        let action = HTTPGetAction {
            path: Some("healthz".to_owned()),
            port: IntOrString::Int(address.port().into()),
            scheme: Some(scheme.to_owned()),
            ..HTTPGetAction::default()
        };
        let spec = Spec::default();
        let target = Target { world, tls: &tls, spec: &spec };
        tokio::time::timeout(Duration::from_secs(20), target.http_get(&action, address.ip())).await.unwrap()
    }

    fn world() -> World {
        World { net: crate::world::Network::real(), ..World::simulated(1, MemoryDisk::new()) }
    }

    /// A server that gives each connection the next answer: what is learned of it, and what it was asked.
    async fn answers(answers: &[&str]) -> (ProbeResult, Vec<String>) {
        let world = world();
        let listener = world.net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.next(&world.clock).await;
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
            requests
        };
        tokio::join!(ask(&world, "HTTP", address), serving)
    }

    #[tokio::test]
    async fn answers_below_400_are_successes_and_redirects_are_followed_at_home() {
        let ok = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(answers(&[ok]).await.0, ProbeResult::Success);
        let failed = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n";
        let statuscode = ProbeResult::Failure("HTTP probe failed with statuscode: 500".to_owned());
        assert_eq!(answers(&[failed]).await.0, statuscode);
        let there = "HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n";
        let (answer, requests) = answers(&[there, failed]).await;
        assert_eq!(answer, statuscode);
        assert!(requests[1].starts_with("GET /there HTTP/1.1\r\n"), "{requests:?}");
        let away = "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answers(&[away]).await.0, ProbeResult::Success);
    }

    #[tokio::test]
    async fn any_certificate_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let world = World { disk: crate::world::Disk::real(), ..world() };
        let pair = rcgen::generate_simple_self_signed(vec!["elsewhere".to_owned()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        world.disk.replace(&cert, pair.cert.pem().as_bytes(), Access::Owner).unwrap();
        world.disk.replace(&key, pair.signing_key.serialize_pem().as_bytes(), Access::Owner).unwrap();
        let options = tls::Options { cert_file: Some(cert), key_file: Some(key), ..tls::Options::default() };
        let server = tls::Server::new(&world, options).unwrap();
        let listener = world.net.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (stream, _) = listener.next(&world.clock).await;
            let stream = server.accept(stream).await.unwrap().stream;
            let service = service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.uri().path(), "/healthz");
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            });
            let connection = hyper_util::server::conn::auto::Builder::new(world.spawner.clone());
            connection.serve_connection(TokioIo::new(stream), service).await.unwrap();
            std::future::pending::<ProbeResult>().await
        };
        let answer = tokio::select! {
            answer = ask(&world, "HTTPS", address) => answer,
            answer = serving => answer,
        };
        assert_eq!(answer, ProbeResult::Success);
    }
}
