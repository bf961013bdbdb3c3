//! `namespaces/finalize`: the namespace controller says that nothing is left in a namespace.

use serde_json::Value;

use crate::apiserver::codec;
use crate::apiserver::request::{Api, Outcome, RequestInfo, should_delete, showing, shown};
use crate::apiserver::storage::{Committed, Write};
use crate::kube::status::Status;

impl Api {
    /// Takes over `spec.finalizers`; a namespace in deletion that nothing holds any more goes.
    pub(super) async fn finalize(&self, info: &RequestInfo<'_>, wanted: &Value) -> Result<Outcome, Status> {
        let name = info.name()?;
        loop {
            let stored = self.storage.get(info.resource, None, name).await?;
            let version = wanted["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty());
            if version.is_some_and(|version| version != stored.object.meta.resource_version) {
                return Err(Status::modified("", "namespaces", name));
            }
            let mut namespace = stored.object.value();
            namespace["spec"]["finalizers"] = wanted["spec"]["finalizers"].clone();
            if namespace["spec"]["finalizers"].is_null() {
                namespace["spec"].as_object_mut().map(|spec| spec.shift_remove("finalizers"));
            }
            if info.write.dry_run {
                return Ok(showing(shown(&namespace, stored.revision), Vec::new()));
            }
            let key = self.storage.key(info.resource, None, name)?;
            let write = if should_delete(&namespace) {
                Write::remove(&key, stored.revision)
            } else {
                Write::replace(&key, stored.revision, codec::encode(&namespace), None)
            };
            if let Committed::At(revision) = self.storage.commit(write).await? {
                return Ok(showing(shown(&namespace, revision), Vec::new()));
            }
        }
    }
}
