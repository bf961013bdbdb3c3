//! Planted bugs: real mistakes, one line each, that prove that the checks of this program bite. They are compiled in by
//! a feature of their own (`bug-skip-vote-sync`, ...), or all together by `planted`, and then `CHORUS_PLANTED` names the
//! one to make. Without these features each place is the constant `false`.

/// Whether the named mistake is to be made here.
macro_rules! planted {
    ($name:literal) => {
        cfg!(feature = "planted") && $crate::world::planted::is(const { $crate::world::planted::known($name) })
    };
}

pub(crate) use planted;

/// A mistake: its name, whether it alone was compiled in, and what it is.
struct Bug {
    name: &'static str,
    alone: bool,
    what: &'static str,
}

macro_rules! bugs {
    ($($name:literal $feature:literal $what:literal)*) => {
        const NAMES: &[&str] = &[$($name),*];
        const BUGS: &[Bug] = &[$(Bug { name: $name, alone: cfg!(feature = $feature), what: $what }),*];
    };
}

bugs! {
    "skip-vote-sync" "bug-skip-vote-sync" "a vote is answered before it is durable"
    "ack-before-sync" "bug-ack-before-sync" "log entries are acknowledged before they are durable"
    "torn-frame" "bug-torn-frame" "a frame of the log whose payload is torn is taken"
    "skip-checksum" "bug-skip-checksum" "the checksum of a stored record is not looked at"
    "read-without-quorum" "bug-read-without-quorum" "a leader answers a read index without asking a quorum"
    "removed-member-counts" "bug-removed-member-counts" "a removed member stays in the membership"
    "forward-twice" "bug-forward-twice" "a follower sends a batch to the leader twice"
    "snapshot-misses-end" "bug-snapshot-misses-end" "a snapshot is installed without what was written last"
    "stale-step" "bug-stale-step" "a step in the background goes on after a snapshot replaced the state"
    "unlink-held" "bug-unlink-held" "a segment is removed while a snapshot is made of it"
    "forget-applied" "bug-forget-applied" "the applied position is not brought back with the data"
    "lost-update" "bug-lost-update" "a compare of mod revisions holds whatever they are"
    "delete-leaves-one" "bug-delete-leaves-one" "deleting a range leaves its first key"
    "wrong-prev-kv" "bug-wrong-prev-kv" "an event tells the value before the previous one"
    "compact-drops-live" "bug-compact-drops-live" "a compaction drops keys that live"
    "lease-stays" "bug-lease-stays" "a key that is put again stays with its old lease"
    "auth-unchecked" "bug-auth-unchecked" "a write is not checked again when it is applied"
    "watch-drops" "bug-watch-drops" "a watcher that caught up loses the next event"
    "watch-repeats" "bug-watch-repeats" "a watcher that caught up gets its last event again"
    "watch-reorders" "bug-watch-reorders" "events that happened together come in reverse"
    "progress-early" "bug-progress-early" "progress is told to a watcher that is behind"
    "renew-expired" "bug-renew-expired" "a lease that has ended is renewed"
    "two-lessors" "bug-two-lessors" "a former leader goes on to end leases"
    "stale-cache" "bug-stale-cache" "a watch cache answers before it is fresh enough"
    "double-bind" "bug-double-bind" "a pod that has a node is given another one"
    "dead-endpoints" "bug-dead-endpoints" "endpoints keep pods that are not ready"
    "counts-terminating" "bug-counts-terminating" "pods that are being deleted count as replicas"
    "orphan-pod" "bug-orphan-pod" "pods stay when their owner is gone"
}

/// The name of a place in the code; one that is not in the table does not compile.
pub const fn known(name: &'static str) -> &'static str {
    assert!(crate::world::names::listed(NAMES, name), "no planted bug has this name");
    name
}

/// The mistake that this process makes.
static CHOSEN: std::sync::LazyLock<Option<&'static str>> = std::sync::LazyLock::new(|| {
    let given = std::env::var("CHORUS_PLANTED").unwrap_or_default();
    if given.is_empty() {
        return BUGS.iter().find(|bug| bug.alone).map(|bug| bug.name);
    }
    let found = BUGS.iter().find(|bug| bug.name == given).map(|bug| bug.name);
    Some(found.unwrap_or_else(|| end(&given)))
});

#[allow(clippy::print_stderr, reason = "a name that is not in the table ends a process that only tests start")]
fn end(given: &str) -> ! {
    eprintln!("CHORUS_PLANTED: there is no {given:?}; there are:");
    BUGS.iter().for_each(|bug| eprintln!("  {:<24} {}", bug.name, bug.what));
    std::process::exit(2)
}

/// Whether `name` is the mistake that this process makes.
pub fn is(name: &'static str) -> bool {
    *CHOSEN == Some(name)
}
