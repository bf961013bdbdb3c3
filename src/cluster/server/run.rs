//! A running process's server: its member, started and ended in order.

use std::path::Path;

use super::discovery::{self, DiscoveryError};
use super::existing::{self, JoinError};
use super::migrate::take_over;
use super::options::{FLAGS, Options};
use super::plan::PlanError;
use super::urls::UrlError;
use super::values::Value;
use crate::actor::Shutdown;
use crate::cluster::identity::Identity;
use crate::cluster::member::{Member, MemberError};
use crate::cluster::member_plan::{InitialMember, Origin};
use crate::world::disk::{Access, DirLock};
use crate::world::{World, process, tls};

/// Why a server did not start. Surface it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(UrlError),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("--discovery-srv {0}: members are not looked up in DNS; name them in --initial-cluster")]
    Srv(String),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("--initial-cluster has {name}={given} but missing from --initial-advertise-peer-urls={advertised}")]
    Mismatch { name: String, given: String, advertised: String },
    #[error("couldn't find local name {name:?} in the initial cluster configuration")]
    NotInitial { name: String },
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A running server.
pub struct Server {
    member: Member,
    shutdown: Shutdown,
    _lock: DirLock,
}

impl Server {
    /// Starts the member that `options` describe, which must have passed the check.
    pub async fn start(world: &World, options: &Options) -> Result<Server, ServerError> {
        let careless = World { disk: world.disk.without_sync(), ..world.clone() };
        let world = if options.unsafe_no_fsync { &careless } else { world };
        let directory = options.member_dir();
        let wal_dir = Some(Path::new(&options.wal_dir)).filter(|path| !path.as_os_str().is_empty());
        take_over(world, &options.data_dir(), wal_dir).await?;
        let initialized = Identity::is_kept(&world.disk, &directory);
        record(options, initialized);
        let origin = origin(world, options, initialized).await?;
        let plan = options.plan(world, origin)?;
        world.disk.create_dir_all(&directory, Access::Owner)?;
        let lock = world.disk.lock_dir(&directory)?;
        let shutdown = Shutdown::new();
        let member = Member::start(world.clone(), plan, shutdown.clone()).await?;
        tracing::info!(
            "local-member-id" = %member.identity().node,
            "cluster-id" = %member.identity().cluster(),
            "listen-peer-urls" = options.listen_peer_urls.show(),
            "listen-client-urls" = options.listen_client_urls.show(),
            "advertise-client-urls" = options.advertise_client_urls.show(),
            "listen-metrics-urls" = options.listen_metrics_urls.show(),
            "now serving peer/client/metrics"
        );
        let server = Server { member, shutdown, _lock: lock };
        server.defragment(options.bootstrap_defrag_threshold_megabytes).await;
        Ok(server)
    }

    /// Defragments if that frees at least so many megabytes; zero is never.
    async fn defragment(&self, megabytes: u64) {
        let store = self.member.store();
        if megabytes == 0 {
            return;
        }
        let Ok(status) = store.status(Default::default()).await else { return };
        let (size, in_use) = (status.db_size, status.db_size_in_use);
        if u64::try_from(size - in_use).unwrap_or(0) < megabytes << 20 {
            tracing::info!(
                "current-db-size-bytes" = size,
                "current-db-size-in-use-bytes" = in_use,
                "bootstrap-defrag-threshold-bytes" = megabytes << 20,
                "Skipping defragmentation"
            );
        } else if let Err(error) = store.defragment(Default::default()).await {
            tracing::warn!(%error, "the store was not defragmented");
        }
    }

    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Resolves once the member knows a leader and the cluster knows where clients reach this member.
    pub async fn ready(&self) {
        self.member.ready().await;
    }

    /// Hands leadership over, lets requests under way finish, and ends.
    pub async fn stop(self) {
        self.member.hand_over().await;
        self.shutdown.begin();
        self.member.frontend().stopped().await;
        self.member.stop().await;
    }
}

/// What the member belongs to. One that has run before knows, whatever the options say.
async fn origin(world: &World, options: &Options, initialized: bool) -> Result<Origin, ServerError> {
    if initialized {
        return Ok(Origin::New {
            members: options.initial_members().unwrap_or_default(),
            token: options.initial_cluster_token.clone(),
        });
    }
    if !options.discovery_endpoints.0.is_empty() {
        let members = discovery::members(world, options).await?;
        return Ok(Origin::New { members, token: options.discovery_token.clone() });
    }
    if !options.discovery_srv.is_empty() {
        return Err(ServerError::Srv(options.discovery_srv.clone()));
    }
    let members = options.initial_members().map_err(ServerError::InitialCluster)?;
    check_own(world, options, &members).await?;
    match options.initial_cluster_state.0.as_str() {
        "existing" => Ok(existing::join(world, &options.name, &members, peer_client(world, options)?).await?),
        _ => Ok(Origin::New { members, token: options.initial_cluster_token.clone() }),
    }
}

/// The initial cluster must name this member, with the peer URLs that it advertises.
async fn check_own(world: &World, options: &Options, members: &[InitialMember]) -> Result<(), ServerError> {
    let this = members.iter().find(|member| member.name == options.name);
    let this = this.ok_or_else(|| ServerError::NotInitial { name: options.name.clone() })?;
    let advertised = options.initial_advertise_peer_urls.texts();
    if this.peer_urls != advertised && !existing::same_places(world, &this.peer_urls, &advertised).await {
        return Err(ServerError::Mismatch {
            name: options.name.clone(),
            given: this.peer_urls.join(","),
            advertised: advertised.join(","),
        });
    }
    Ok(())
}

/// For calls to peers that ask for TLS.
fn peer_client(world: &World, options: &Options) -> Result<Option<tls::Client>, tls::Error> {
    let secure = options.initial_cluster.contains("https://") || options.initial_cluster.contains("unixs:");
    secure.then(|| tls::Client::new(world, options.peer_tls(world)?)).transpose()
}

/// Writes the whole configuration to the log, without what is secret.
fn record(options: &Options, initialized: bool) {
    let values = FLAGS.iter().filter(|flag| !process::is_secret(flag.name));
    let values: serde_json::Map<String, serde_json::Value> =
        values.map(|flag| (flag.name.to_owned(), options.json(flag.name))).collect();
    let values = serde_json::Value::Object(values);
    tracing::info!(
        "etcd-version" = options.version,
        "member-initialized" = initialized,
        "member-dir" = %options.data_dir().join("member").display(),
        inlined = %values,
        "starting an etcd server"
    );
}
