//! Users on a whole member: who gets in, what they may do, and what a restart brings back.

use std::time::Duration;

use chorus_proto::authpb::permission::Type;
use chorus_proto::authpb::{Permission, UserAddOptions};
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use futures::StreamExt;

use super::single::{run, start};
use super::*;
use crate::store::Local;
use crate::store::client::{Caller, Client, Transport};

fn add_user(name: &str, password: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest { name: name.into(), password: password.into(), ..Default::default() }
}

fn grant(user: &str, role: &str) -> pb::AuthUserGrantRoleRequest {
    pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() }
}

fn permit(role: &str, kind: Type, key: &str, range_end: &str) -> pb::AuthRoleGrantPermissionRequest {
    let perm = Permission { perm_type: kind as i32, key: bytes(key), range_end: bytes(range_end) };
    pb::AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) }
}

/// Root, and Alice, who reads a..c and writes b..d.
async fn prepare(store: &Local) {
    store.user_add(add_user("root", "secret")).await.unwrap();
    store.user_grant_role(grant("root", "root")).await.unwrap();
    store.role_add(pb::AuthRoleAddRequest { name: "r".into() }).await.unwrap();
    store.role_grant_permission(permit("r", Type::Read, "a", "c")).await.unwrap();
    store.role_grant_permission(permit("r", Type::Write, "b", "d")).await.unwrap();
    store.user_add(add_user("alice", "wonder")).await.unwrap();
    store.user_grant_role(grant("alice", "r")).await.unwrap();
    let options = Some(UserAddOptions { no_password: true });
    store.user_add(pb::AuthUserAddRequest { name: "cert".into(), options, ..Default::default() }).await.unwrap();
    store.user_grant_role(grant("cert", "r")).await.unwrap();
    store.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
}

fn anonymous(store: &Local) -> Client {
    store.on_behalf(Caller::ANONYMOUS)
}

fn with(store: &Local, token: String) -> Client {
    store.on_behalf(Caller::Client { token: Some(token), common_name: None })
}

async fn token(store: &Local, name: &str, password: &str) -> Result<String, Error> {
    let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
    Ok(anonymous(store).authenticate(request).await?.token)
}

