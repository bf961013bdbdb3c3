//! The client library of Rust.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::runtime::{WatchStreamExt, watcher};
use libtest_mimic::Failed;
use serde_json::json;

use crate::cluster::{PATIENCE, TestCluster};

pub fn the_kube_crate_works() -> Result<(), Failed> {
    let cluster = TestCluster::start("hollow");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, tell(&cluster)).await })??;
    Ok(())
}

async fn tell(cluster: &TestCluster) -> Result<(), Failed> {
    let kubeconfig = Kubeconfig::read_from(cluster.data_dir().join("kubeconfig"))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let client = kube::Client::try_from(config)?;
    assert_eq!(Api::<Node>::all(client.clone()).list(&ListParams::default()).await?.items.len(), 3);

    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let watched = watcher(maps.clone(), watcher::Config::default().labels("story=told")).applied_objects();
    let mut watched = watched.boxed();
    let map: ConfigMap = serde_json::from_value(json!({
        "metadata": {"name": "story", "labels": {"story": "told"}},
        "data": {"chapter": "1"},
    }))?;
    let created = maps.create(&PostParams::default(), &map).await?;
    let again = maps.create(&PostParams::default(), &map).await.expect_err("it exists already");
    assert!(matches!(again, kube::Error::Api(status) if status.code == 409));
    let patch = Patch::Merge(json!({"data": {"chapter": "2"}}));
    let patched = maps.patch("story", &PatchParams::default(), &patch).await?;
    assert_ne!(created.metadata.resource_version, patched.metadata.resource_version);
    loop {
        let seen = watched.try_next().await?.expect("a watcher never ends");
        if seen.data == patched.data {
            break;
        }
    }
    maps.delete("story", &DeleteParams::default()).await?;
    assert!(maps.get_opt("story").await?.is_none());
    Ok(())
}
