//! How many bytes events take in memory.

use chorus_proto::mvccpb::{Event, KeyValue};

/// About how many bytes an event takes in memory.
pub fn weight(event: &Event) -> usize {
    let kv = |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
    64 + kv(&event.kv) + kv(&event.prev_kv)
}
