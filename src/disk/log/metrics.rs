//! What the log counts, under etcd's names.

use crate::actor::metrics::{Counter, Exposition, Histogram, Source};

/// Counters of one log.
#[derive(Debug)]
pub struct Metrics {
    pub sync: Histogram,
    pub write: Histogram,
    pub bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            sync: Histogram::doubling(0.001, 14),
            write: Histogram::doubling(0.001, 14),
            bytes: Counter::default(),
        }
    }
}

impl Source for Metrics {
    fn expose(&self, text: &mut Exposition) {
        let (name, help) = ("etcd_disk_wal_fsync_duration_seconds", "Time to make the log durable.");
        text.histogram(name, help, &self.sync);
        text.histogram("etcd_disk_wal_write_duration_seconds", "Time to write to the log's file.", &self.write);
        text.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.", self.bytes.get());
    }
}
