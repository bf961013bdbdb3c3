//! A client with two servers on a simulated network, over TLS and HTTP/2.

use std::convert::Infallible;

use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use super::super::{Api, Client};
use super::*;
use crate::world::MemoryDisk;

/// A certificate for both servers, which is its own authority.
struct Pki {
    certificate_pem: String,
    key_pem: String,
}

impl Pki {
    fn new() -> Pki {
        let names = vec!["s1".to_owned(), "s2".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Pki { certificate_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Says its name in every object; a watch has one event and does not end.
async fn answer(
    name: &'static str,
    request: http::Request<Incoming>,
) -> Result<http::Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": name, "resourceVersion": "1"}});
    let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
    let body = if is_watch { json!({"type": "ADDED", "object": object}) } else { object };
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from(format!("{body}\n"))))]);
    let rest: BoxStream<'static, _> =
        if is_watch { futures::stream::pending().boxed() } else { futures::stream::empty().boxed() };
    Ok(http::Response::new(StreamBody::new(first.chain(rest)).boxed_unsync()))
}

async fn serve(name: &'static str, acceptor: TlsAcceptor) -> Result<(), Box<dyn std::error::Error>> {
    let world = World::simulated(1, MemoryDisk::default());
    let listener = world.net.listen("0.0.0.0:6443").await?;
    loop {
        let (stream, _) = listener.next(&world.clock).await;
        let (acceptor, tasks) = (acceptor.clone(), world.spawner.clone());
        world.spawner.task(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(name, request));
            let _ = auto::Builder::new(tasks).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn api(world: &World, pki: &Pki) -> Api<ConfigMap> {
    let config = RemoteConfig {
        servers: vec!["https://s1:6443".to_owned(), "https://s2:6443".to_owned()],
        ca_pem: Some(pki.certificate_pem.clone()),
        identity: Identity::Anonymous,
    };
    Client::new(Arc::new(Remote::new(world, config).unwrap())).api::<ConfigMap>().namespaced("default")
}

async fn who(api: &Api<ConfigMap>) -> Result<String, Status> {
    Ok(api.get("any").await?.metadata.name.unwrap_or_default())
}

#[test]
fn a_server_that_falls_silent_is_noticed_and_left_for_another() {
    let pki = Arc::new(Pki::new());
    let mut simulation = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(120))
        .rng_seed(1)
        .tick_duration(Duration::from_millis(10))
        .build();
    for name in ["s1", "s2"] {
        let pki = pki.clone();
        simulation.host(name, move || serve(name, pki.acceptor()));
    }
    simulation.client("client", async move {
        let world = World::simulated(1, MemoryDisk::default());
        let api = api(&world, &pki);
        assert_eq!(who(&api).await?, "s1");
        let mut events = api.watch(WatchOptions::default()).await?;
        assert!(matches!(events.next().await, Some(Ok(super::super::Event::Added(_)))));

        turmoil::hold("client", "s1");
        let begun = world.clock.now();
        assert!(events.next().await.is_none_or(|event| event.is_err()), "nothing more was said");
        let noticed = world.clock.now() - begun;
        assert!(noticed <= PING_PERIOD + PING_DEADLINE + Duration::from_secs(1), "{noticed:?}");
        assert_eq!(who(&api).await?, "s2");
        assert!(world.clock.now() - begun <= noticed + CONNECT_DEADLINE + Duration::from_secs(1));
        assert_eq!(who(&api).await?, "s2", "the one that answered comes first");
        Ok(())
    });
    simulation.run().unwrap();
}