fn get(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

/// What the first response to a watch says of it.
async fn watched(client: &Client, key: &str, range_end: &str) -> (bool, String) {
    let request = pb::WatchCreateRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
    let requests = futures::stream::iter([create]).chain(futures::stream::pending()).boxed();
    let response = client.watch(requests).await.unwrap().next().await.unwrap().unwrap();
    assert!(response.created);
    assert_eq!(response.watch_id, if response.canceled { -1 } else { 0 });
    (response.canceled, response.cancel_reason)
}

#[test]
fn a_user_may_what_their_roles_may() {
    run(1, || async {
        let (store, ..) = start(&MemoryDisk::new(), 1).await;
        assert!(!store.authenticates());
        anonymous(&store).put(put("x", "before")).await.unwrap();
        prepare(&store).await;
        assert!(store.authenticates());

        for (name, password, error) in [
            ("alice", "wrong", Error::AuthFailed),
            ("alice", "", Error::AuthFailed),
            ("nobody", "wonder", Error::AuthFailed),
            ("cert", "wonder", Error::NoPasswordUser),
        ] {
            assert_eq!(token(&store, name, password).await, Err(error), "{name}");
        }
        let nobody = anonymous(&store);
        assert_eq!(nobody.put(put("b", "1")).await.unwrap_err(), Error::UserEmpty);
        assert_eq!(nobody.range(get("b", "")).await.unwrap_err(), Error::UserEmpty);
        assert_eq!(nobody.status(Default::default()).await.unwrap_err(), Error::UserEmpty);
        let stranger = with(&store, "abcdefghijklmnop.1".into());
        assert_eq!(stranger.range(get("b", "")).await.unwrap_err(), Error::InvalidAuthToken);

        let common_name = Some("cert".into());
        let named = store.on_behalf(Caller::Client { token: None, common_name });
        let alice = with(&store, token(&store, "alice", "wonder").await.unwrap());
        for user in [&alice, &named] {
            user.put(put("b", "1")).await.unwrap();
            assert_eq!(user.put(put("x", "1")).await.unwrap_err(), Error::PermissionDenied);
            assert_eq!(user.range(get("a", "c")).await.unwrap().count, 1);
            assert_eq!(user.range(get("a", "d")).await.unwrap_err(), Error::PermissionDenied);
            let read = |key| pb::RequestOp { request: Some(Request::RequestRange(get(key, ""))) };
            let txn = |key| pb::TxnRequest { failure: vec![read(key)], ..Default::default() };
            user.txn(txn("a")).await.unwrap();
            assert_eq!(user.txn(txn("x")).await.unwrap_err(), Error::PermissionDenied);
            assert_eq!(user.compact(Default::default()).await.unwrap_err(), Error::PermissionDenied);
            assert_eq!(user.hash_kv(Default::default()).await.unwrap_err(), Error::PermissionDenied);
            assert_eq!(user.snapshot().await.err(), Some(Error::PermissionDenied));
            assert_eq!(user.user_list(Default::default()).await.unwrap_err(), Error::PermissionDenied);
            assert_eq!(user.role_add(Default::default()).await.unwrap_err(), Error::PermissionDenied);
            user.status(Default::default()).await.unwrap();
            user.member_list(Default::default()).await.unwrap();
        }
        let root = with(&store, token(&store, "root", "secret").await.unwrap());
        assert_eq!(root.range(get("\0", "\0")).await.unwrap().count, 2);
        assert_eq!(root.user_list(Default::default()).await.unwrap().users, ["alice", "cert", "root"]);
        store.put(put("z", "the process itself may do everything")).await.unwrap();
    });
}

#[test]
fn a_write_is_judged_again_by_the_users_at_its_place_in_the_log() {
    let mut member = Member::new(3);
    let user = pb::AuthUserAddRequest { name: "root".into(), hashed_password: "hash".into(), ..Default::default() };
    let role = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    let prepared = member.apply_all(vec![
        pb::InternalRaftRequest { auth_user_add: Some(user), ..Default::default() },
        pb::InternalRaftRequest { auth_user_grant_role: Some(role), ..Default::default() },
        pb::InternalRaftRequest { auth_enable: Some(Default::default()), ..Default::default() },
    ]);
    assert!(prepared.iter().all(Result::is_ok), "{prepared:?}");
    assert_eq!(member.put(put("a", "1")).unwrap_err(), Error::UserEmpty, "it was proposed before there were users");
}

#[test]
fn a_watch_is_checked_on_the_range_that_was_asked_for() {
    run(2, || async {
        let (store, ..) = start(&MemoryDisk::new(), 2).await;
        prepare(&store).await;
        let alice = with(&store, token(&store, "alice", "wonder").await.unwrap());
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        for (key, range_end, reason) in [
            ("a", "", ""),
            ("a", "c", ""),
            ("a", "\0", denied),
            ("a", "d", denied),
            ("", "\0", denied),
            ("", "", denied),
        ] {
            assert_eq!(
                watched(&alice, key, range_end).await,
                (!reason.is_empty(), reason.into()),
                "{key}..{range_end}"
            );
        }
        let empty = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
        assert_eq!(watched(&anonymous(&store), "a", "").await, (true, empty.into()));
        let invalid = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
        assert_eq!(watched(&with(&store, "x.1".into()), "a", "").await, (true, invalid.into()));
    });
}

#[test]
fn a_lease_is_for_those_who_may_touch_its_keys() {
    run(3, || async {
        let (store, ..) = start(&MemoryDisk::new(), 3).await;
        prepare(&store).await;
        for (id, key) in [(1, "b"), (2, "x")] {
            store.lease_grant(pb::LeaseGrantRequest { id, ttl: 600 }).await.unwrap();
            store.put(pb::PutRequest { lease: id, ..put(key, "1") }).await.unwrap();
        }
        let alice = with(&store, token(&store, "alice", "wonder").await.unwrap());
        let keep = |id| alice.lease_keep_alive(pb::LeaseKeepAliveRequest { id });
        let look = |id, keys| alice.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys });
        assert_eq!(keep(1).await.unwrap().ttl, 600);
        assert_eq!(keep(2).await.unwrap_err(), Error::PermissionDenied);
        assert_eq!(keep(3).await.unwrap().ttl, 0);
        assert_eq!(look(1, true).await.unwrap().keys, ["b"]);
        assert_eq!(look(2, true).await.unwrap_err(), Error::PermissionDenied);
        assert_eq!(look(2, false).await.unwrap().granted_ttl, 600);
        assert_eq!(alice.lease_leases(Default::default()).await.unwrap_err(), Error::PermissionDenied);
        let revoke = |id| alice.lease_revoke(pb::LeaseRevokeRequest { id });
        assert_eq!(revoke(2).await.unwrap_err(), Error::PermissionDenied);
        let attached = alice.put(pb::PutRequest { lease: 2, ..put("b", "2") }).await;
        assert_eq!(attached.unwrap_err(), Error::PermissionDenied);
        revoke(1).await.unwrap();
        let nobody = anonymous(&store);
        assert_eq!(nobody.lease_grant(Default::default()).await.unwrap_err(), Error::UserEmpty);
        assert_eq!(nobody.lease_keep_alive(Default::default()).await.unwrap_err(), Error::UserEmpty);
    });
}

