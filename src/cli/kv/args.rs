//! Keys and their options, as requests.

use anyhow::bail;
use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use clap::ValueEnum;

/// A key, a range of keys `[key, range_end)`, or all keys with a prefix.
#[derive(clap::Args, Debug, Default)]
pub(super) struct Keys {
    /// The key, or the first key of a range.
    pub key: String,
    /// The key after the last one of the range.
    pub range_end: Option<String>,
    /// All keys that begin with KEY.
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// All keys from KEY on.
    #[arg(long)]
    pub from_key: bool,
}

/// Stands for "every key from here on" as an end, and for "the first key" as a beginning.
const ZERO: &[u8] = b"\0";

impl Keys {
    /// The key and the end of the range, as requests carry them.
    pub fn bounds(&self) -> anyhow::Result<(Bytes, Bytes)> {
        if self.range_end.is_some() && (self.prefix || self.from_key) {
            bail!("give either a range end or --prefix or --from-key, not both");
        }
        let key = Bytes::copy_from_slice(self.key.as_bytes());
        let or_first = |key: &Bytes| if key.is_empty() { Bytes::from_static(ZERO) } else { key.clone() };
        Ok(match &self.range_end {
            Some(end) => (key, Bytes::copy_from_slice(end.as_bytes())),
            None if self.prefix => (or_first(&key), prefix_end(&key)),
            None if self.from_key => (or_first(&key), Bytes::from_static(ZERO)),
            None => (key, Bytes::new()),
        })
    }
}

/// The smallest key that is greater than every key with `prefix`.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte < u8::MAX) else { return Bytes::from_static(ZERO) };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

#[derive(clap::Args, Debug, Default)]
pub(super) struct Get {
    #[command(flatten)]
    keys: Keys,
    /// As of this revision; 0 means now.
    #[arg(long, default_value_t = 0)]
    rev: i64,
    /// At most so many keys; 0 means all.
    #[arg(long, default_value_t = 0)]
    limit: i64,
    #[arg(long, value_enum, ignore_case = true)]
    order: Option<Order>,
    #[arg(long, value_enum, ignore_case = true)]
    sort_by: Option<SortBy>,
    /// `l` (linearizable) asks a quorum; `s` (serializable) asks one member, whose state may be older.
    #[arg(long, value_enum, default_value_t = Consistency::L)]
    consistency: Consistency,
    #[arg(long)]
    pub keys_only: bool,
    #[arg(long)]
    pub count_only: bool,
    #[arg(long)]
    pub print_value_only: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
#[value(rename_all = "UPPER")]
enum Order {
    Ascend,
    Descend,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
#[value(rename_all = "UPPER")]
enum SortBy {
    Create,
    Key,
    Modify,
    Value,
    Version,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Consistency {
    #[default]
    L,
    S,
}

impl Get {
    pub fn request(&self) -> anyhow::Result<pb::RangeRequest> {
        let (key, range_end) = self.keys.bounds()?;
        let target = match self.sort_by {
            None | Some(SortBy::Key) => SortTarget::Key,
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
            Some(SortBy::Version) => SortTarget::Version,
        };
        let order = match self.order {
            None => SortOrder::None,
            Some(Order::Ascend) => SortOrder::Ascend,
            Some(Order::Descend) => SortOrder::Descend,
        };
        Ok(pb::RangeRequest {
            key,
            range_end,
            revision: self.rev,
            limit: self.limit,
            sort_order: order as i32,
            sort_target: target as i32,
            serializable: self.consistency == Consistency::S,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..Default::default()
        })
    }
}

#[derive(clap::Args, Debug)]
pub(super) struct Put {
    key: String,
    /// Read from standard input if it is not given.
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// The lease to attach, in hexadecimal.
    #[arg(long, value_parser = lease_id)]
    lease: Option<i64>,
    /// Show the previous key and value.
    #[arg(long)]
    prev_kv: bool,
    /// Keep the present value, for example to change only the lease.
    #[arg(long)]
    ignore_value: bool,
    /// Keep the present lease.
    #[arg(long)]
    ignore_lease: bool,
}

impl Put {
    /// `read` gives the value when it is not among the arguments.
    pub fn request(&self, read: impl FnOnce() -> anyhow::Result<Vec<u8>>) -> anyhow::Result<pb::PutRequest> {
        let value = match &self.value {
            Some(value) => Bytes::copy_from_slice(value.as_bytes()),
            None if self.ignore_value => Bytes::new(),
            None => read()?.into(),
        };
        Ok(pb::PutRequest {
            key: Bytes::copy_from_slice(self.key.as_bytes()),
            value,
            lease: self.lease.unwrap_or_default(),
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

#[derive(clap::Args, Debug, Default)]
pub(super) struct Del {
    #[command(flatten)]
    keys: Keys,
    /// Show what was deleted.
    #[arg(long)]
    prev_kv: bool,
}

impl Del {
    pub fn request(&self) -> anyhow::Result<pb::DeleteRangeRequest> {
        let (key, range_end) = self.keys.bounds()?;
        Ok(pb::DeleteRangeRequest { key, range_end, prev_kv: self.prev_kv })
    }
}

/// Leases are written in hexadecimal.
pub(super) fn lease_id(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|_| "a lease is a hexadecimal number, as `lease grant` prints it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(key: &str, prefix: bool, from_key: bool) -> (Bytes, Bytes) {
        Keys { key: key.into(), range_end: None, prefix, from_key }.bounds().unwrap()
    }

    #[test]
    fn prefixes_end_before_the_next_key_without_them() {
        assert_eq!(bounds("ab", true, false), ("ab".into(), "ac".into()));
        assert_eq!(bounds("", true, false), ("\0".into(), "\0".into()));
        assert_eq!(bounds("a", false, true), ("a".into(), "\0".into()));
        assert_eq!(bounds("a", false, false), ("a".into(), "".into()));
        assert_eq!(prefix_end(b"a\xff\xff"), &b"b"[..]);
        assert_eq!(prefix_end(b"\xff"), &b"\0"[..]);
    }

    #[test]
    fn a_range_end_and_a_prefix_exclude_each_other() {
        let keys = Keys { key: "a".into(), range_end: Some("b".into()), prefix: true, from_key: false };
        assert!(keys.bounds().is_err());
    }
}
