//! A client that holds a key by a lease: it keeps the lease alive for a while, and then ends it, or forgets it.

use std::time::Duration;

use chorus::store::Error;
use chorus::store::client::Client;
use chorus::world::LeaseId;
use chorus_proto::etcdserverpb as pb;
use pb::request_op::Request;

use super::Station;
use super::keys::call;

/// Below it lies what is held by leases.
pub const HELD: &str = "held/";

pub async fn run(station: Station) {
    while !station.history.is_over() {
        let store = station.connect();
        if let Err(error) = hold(&station, &store).await {
            station.history.note(format_args!("c{} lease: {error}", station.number));
        }
        station.rest().await;
    }
}

async fn hold(station: &Station, store: &Client) -> Result<(), Error> {
    let Station { world, history, number, .. } = station;
    let ttl = world.random.within(1..5) as i64;
    let asked = history.now();
    let granted = store.lease_grant(pb::LeaseGrantRequest { ttl, id: 0 }).await?;
    let (id, life) = (LeaseId(granted.id), Duration::from_secs(granted.ttl as u64));
    history.note(format_args!("c{number} lease {} for {life:?}", granted.id));
    history.lives(id, asked + life);
    // The value tells the lease, so that no other write has it.
    let put = pb::PutRequest {
        key: format!("{HELD}{number}-{}", world.random.within(0..3)).into(),
        value: format!("lease-{}", granted.id).into(),
        lease: granted.id,
        ..Default::default()
    };
    call(station, store, Request::RequestPut(put)).await;
    for _ in 0..world.random.within(0..12) {
        world.clock.sleep(life / 3).await;
        if history.is_over() {
            break;
        }
        let asked = history.now();
        let answer = store.lease_keep_alive(pb::LeaseKeepAliveRequest { id: granted.id }).await?;
        if answer.ttl <= 0 {
            history.note(format_args!("c{number} lease {} is over", granted.id));
            return Ok(());
        }
        history.lives(id, asked + Duration::from_secs(answer.ttl as u64));
        history.count("leases kept alive");
    }
    if world.random.within(0..3) == 0 {
        history.revokes(id);
        store.lease_revoke(pb::LeaseRevokeRequest { id: granted.id }).await?;
        history.count("leases revoked");
    }
    Ok(())
}
