//! The names under which the store's counters are read.

use std::sync::{Arc, PoisonError};

use super::{Kind, Metrics, Promotions};
use crate::actor::metrics::{Exposition, Histogram, Source};
use crate::store::member_state::MemberState;

/// A store's metrics, with those that come from its newest view.
pub struct Exposed(pub Arc<MemberState>);

impl Source for Exposed {
    fn expose(&self, text: &mut Exposition) {
        let metrics = &self.0.metrics;
        state(text, &self.0);
        keys(text, metrics);
        requests(text, metrics);
        leases(text, metrics);
        watches(text, metrics);
        bounds(text, &self.0);
        compactions(text, metrics);
        disk(text, metrics);
        absent(text);
    }
}

fn state(text: &mut Exposition, member: &MemberState) {
    let view = member.view();
    let index = &view.state.index;
    text.gauge("etcd_debugging_mvcc_current_revision", "The newest revision.", index.revision);
    text.gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction.", index.compacted);
    text.gauge("etcd_debugging_auth_revision", "The revision of users and roles.", view.state.auth.revision);
}

fn keys(text: &mut Exposition, metrics: &Metrics) {
    let keys = &metrics.keys;
    text.gauge("etcd_debugging_mvcc_keys_total", "Keys that exist.", keys.live.get());
    text.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.", keys.put_bytes.get());
    for (name, help, counter) in [
        ("etcd_mvcc_put_total", "Puts on this member.", &keys.puts),
        ("etcd_mvcc_delete_total", "Deletes on this member.", &keys.deletes),
        ("etcd_mvcc_range_total", "Ranges on this member.", &keys.ranges),
        ("etcd_mvcc_txn_total", "Transactions of several operations on this member.", &keys.txns),
    ] {
        text.counter(name, help, counter.get());
    }
}

fn requests(text: &mut Exposition, metrics: &Metrics) {
    let name = "etcd_server_apply_duration_seconds";
    text.family(name, "histogram", "Time to apply one request, by its kind.");
    by_kind(text, &metrics.applied, |text, kind, success, took| {
        text.buckets(name, &[("op", kind), ("success", success), ("version", "v3")], took);
    });
    let name = "etcd_server_request_duration_seconds";
    text.family(name, "histogram", "Time until a request is answered, by its kind.");
    by_kind(text, &metrics.requests, |text, kind, success, took| {
        text.buckets(name, &[("success", success), ("type", kind)], took);
    });
    let name = "etcd_server_range_duration_seconds";
    text.family(name, "histogram", "Time to read a range.");
    for (took, success) in metrics.ranges.iter().zip(["false", "true"]) {
        text.buckets(name, &[("success", success)], took);
    }
    for (name, help, counter) in [
        ("etcd_server_slow_apply_total", "Requests that took long to apply.", &metrics.slow_applies),
        ("etcd_server_proposals_failed_total", "Proposals without a known outcome.", &metrics.proposals_failed),
        ("etcd_server_read_indexes_failed_total", "Linearizable reads refused.", &metrics.read_indexes_failed),
        ("etcd_server_slow_read_indexes_total", "Linearizable reads that timed out.", &metrics.read_indexes_slow),
        ("etcd_server_leader_changes_seen_total", "Leaders that this member has seen come.", &metrics.leader_changes),
    ] {
        text.counter(name, help, counter.get());
    }
    text.gauge("etcd_server_proposals_pending", "Proposals under way.", metrics.proposals_pending.get());
    promotions(text, &metrics.promotions);
}

fn promotions(text: &mut Exposition, promotions: &Promotions) {
    let name = "etcd_server_learner_promote_successes";
    text.counter(name, "Learners that were promoted by requests to this member.", promotions.succeeded.get());
    let failed = promotions.failed.lock().unwrap_or_else(PoisonError::into_inner);
    // As with every family whose labels are not known beforehand, nothing is shown until there is a sample.
    if !failed.is_empty() {
        let name = "etcd_server_learner_promote_failures";
        text.family(name, "counter", "Requests to this member to promote a learner that failed, by the reason.");
        failed.iter().for_each(|(reason, count)| text.sample(name, &[("Reason", reason)], count));
    }
}

fn by_kind(
    text: &mut Exposition,
    histograms: &[[Histogram; 2]],
    mut show: impl FnMut(&mut Exposition, &str, &str, &Histogram),
) {
    for (kind, both) in Kind::ALL.iter().zip(histograms) {
        for (took, success) in both.iter().zip(["false", "true"]).filter(|(took, _)| took.count() > 0) {
            show(text, kind.name(), success, took);
        }
    }
}

fn leases(text: &mut Exposition, metrics: &Metrics) {
    let leases = &metrics.leases;
    for (name, help, counter) in [
        ("etcd_debugging_lease_granted_total", "Leases granted.", &leases.granted),
        ("etcd_debugging_lease_revoked_total", "Leases revoked.", &leases.revoked),
        ("etcd_debugging_lease_renewed_total", "Leases renewed by this member as leader.", &leases.renewed),
        ("etcd_debugging_server_lease_expired_total", "Leases expired under this member as leader.", &leases.expired),
    ] {
        text.counter(name, help, counter.get());
    }
    text.histogram("etcd_debugging_lease_ttl_total", "Lifetimes of leases in seconds.", &leases.ttl_seconds);
}

