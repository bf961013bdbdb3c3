//! An informer over an API that loses watches and forgets history.

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::*;
use crate::kube::client::fake::Fake;
use crate::world::MemoryDisk;

fn map(name: &str, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name},
           "data": {"v": data}})
}

struct Fixture {
    fake: Fake,
    informer: Informer<ConfigMap>,
    changes: Changes<ConfigMap>,
    shutdown: Shutdown,
}

impl Fixture {
    fn start() -> Fixture {
        let (world, fake, shutdown) = (World::simulated(1, MemoryDisk::default()), Fake::default(), Shutdown::new());
        fake.put("configmaps", map("a", "1"));
        let informer = Informer::of(&fake.client().api::<ConfigMap>()).start(&world, &shutdown);
        let changes = informer.changes();
        Fixture { fake, informer, changes, shutdown }
    }

    /// The next change, as `+a=1`, `a=1>2` or `-a`.
    async fn next(&mut self) -> String {
        let limit = std::time::Duration::from_secs(600);
        let change = tokio::time::timeout(limit, self.changes.next()).await.expect("a change was due").unwrap();
        let told = |map: &ConfigMap| map.data.as_ref().unwrap()["v"].clone();
        let name = change.object().metadata.name.clone().unwrap();
        match change {
            Change::Added(new) => format!("+{name}={}", told(&new)),
            Change::Updated { old, new } => format!("{name}={}>{}", told(&old), told(&new)),
            Change::Deleted(_) => format!("-{name}"),
        }
    }
}

fn key(name: &str) -> Key {
    Key::new("default", name)
}

#[tokio::test(start_paused = true)]
async fn changes_arrive_in_order_and_the_cache_holds_them() {
    LocalSet::new()
        .run_until(async {
            let mut f = Fixture::start();
            assert_eq!(f.next().await, "+a=1");
            f.informer.synced().await;
            f.fake.put("configmaps", map("b", "1"));
            f.fake.put("configmaps", map("a", "2"));
            assert_eq!((f.next().await, f.next().await), ("+b=1".into(), "a=1>2".into()));
            f.fake.remove("configmaps", &key("b"));
            assert_eq!(f.next().await, "-b");
            assert_eq!(f.informer.keys(), [key("a")]);
            f.shutdown.begin();
            assert!(f.changes.next().await.is_none());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_synced_once_it_has_read_what_there_was() {
    LocalSet::new()
        .run_until(async {
            let mut f = Fixture::start();
            let mut synced = f.changes.synced().boxed_local();
            f.informer.synced().await;
            assert!((&mut synced).now_or_never().is_none(), "nothing was read yet");
            assert_eq!(f.next().await, "+a=1");
            assert!(f.changes.next().now_or_never().is_none(), "there is no more");
            synced.await;
            let mut late = f.informer.changes();
            let synced = late.synced();
            assert!(late.next().await.is_some() && late.next().now_or_never().is_none());
            synced.await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_watch_goes_on_where_it_was() {
    LocalSet::new()
        .run_until(async {
            let mut f = Fixture::start();
            assert_eq!(f.next().await, "+a=1");
            f.fake.until(|fake| fake.calls().iter().any(|call| call.starts_with("watch"))).await;
            f.fake.cut_watches();
            f.fake.put("configmaps", map("a", "2"));
            assert_eq!(f.next().await, "a=1>2");
            let lists = f.fake.calls().iter().filter(|call| call.starts_with("list")).count();
            assert_eq!(lists, 1, "nothing was listed again");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again_and_tells_what_differs() {
    LocalSet::new()
        .run_until(async {
            let mut f = Fixture::start();
            assert_eq!(f.next().await, "+a=1");
            f.fake.put("configmaps", map("b", "1"));
            assert_eq!(f.next().await, "+b=1");
            f.fake.cut_watches();
            f.fake.remove("configmaps", &key("a"));
            f.fake.put("configmaps", map("b", "2"));
            f.fake.put("configmaps", map("c", "1"));
            f.fake.compact();
            let told = [f.next().await, f.next().await, f.next().await];
            assert_eq!(told, ["-a", "b=1>2", "+c=1"]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_away_is_tried_until_it_is_back() {
    LocalSet::new()
        .run_until(async {
            let mut f = Fixture::start();
            f.fake.fail((0..20).map(|_| Status::service_unavailable("not yet")));
            assert_eq!(f.next().await, "+a=1");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_hears_the_last_of_each_object() {
    LocalSet::new()
        .run_until(async {
            let mut f = Fixture::start();
            f.informer.synced().await;
            for version in 2..50 {
                f.fake.put("configmaps", map("a", &version.to_string()));
            }
            f.fake.put("configmaps", map("b", "1"));
            f.fake.remove("configmaps", &key("b"));
            f.fake.put("configmaps", map("c", "1"));
            f.informer.reached(&ObjectMeta { resource_version: Some("52".into()), ..ObjectMeta::default() }).await;
            assert_eq!((f.next().await, f.next().await), ("+a=49".into(), "+c=1".into()));
        })
        .await;
}
