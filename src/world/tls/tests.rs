//! Both ends of a handshake, over real sockets, with certificates made for the test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::self_signed::self_signed;
use super::{Accepted, Client, Error, Options, Rejected, Server};
use crate::world::disk::Access;
use crate::world::{Clock, Disk, MemoryDisk, Network, Random, Spawner, World};

/// Real sockets and time, files in memory.
fn world() -> World {
    let disk = Disk::memory(MemoryDisk::default());
    disk.create_dir_all(Path::new("/tls"), Access::Owner).unwrap();
    World {
        clock: Clock::real(),
        random: Random::from_seed(1),
        net: Network::real(),
        disk,
        spawner: Spawner::local(Random::from_seed(2)),
    }
}

/// Signs certificates and writes them to `/tls/NAME.crt` and `.key`.
struct Authority {
    world: World,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(world: &World) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        write(world, "ca.crt", params.self_signed(&key).unwrap().pem().as_bytes());
        Authority { world: world.clone(), issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, common_name: &str, hosts: &[&str], serial: u64) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        write(&self.world, &format!("{name}.crt"), certificate.pem().as_bytes());
        write(&self.world, &format!("{name}.key"), key.serialize_pem().as_bytes());
    }

    fn revoke(&self, serial: u64) {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: rcgen::date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2021, 1, 1),
            next_update: rcgen::date_time_ymd(2021, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        write(&self.world, "revoked.crl", list.signed_by(&self.issuer).unwrap().der());
    }
}

fn write(world: &World, name: &str, bytes: &[u8]) {
    world.disk.replace(&path(name), bytes, Access::Owner).unwrap();
}

fn path(name: &str) -> PathBuf {
    Path::new("/tls").join(name)
}

fn options(name: &str) -> Options {
    Options {
        cert_file: Some(path(&format!("{name}.crt"))),
        key_file: Some(path(&format!("{name}.key"))),
        trusted_ca_file: Some(path("ca.crt")),
        ..Options::default()
    }
}

/// What either end made of a handshake, and of a few bytes after it.
async fn meet(world: &World, server: &Server, client: &Client, host: &str) -> (Result<Accepted, Rejected>, String) {
    let listener = world.net.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dialled = async {
        let stream = world.net.connect(&address).await.unwrap();
        let mut stream = client.connect(stream, host).await.map_err(|error| error.to_string())?;
        stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
        stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok(())
    };
    let accepted = async {
        let mut accepted = server.accept(listener.next(&world.clock).await.0).await?;
        let mut heard = [0; 5];
        accepted.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        accepted.stream.write_all(b"!").await.unwrap();
        Ok(accepted)
    };
    let (dialled, accepted): (Result<(), String>, _) = tokio::join!(dialled, accepted);
    (accepted, dialled.err().unwrap_or_default())
}

#[tokio::test]
async fn both_ends_show_who_they_are() {
    let world = world();
    let authority = Authority::new(&world);
    authority.sign("server", "s", &["localhost", "127.0.0.1"], 1);
    authority.sign("client", "alice", &["localhost"], 2);
    let server = Server::new(&world, options("server")).unwrap();
    let client = Client::new(&world, options("client")).unwrap();
    let (accepted, _) = meet(&world, &server, &client, "localhost").await;
    let accepted = accepted.unwrap();
    assert_eq!(accepted.certificate.unwrap().common_name, "alice");
    assert!(accepted.stream.is_http2());

    let nobody = Client::new(&world, Options { trusted_ca_file: Some(path("ca.crt")), ..Options::default() }).unwrap();
    let (accepted, _) = meet(&world, &server, &nobody, "127.0.0.1").await;
    assert_eq!(accepted.unwrap_err().error, "tls: client didn't provide a certificate");

    let (accepted, dialled) = meet(&world, &server, &client, "elsewhere").await;
    assert_eq!(accepted.unwrap_err().error, "remote error: tls: bad certificate");
    assert_eq!(dialled, "tls: failed to verify certificate: x509: certificate is valid for localhost, not elsewhere");

    let stranger = Client::new(&world, Options::default()).unwrap();
    let (accepted, dialled) = meet(&world, &server, &stranger, "localhost").await;
    let refused = accepted.unwrap_err();
    assert_eq!(
        (&*refused.error, &*refused.server_name),
        ("remote error: tls: unknown certificate authority", "localhost")
    );
    assert!(dialled.ends_with("x509: certificate signed by unknown authority"), "{dialled}");
}

#[tokio::test]
async fn peers_must_have_an_allowed_name() {
    let world = world();
    let authority = Authority::new(&world);
    authority.sign("one", "example.com", &["localhost", "127.0.0.1"], 1);
    authority.sign("two", "example2.com", &["m2.etcd.local", "127.0.0.1"], 2);
    let allowed = |name: &str, allowed: &str| Options { allowed_common_names: vec![allowed.into()], ..options(name) };
    let one = Server::new(&world, allowed("one", "example.com")).unwrap();
    let (accepted, _) = meet(&world, &one, &Client::new(&world, options("two")).unwrap(), "127.0.0.1").await;
    assert_eq!(accepted.unwrap_err().error, "client certificate authentication failed");
    let two = Client::new(&world, allowed("two", "example2.com")).unwrap();
    let (accepted, dialled) = meet(&world, &one, &two, "127.0.0.1").await;
    assert_eq!(accepted.unwrap_err().error, "remote error: tls: bad certificate");
    assert_eq!(dialled, "client certificate authentication failed");

    let hosts = Options { allowed_hostnames: vec!["m2.etcd.local".into()], ..options("one") };
    let one = Server::new(&world, hosts).unwrap();
    let (accepted, _) = meet(&world, &one, &Client::new(&world, options("two")).unwrap(), "127.0.0.1").await;
    assert!(accepted.is_ok());
    let (accepted, _) = meet(&world, &one, &Client::new(&world, options("one")).unwrap(), "127.0.0.1").await;
    assert_eq!(accepted.unwrap_err().error, "client certificate authentication failed");
}