fn watches(text: &mut Exposition, metrics: &Metrics) {
    let watches = &metrics.watches;
    for (name, help, gauge) in [
        ("etcd_debugging_mvcc_watch_stream_total", "Watch streams.", &watches.streams),
        ("etcd_debugging_mvcc_watcher_total", "Watchers.", &watches.watchers),
        ("etcd_debugging_mvcc_slow_watcher_total", "Watchers that read the history.", &watches.unsynced),
    ] {
        text.gauge(name, help, gauge.get());
    }
    text.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers.", watches.events.get());
}

/// Metrics that etcd does not have.
fn bounds(text: &mut Exposition, member: &MemberState) {
    let Metrics { watches, bounds, .. } = &member.metrics;
    let gauges = [
        ("chorus_watch_unread_bytes", "Bytes of events that wait for watch streams.", &watches.unread_bytes),
        ("chorus_large_reads_waiting", "Large reads that wait for others to end.", &bounds.large_reads_waiting),
    ];
    gauges.into_iter().for_each(|(name, help, gauge)| text.gauge(name, help, gauge.get()));
    for (name, help, counter) in [
        ("chorus_watch_streams_ended_total", "Watch streams ended because they were not read.", &watches.ended),
        (
            "chorus_watch_feed_overflows_total",
            "How often the watch hub fell behind and read the history.",
            &member.feed.overflows,
        ),
        ("chorus_large_reads_refused_total", "Large reads refused for lack of memory.", &bounds.large_reads_refused),
        ("chorus_snapshots_refused_total", "Snapshots refused: too many were being sent.", &bounds.snapshots_refused),
        ("chorus_large_answers_ended_total", "Large answers ended: they were not read.", &bounds.answers_ended),
        (
            "chorus_passwords_refused_total",
            "Passwords refused: too many waited to be hashed.",
            &bounds.passwords_refused,
        ),
    ] {
        text.counter(name, help, counter.get());
    }
}

fn compactions(text: &mut Exposition, metrics: &Metrics) {
    let compactions = &metrics.compactions;
    let (name, help) = ("etcd_debugging_mvcc_db_compaction_keys_total", "Changes that compactions have freed.");
    text.counter(name, help, compactions.keys.get());
    let (name, help) = ("etcd_debugging_mvcc_db_compaction_last", "Unix time of the last compaction.");
    text.gauge(name, help, compactions.last.get());
    for (name, help, histogram) in [
        ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", "One slice.", &compactions.pause_ms),
        ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", "The whole.", &compactions.total_ms),
    ] {
        text.histogram(name, &format!("Time of compacting: {help}"), histogram);
    }
}

fn disk(text: &mut Exposition, metrics: &Metrics) {
    let disk = &metrics.disk;
    for (name, help, histogram) in [
        ("etcd_disk_backend_commit_duration_seconds", "Making data files durable.", &disk.commit),
        ("etcd_debugging_disk_backend_commit_write_duration_seconds", "Making data files durable.", &disk.commit),
        ("etcd_disk_backend_snapshot_duration_seconds", "Sending the database to a client.", &disk.snapshot),
        ("etcd_disk_backend_defrag_duration_seconds", "Giving back space.", &disk.defragmentation),
        ("etcd_mvcc_hash_duration_seconds", "Checksums of everything.", &disk.hash),
        ("etcd_mvcc_hash_rev_duration_seconds", "Checksums up to a revision.", &disk.hash_revision),
        ("etcd_snap_db_save_total_duration_seconds", "Taking over another member's state.", &disk.install),
    ] {
        text.histogram(name, &format!("Time in seconds: {help}"), histogram);
    }
    text.gauge("etcd_disk_defrag_inflight", "Whether space is being given back.", disk.defragmenting.get());
    let (name, help) =
        ("etcd_server_snapshot_apply_in_progress_total", "Whether another member's state is taken over.");
    text.gauge(name, help, disk.installing.get());
}

/// Metrics of steps that only etcd has: they stay at zero.
fn absent(text: &mut Exposition) {
    for name in [
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
        "etcd_debugging_disk_backend_commit_spill_duration_seconds",
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        "etcd_debugging_snap_save_total_duration_seconds",
        "etcd_snap_db_fsync_duration_seconds",
        "etcd_snap_fsync_duration_seconds",
    ] {
        text.histogram(name, "A step that this store does not have.", &Histogram::doubling(0.001, 14));
    }
    for name in ["etcd_debugging_mvcc_pending_events_total", "etcd_mvcc_db_open_read_transactions"] {
        text.gauge(name, "This store holds back no events, and its readers open nothing.", 0);
    }
    for name in ["etcd_debugging_store_expires_total", "etcd_debugging_store_watch_requests_total"] {
        text.counter(name, "Of the interface before version 3, which is not served.", 0);
    }
    text.gauge("etcd_debugging_store_watchers", "Of the interface before version 3, which is not served.", 0);
}