#[test]
fn a_token_ends_with_its_user_its_password_and_its_time() {
    run(4, || async {
        let (store, world, ..) = start(&MemoryDisk::new(), 4).await;
        prepare(&store).await;
        let alice = with(&store, token(&store, "alice", "wonder").await.unwrap());
        alice.range(get("a", "")).await.unwrap();
        let change =
            pb::AuthUserChangePasswordRequest { name: "alice".into(), password: "new".into(), ..Default::default() };
        store.user_change_password(change).await.unwrap();
        assert_eq!(alice.range(get("a", "")).await.unwrap_err(), Error::InvalidAuthToken);
        assert_eq!(token(&store, "alice", "wonder").await, Err(Error::AuthFailed));

        let alice = with(&store, token(&store, "alice", "new").await.unwrap());
        alice.range(get("a", "")).await.unwrap();
        world.clock.sleep(Duration::from_secs(301)).await;
        assert_eq!(alice.range(get("a", "")).await.unwrap_err(), Error::InvalidAuthToken);

        let alice = with(&store, token(&store, "alice", "new").await.unwrap());
        store.user_delete(pb::AuthUserDeleteRequest { name: "alice".into() }).await.unwrap();
        assert_eq!(alice.range(get("a", "")).await.unwrap_err(), Error::InvalidAuthToken);
        let common_name = Some("alice".into());
        let named = store.on_behalf(Caller::Client { token: None, common_name });
        assert_eq!(named.range(get("a", "")).await.unwrap_err(), Error::PermissionDenied);

        let root = with(&store, token(&store, "root", "secret").await.unwrap());
        root.auth_disable(pb::AuthDisableRequest {}).await.unwrap();
        anonymous(&store).range(get("\0", "\0")).await.unwrap();
        assert_eq!(token(&store, "root", "secret").await, Err(Error::AuthNotEnabled));
    });
}

#[test]
fn a_restart_brings_back_users_from_segments_or_from_the_index() {
    for with_checkpoint in [false, true] {
        let mut member = Member::new(1);
        let add = |name: &str| pb::AuthUserAddRequest { name: name.into(), ..Default::default() };
        for command in [
            pb::InternalRaftRequest { auth_user_add: Some(add("root")), ..Default::default() },
            pb::InternalRaftRequest { auth_user_grant_role: Some(grant("root", "root")), ..Default::default() },
            pb::InternalRaftRequest {
                auth_role_add: Some(pb::AuthRoleAddRequest { name: "r".into() }),
                ..Default::default()
            },
            pb::InternalRaftRequest {
                auth_role_grant_permission: Some(permit("r", Type::Read, "a", "c")),
                ..Default::default()
            },
            pb::InternalRaftRequest { auth_enable: Some(Default::default()), ..Default::default() },
        ] {
            member.apply_all(vec![command]).pop().unwrap().unwrap();
        }
        if with_checkpoint {
            member.checkpoint();
        }
        let before = member.state().view().state.auth.clone();
        assert_eq!((before.enabled, before.revision), (true, 5));
        let member = member.restart();
        assert_eq!(member.state().view().state.auth, before);
        assert!(member.state().authenticates());
    }
}
