//! Connections at their bound: idle ones give way, busy ones stay, and who finds no room hears so.

use chorus_proto::etcdserverpb as pb;
use chorus_proto::etcdserverpb::kv_client::KvClient;
use chorus_proto::etcdserverpb::watch_client::WatchClient;
use chorus_proto::etcdserverpb::watch_request::RequestUnion;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::{Member, run};
use crate::world::{Network, Stream};

const CLIENTS_MAX: usize = 4;

async fn member() -> Member {
    Member::start_on(Network::real().bounded(CLIENTS_MAX, 4)).await
}

async fn connect(member: &Member) -> Stream {
    member.world.net.connect(&member.address().to_string()).await.unwrap()
}

fn endpoint(member: &Member) -> Endpoint {
    Channel::from_shared(format!("http://{}", member.address())).unwrap()
}

/// A connection with a watch under way, which ends when all of it is dropped.
async fn busy(member: &Member) -> (Channel, Streaming<pb::WatchResponse>, oneshot::Sender<()>) {
    let channel = endpoint(member).connect().await.unwrap();
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (ends, ended) = oneshot::channel();
    let requests = futures::stream::iter([create])
        .chain(futures::stream::once(ended).filter_map(|_| futures::future::ready(None)));
    let mut responses = WatchClient::new(channel.clone()).watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    (channel, responses, ends)
}

#[test]
fn idle_connections_give_way_however_many_there_are() {
    run(async {
        let member = member().await;
        let watch = busy(&member).await;
        let mut idle = Vec::new();
        for said in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET /version HTTP/1.1\r\n"].iter().cycle().take(60) {
            let mut stream = connect(&member).await;
            stream.write_all(said).await.unwrap();
            idle.push(stream);
        }
        // While those that have to leave are on their way, a connection may be refused.
        let mut client = KvClient::new(endpoint(&member).connect_lazy());
        while client.put(pb::PutRequest { key: "a".into(), ..Default::default() }).await.is_err() {}
        let (mut first, mut rest) = (idle.remove(0), Vec::new());
        first.read_to_end(&mut rest).await.ok();
        let clients = member.world.net.clients();
        assert!(clients.displaced() >= 20 && clients.open() <= CLIENTS_MAX + 16, "{clients:?}");
        drop(watch);
        member.stop().await;
    });
}

#[test]
fn where_every_connection_is_busy_the_next_one_hears_so() {
    run(async {
        let member = member().await;
        let mut watches = Vec::new();
        for _ in 0..CLIENTS_MAX {
            watches.push(busy(&member).await);
        }
        let (mut refused, mut said) = (connect(&member).await, String::new());
        refused.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 503 ") && said.ends_with("\r\n\r\ntoo many connections\n"), "{said}");
        let mut client = KvClient::new(endpoint(&member).connect_lazy());
        assert!(client.range(pb::RangeRequest { key: "a".into(), ..Default::default() }).await.is_err());
        watches.pop();
        while client.range(pb::RangeRequest { key: "a".into(), ..Default::default() }).await.is_err() {}
        assert!(member.world.net.clients().refused() >= 2);
        member.stop().await;
    });
}
