//! What an informer keeps of an object.

use std::sync::Arc;

use crate::kube::client::Kind;
use crate::kube::object::Object;
use crate::kube::status::Status;

/// What an informer keeps of an object: one of `k8s-openapi`'s types, or the [`Object`] itself.
pub trait Cached: Send + Sync + Sized + 'static {
    fn from_object(object: &Arc<Object>) -> Result<Arc<Self>, Status>;
}

impl<K: Kind> Cached for K {
    fn from_object(object: &Arc<Object>) -> Result<Arc<K>, Status> {
        object.decode().map(Arc::new)
    }
}

impl Cached for Object {
    fn from_object(object: &Arc<Object>) -> Result<Arc<Object>, Status> {
        Ok(object.clone())
    }
}
