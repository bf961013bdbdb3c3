//! The signals that ask a process to end.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves with the name of the signal: Ctrl-C, or that of an init system. Signals count from this call on.
pub fn interrupted() -> impl Future<Output = &'static str> {
    let mut terminate = signal(SignalKind::terminate()).expect("signal handlers can be installed");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signal handlers can be installed");
    async move {
        tokio::select! {
            _ = terminate.recv() => "terminated",
            _ = interrupt.recv() => "interrupt",
        }
    }
}
