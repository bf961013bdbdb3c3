//! Checks of requests that need no state, made before a request is proposed or read. Pure.
//!
//! The duplicate rule is static: it looks at both branches of a transaction, at every level of nesting.

use std::collections::BTreeMap;

use bytes::Bytes;
use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::request_op::Request;
use prost::Message;

use super::Error;
use super::range::KeyRange;

/// The longest lifetime of a lease, in seconds.
const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// Transactions may be nested this deep.
const DEPTH_MAX: usize = 32;

/// Checks a command, whichever member proposed it: this member's own commands have passed narrower checks, those of
/// other members may not have. A command that fails must not be applied, whatever the state is.
pub fn command(command: &pb::InternalRaftRequest) -> Result<(), Error> {
    match command {
        pb::InternalRaftRequest { put: Some(request), .. } => put(request),
        pb::InternalRaftRequest { txn: Some(request), .. } => txn(request, usize::MAX),
        pb::InternalRaftRequest { delete_range: Some(request), .. } => delete_range(request),
        pb::InternalRaftRequest { lease_grant: Some(request), .. } => lease_grant(request),
        _ if is_unknown(command) => Err(Error::unknown_command()),
        _ => Ok(()),
    }
}

/// It has no request that this release knows.
fn is_unknown(command: &pb::InternalRaftRequest) -> bool {
    let pb::InternalRaftRequest { header, id, .. } = command;
    *command == pb::InternalRaftRequest { header: header.clone(), id: *id, ..Default::default() }
}

/// The same of a marshalled command; the error is a reason.
pub fn marshalled(command: &Bytes) -> Result<(), String> {
    let decoded = pb::InternalRaftRequest::decode(command.clone()).map_err(|error| error.to_string())?;
    self::command(&decoded).map_err(|error| error.to_string())
}

pub fn range(request: &pb::RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = pb::range_request::SortOrder::try_from(request.sort_order).is_ok()
        && pb::range_request::SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(Error::InvalidSortOption) }
}

pub fn put(request: &pb::PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

pub fn lease_grant(request: &pb::LeaseGrantRequest) -> Result<(), Error> {
    if request.ttl > LEASE_TTL_MAX { Err(Error::LeaseTtlTooLarge) } else { Ok(()) }
}

/// Checks a transaction whose branches and compares may each have up to `ops_max` operations.
pub fn txn(request: &pb::TxnRequest, ops_max: usize) -> Result<(), Error> {
    shape(request, ops_max, DEPTH_MAX)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

fn shape(request: &pb::TxnRequest, ops_max: usize, depth: usize) -> Result<(), Error> {
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    if most > ops_max || depth == 0 {
        return Err(Error::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => shape(request, ops_max - most, depth - 1)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that one branch puts, and the ranges that it deletes.
#[derive(Default)]
struct Changes {
    /// With whether the put keeps what the key has, and so needs it to be there.
    puts: BTreeMap<Bytes, bool>,
    deletes: Vec<KeyRange>,
}

impl Changes {
    /// For etcd's check a range without an end ends before it begins, and so overlaps nothing. With a put that needs
    /// the key, etcd would crash when it applies the transaction: it is refused here.
    fn put(&mut self, key: Bytes, keeps: bool) -> Result<(), Error> {
        let meets = |range: &KeyRange| range.contains(&key) && (keeps || !range.is_unbounded());
        if self.deletes.iter().any(meets) || self.puts.insert(key, keeps).is_some() {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Adds a nested transaction's changes. Its puts may not overlap earlier changes; its deletes may overlap puts of
    /// an earlier nested transaction: etcd does not check that.
    fn nest(&mut self, inner: Changes) -> Result<(), Error> {
        for (key, keeps) in inner.puts {
            self.put(key, keeps)?;
        }
        self.deletes.extend(inner.deletes);
        Ok(())
    }
}

/// As etcd does it: first the deletes of this level, then what is nested, then the puts of this level.
fn changes(ops: &[pb::RequestOp]) -> Result<Changes, Error> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            all.deletes.push(KeyRange::new(request.key.clone(), request.range_end.clone()));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(request)) = &op.request {
            let success = changes(&request.success)?;
            let failure = changes(&request.failure)?;
            all.nest(either(success, failure))?;
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            all.put(request.key.clone(), request.ignore_value || request.ignore_lease)?;
        }
    }
    Ok(all)
}

/// The changes of two branches, one of which runs: the same key may be in both.
fn either(mut one: Changes, other: Changes) -> Changes {
    for (key, keeps) in other.puts {
        *one.puts.entry(key).or_default() |= keeps;
    }
    one.deletes.extend(other.deletes);
    one
}

/// A transaction of ranges alone is a read; a nested transaction makes it a write.
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    let reads = |ops: &[pb::RequestOp]| ops.iter().all(|op| matches!(op.request, Some(Request::RequestRange(_))));
    reads(&request.success) && reads(&request.failure)
}

/// Every range of a read-only transaction may be answered from the local state.
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    let local = |op: &pb::RequestOp| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable);
    request.success.iter().chain(&request.failure).all(local)
}

/// Whether a transaction can make the store grow; it is refused when space runs out.
pub fn has_put(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(request)) => has_put(request),
        _ => false,
    })
}

