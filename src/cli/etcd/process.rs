//! The life of a server as a process: started, ready, ended by a signal.

use std::process::ExitCode;

use crate::actor::Shutdown;
use crate::cli::signals::interrupted;
use crate::cluster::server::{Options, Server};
use crate::world::{World, init};

/// Runs the server that `options` describe until a signal asks it to end.
pub async fn serve(world: &World, options: &Options) -> ExitCode {
    let ended = interrupted();
    let server = match Server::start(world, options).await {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "failed to start etcd");
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        signal = ended => tracing::info!(signal, "received signal; shutting down"),
        never = serving(&server) => match never {},
        () = server.member().removed() => {
            tracing::warn!(error = "the member has been permanently removed from the cluster", "server error");
            tracing::warn!("data-dir used by this member must be removed");
        }
    }
    let (name, data_dir) = (&options.name, options.data_dir());
    tracing::info!(name, "data-dir" = %data_dir.display(), "closing etcd server");
    server.stop().await;
    tracing::info!(name, "data-dir" = %data_dir.display(), "closed etcd server");
    ExitCode::SUCCESS
}

/// Announces that the member is ready, once it is, then waits for ever.
async fn serving(server: &Server) -> std::convert::Infallible {
    server.ready().await;
    tracing::info!("ready to serve client requests");
    notify_ready();
    std::future::pending().await
}

/// Notifies the init system that the process is ready.
pub fn notify_ready() {
    tracing::info!("notifying init daemon");
    match init::notify_ready() {
        Ok(_) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::error!(%error, "failed to notify systemd for readiness"),
    }
}

/// Notifies the init system, and begins `shutdown` once a signal asks the process to end.
pub async fn run_until_interrupted(shutdown: &Shutdown) {
    notify_ready();
    interrupted().await;
    shutdown.begin();
}