#[tokio::test]
async fn clients_must_come_from_where_their_certificate_says() {
    let world = world();
    let authority = Authority::new(&world);
    authority.sign("server", "s", &["127.0.0.1"], 1);
    authority.sign("client", "c", &["10.1.2.3"], 2);
    let checking = Options { verify_client_address: true, ..options("server") };
    let server = Server::new(&world, checking).unwrap();
    let (accepted, _) = meet(&world, &server, &Client::new(&world, options("client")).unwrap(), "127.0.0.1").await;
    let refused = accepted.unwrap_err();
    assert_eq!(refused.error, "x509: certificate is valid for 10.1.2.3, not 127.0.0.1");
    assert_eq!(refused.ip_addresses, ["10.1.2.3".parse::<std::net::IpAddr>().unwrap()]);
    let (accepted, _) = meet(&world, &server, &Client::new(&world, options("server")).unwrap(), "127.0.0.1").await;
    assert!(accepted.is_ok());
}

#[tokio::test]
async fn files_are_read_again_at_every_handshake() {
    let world = world();
    let authority = Authority::new(&world);
    authority.sign("server", "s", &["127.0.0.1"], 1);
    authority.sign("client", "before", &[], 2);
    authority.revoke(9);
    let checking = Options { crl_file: Some(path("revoked.crl")), ..options("server") };
    let server = Server::new(&world, checking).unwrap();
    let client = Client::new(&world, options("client")).unwrap();
    let name = |accepted: Result<Accepted, Rejected>| accepted.unwrap().certificate.unwrap().common_name;
    assert_eq!(name(meet(&world, &server, &client, "127.0.0.1").await.0), "before");
    authority.sign("client", "after", &[], 3);
    assert_eq!(name(meet(&world, &server, &client, "127.0.0.1").await.0), "after");
    authority.revoke(3);
    let (accepted, _) = meet(&world, &server, &client, "127.0.0.1").await;
    assert_eq!(accepted.unwrap_err().error, "transport: certificate serial 03 revoked");
    world.disk.remove(&path("server.crt")).unwrap();
    let (accepted, _) = meet(&world, &server, &client, "127.0.0.1").await;
    assert_eq!(accepted.unwrap_err().error, "open /tls/server.crt: no such file or directory");
}

#[tokio::test]
async fn a_certificate_of_ones_own_needs_no_authority() {
    let world = world();
    let hosts = ["127.0.0.1:2380".to_owned(), "localhost:2380".to_owned()];
    let own = self_signed(&world, Path::new("/tls/own"), &hosts, 1).unwrap();
    assert_eq!(self_signed(&world, Path::new("/tls/own"), &[], 1).unwrap(), own, "it is kept");
    let (server, client) = (Server::new(&world, own.clone()).unwrap(), Client::new(&world, own.clone()).unwrap());
    assert!(meet(&world, &server, &client, "anything").await.0.is_ok());

    // Whoever has its file may also believe it as an authority, and be believed by it.
    let mutual = Options { trusted_ca_file: own.cert_file.clone(), insecure_skip_verify: false, ..own };
    let server = Server::new(&world, mutual.clone()).unwrap();
    let client = Client::new(&world, mutual).unwrap();
    assert!(meet(&world, &server, &client, "localhost").await.0.is_ok());
    let (_, dialled) = meet(&world, &server, &client, "elsewhere").await;
    assert!(dialled.ends_with("x509: certificate is valid for localhost, not elsewhere"), "{dialled}");
    assert_eq!(self_signed(&world, Path::new("/tls/none"), &[], 0), Err(Error::NoValidity));
}

#[tokio::test]
async fn mistakes_show_at_the_start_and_name_the_file() {
    let world = world();
    let authority = Authority::new(&world);
    authority.sign("one", "one", &[], 1);
    authority.sign("two", "two", &[], 2);
    write(&world, "nonsense", b"nonsense");
    let refused = |options: Options| Server::new(&world, options).unwrap_err().to_string();
    assert_eq!(refused(options("absent")), "open /tls/absent.crt: no such file or directory");
    assert!(
        refused(Options { key_file: None, ..options("one") }).starts_with("KeyFile and CertFile must both be present")
    );
    assert_eq!(
        refused(Options { key_file: Some(path("two.key")), ..options("one") }),
        "/tls/two.key does not belong to /tls/one.crt: tls: private key does not match public key"
    );
    assert_eq!(
        refused(Options { cert_file: Some(path("nonsense")), ..options("one") }),
        "/tls/nonsense: tls: failed to find any PEM data in certificate input"
    );
    assert!(refused(Options { trusted_ca_file: Some(path("nonsense")), ..options("one") }).contains("/tls/nonsense"));
}