/// What a lease counts against the quota, in bytes.
pub const LEASE_COST: u64 = 64;

/// What a put counts against the quota besides its key and value.
const PUT_COST: u64 = 256;

/// What a put counts against the quota, in bytes.
pub fn put_cost(request: &pb::PutRequest) -> u64 {
    PUT_COST + (request.key.len() + request.value.len()) as u64
}

/// What a transaction counts against the quota: the cost of its dearer branch.
pub fn txn_cost(request: &pb::TxnRequest) -> u64 {
    let branch = |ops: &[pb::RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(request)) => put_cost(request),
                Some(Request::RequestTxn(request)) => txn_cost(request),
                _ => 0,
            })
            .sum()
    };
    branch(&request.success).max(branch(&request.failure))
}

/// The peer URLs of a member that is added, sorted as its ID needs them.
pub fn peer_urls(mut urls: Vec<String>) -> Result<Vec<String>, Error> {
    urls.iter_mut().for_each(|url| *url = url.trim().to_owned());
    urls.sort();
    match !urls.is_empty() && urls.iter().all(|url| is_peer_url(url)) {
        true => Ok(urls),
        false => Err(Error::MemberBadUrls),
    }
}

/// A scheme, and `host:port` or the name of a socket; no path.
fn is_peer_url(url: &str) -> bool {
    match url.split_once("://") {
        Some(("http" | "https", rest)) => {
            let port = |(_, port): (&str, &str)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            !rest.contains(['/', '?', '#', ' ']) && rest.rsplit_once(':').is_some_and(port)
        }
        Some(("unix" | "unixs", rest)) => !rest.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_hosts_with_ports() {
        let checked = |urls: &[&str]| peer_urls(urls.iter().map(|url| (*url).to_owned()).collect());
        assert_eq!(checked(&["http://b:1 ", "https://a:2"]), Ok(vec!["http://b:1".into(), "https://a:2".into()]));
        assert!(checked(&["unix://localhost:5"]).is_ok());
        let bad =
            [&[][..], &["http://a"], &["a:1"], &["http://a:x"], &["http://a:1/path"], &["ftp://a:1"], &["://a:1"]];
        for urls in bad {
            assert_eq!(checked(urls), Err(Error::MemberBadUrls), "{urls:?}");
        }
    }

    #[test]
    fn a_key_changes_once_in_a_transaction() {
        let op = |request| pb::RequestOp { request: Some(request) };
        let put = |key: &'static str, ignore_value| {
            op(Request::RequestPut(pb::PutRequest { key: key.into(), ignore_value, ..Default::default() }))
        };
        let delete = |key: &'static str, range_end: &'static str| {
            let request = pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
            op(Request::RequestDeleteRange(request))
        };
        let nested = |success: &[pb::RequestOp], failure: &[pb::RequestOp]| {
            let (success, failure) = (success.to_vec(), failure.to_vec());
            op(Request::RequestTxn(pb::TxnRequest { success, failure, ..Default::default() }))
        };
        let cases = [
            (vec![put("a", false), put("a", false)], false),
            (vec![put("b", false), delete("a", "c")], false),
            (vec![put("c", false), delete("a", "c")], true),
            (vec![put("b", false), delete("a", "\0")], true),
            (vec![delete("a", "\0"), put("b", true)], false),
            (vec![nested(&[put("a", false)], &[put("a", false)])], true),
            (vec![nested(&[put("a", false)], &[]), put("a", false)], false),
            (vec![nested(&[put("a", false)], &[]), nested(&[put("a", false)], &[])], false),
            (vec![nested(&[put("a", false)], &[]), nested(&[delete("a", "")], &[])], true),
            (vec![nested(&[delete("a", "")], &[]), nested(&[put("a", false)], &[])], false),
        ];
        for (success, allowed) in cases {
            let request = pb::TxnRequest { success, ..Default::default() };
            let expected = if allowed { Ok(()) } else { Err(Error::DuplicateKey) };
            assert_eq!(txn(&request, 128), expected, "{request:?}");
        }
    }
}
