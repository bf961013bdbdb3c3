//! The same port over TLS, asked by clients with and without certificates.

use std::path::{Path, PathBuf};

use chorus::actor::Shutdown;
use chorus::etcd::{Config, Frontend};
use chorus::store::client::Client;
use chorus::world::disk::Access;
use chorus::world::tls::Options;
use chorus::world::{Clock, World};
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::kv_client::KvClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::frozen::Frozen;
use crate::{Running, config, run, world};

/// Certificates are judged by the time of day.
fn real_time() -> World {
    World { clock: Clock::real(), ..world() }
}

async fn serve(world: World, listen: &[&str], tls: Options) -> Running {
    let listen = listen.iter().map(|url| (*url).to_owned()).collect();
    let (config, shutdown) = (Config { listen, tls, ..config() }, Shutdown::new());
    let frontend = Frontend::start(world, config, Client::new(Frozen::default()), shutdown.clone()).await.unwrap();
    Running { frontend, shutdown }
}

fn path(name: &str) -> PathBuf {
    Path::new("/tls").join(name)
}

/// An authority that signed `server` and `client`, in files; and the authority and the client as the client has them.
fn signed(world: &World) -> (Certificate, Identity) {
    world.disk.create_dir_all(Path::new("/tls"), Access::Owner).unwrap();
    let write = |name: &str, pem: &str| world.disk.replace(&path(name), pem.as_bytes(), Access::Owner).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    write("ca.crt", &authority);
    let issuer = Issuer::new(params, key);
    let sign = || {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = sign();
    write("server.crt", &certificate);
    write("server.key", &key);
    let (certificate, key) = sign();
    (Certificate::from_pem(authority), Identity::from_pem(certificate, key))
}

/// Whether the server answers a read.
async fn answers(running: &Running, tls: Option<ClientTlsConfig>) -> bool {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Channel::from_shared(format!("{scheme}://{}", running.address())).unwrap();
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).unwrap();
    }
    let Ok(channel) = endpoint.connect().await else { return false };
    KvClient::new(channel).range(pb::RangeRequest { key: "a".into(), ..Default::default() }).await.is_ok()
}

#[test]
fn clients_show_a_certificate_where_one_is_asked_for() {
    run(async {
        let world = real_time();
        let (authority, identity) = signed(&world);
        let files =
            Options { cert_file: Some(path("server.crt")), key_file: Some(path("server.key")), ..Options::default() };
        let trusting = ClientTlsConfig::new().ca_certificate(authority);
        let known = trusting.clone().identity(identity);
        let (stranger, doubting) = (trusting.clone(), ClientTlsConfig::new());

        let open = serve(world.clone(), &["https://127.0.0.1:0"], files.clone()).await;
        assert!(answers(&open, Some(trusting)).await);
        assert!(!answers(&open, Some(doubting)).await, "the client does not know the authority");
        assert!(!answers(&open, None).await, "without TLS there is no answer");
        open.stop().await;

        let closed = Options { trusted_ca_file: Some(path("ca.crt")), client_cert_auth: true, ..files };
        let closed = serve(world, &["https://127.0.0.1:0"], closed).await;
        assert!(answers(&closed, Some(known)).await);
        assert!(!answers(&closed, Some(stranger)).await, "the client shows no certificate");
        closed.stop().await;
    });
}

#[test]
fn one_port_serves_with_and_without_tls() {
    run(async {
        let world = real_time();
        let (authority, _) = signed(&world);
        let tls =
            Options { cert_file: Some(path("server.crt")), key_file: Some(path("server.key")), ..Options::default() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let urls = [format!("http://127.0.0.1:{port}"), format!("https://127.0.0.1:{port}")];
        let both = serve(world, &urls.each_ref().map(String::as_str), tls).await;
        assert!(answers(&both, None).await);
        assert!(answers(&both, Some(ClientTlsConfig::new().ca_certificate(authority))).await);
        both.stop().await;
    });
}
