//! The signals that ask a process to end.

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::world::World;

/// Resolves with the name of the signal: Ctrl-C, or that of an init system. Signals count from this call on.
pub fn interrupted() -> impl Future<Output = &'static str> {
    let mut terminate = listen(SignalKind::terminate());
    let mut interrupt = listen(SignalKind::interrupt());
    async move {
        tokio::select! {
            _ = terminate.recv() => "terminated",
            _ = interrupt.recv() => "interrupt",
        }
    }
}

/// Resolves when the process is interrupted or its terminal is closed; the latter does not count where the process was
/// started to outlive its terminal, as `nohup` does.
pub fn interrupted_or_hung_up(world: &World) -> impl Future<Output = ()> + use<> {
    let interrupted = interrupted();
    let status = world.disk.read(Path::new("/proc/self/status")).unwrap_or_default();
    let outlives = ignores_hangup(&String::from_utf8_lossy(&status));
    let hangup = (!outlives).then(|| listen(SignalKind::hangup()));
    async move {
        let hung_up = async {
            match hangup {
                Some(mut hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupted => {}
            () = hung_up => {}
        }
    }
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("signal handlers can be installed")
}

/// Whether SIGHUP, the first signal of the mask in a `/proc/PID/status`, is ignored.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_starts_outlives_its_terminal() {
        assert!(ignores_hangup("Name:\tchorus\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n"));
        assert!(!ignores_hangup("Name:\tchorus\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hangup(""));
    }
}
