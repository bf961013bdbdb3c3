//! Typed access to one kind of object.

use std::marker::PhantomData;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Client, DeleteOptions, ListOptions, PatchType, Request, Response, Target, Verb, WatchOptions, WriteOptions,
};
use crate::kube::object::{Object, WatchEvent};
use crate::kube::status::Status;

/// A kind of object that `k8s-openapi` has a type for.
pub trait Kind:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The objects of one kind, in one namespace or in all. Cheap to clone.
#[derive(Clone)]
pub struct Api<K> {
    client: Client,
    namespace: Option<String>,
    write: WriteOptions,
    kind: PhantomData<fn() -> K>,
}

/// A page of objects, or all of them where no limit was asked for.
#[derive(Clone, Debug)]
pub struct TypedList<K> {
    pub items: Vec<K>,
    /// A watch from here misses nothing.
    pub resource_version: String,
    pub continue_token: Option<String>,
}

/// What a typed watch delivers.
#[derive(Clone, Debug)]
pub enum Event<K> {
    Added(K),
    Modified(K),
    Deleted(K),
    Bookmark { resource_version: String, initial_events_end: bool },
}

impl<K: Kind> Api<K> {
    pub(super) fn new(client: Client) -> Api<K> {
        Api { client, namespace: None, write: WriteOptions::default(), kind: PhantomData }
    }

    /// The same kind in one namespace.
    pub fn namespaced(mut self, namespace: &str) -> Api<K> {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The name under which writes are recorded in `managedFields`.
    pub fn field_manager(mut self, name: &str) -> Api<K> {
        self.write.field_manager = Some(name.to_owned());
        self
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where requests for all objects of this kind go.
    pub fn target(&self) -> Target {
        Target {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            resource: K::URL_PATH_SEGMENT.to_owned(),
            namespace: self.namespace.clone(),
            name: None,
            subresource: None,
        }
    }

    pub async fn get(&self, name: &str) -> Result<K, Status> {
        self.object(self.named(name, None), Verb::Get).await
    }

    /// The object, or `None` where there is none of that name.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>, Status> {
        match self.get(name).await {
            Err(status) if status.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    pub async fn list(&self, options: ListOptions) -> Result<TypedList<K>, Status> {
        let list = match self.call(self.target(), Verb::List(options)).await? {
            Response::List(list) => list,
            Response::Object(_) | Response::Done => return Err(unexpected("a list")),
        };
        let items = list.items.iter().map(|object| object.decode()).collect::<Result<_, _>>()?;
        Ok(TypedList { items, resource_version: list.resource_version, continue_token: list.continue_token })
    }

    /// Creates `object` under its `name`, or under a fresh one that begins with its `generateName`.
    pub async fn create(&self, object: &K) -> Result<K, Status> {
        self.object(self.target(), Verb::Create { body: encode(object)? }).await
    }

    /// Replaces an object. If it carries a resource version and was written since, the answer is a conflict.
    pub async fn update(&self, object: &K) -> Result<K, Status> {
        self.object(self.named(name_of(object)?, None), Verb::Update { body: encode(object)? }).await
    }

    /// Replaces the status of an object, and nothing else of it.
    pub async fn update_status(&self, object: &K) -> Result<K, Status> {
        self.object(self.named(name_of(object)?, Some("status")), Verb::Update { body: encode(object)? }).await
    }

    pub async fn patch(&self, name: &str, kind: PatchType, patch: &Value) -> Result<K, Status> {
        self.object(self.named(name, None), patch_verb(kind, patch)?).await
    }

    pub async fn patch_status(&self, name: &str, kind: PatchType, patch: &Value) -> Result<K, Status> {
        self.object(self.named(name, Some("status")), patch_verb(kind, patch)?).await
    }

    /// Deletes an object. It stays, with a deletion timestamp, while it has finalizers or a grace period; `None` means
    /// that it is gone.
    pub async fn delete(&self, name: &str, options: DeleteOptions) -> Result<Option<K>, Status> {
        match self.call(self.named(name, None), Verb::Delete(options)).await? {
            Response::Object(object) if object.meta.kind == K::KIND => object.decode().map(Some),
            Response::Object(_) | Response::List(_) | Response::Done => Ok(None),
        }
    }

    pub async fn delete_collection(&self, which: ListOptions, options: DeleteOptions) -> Result<(), Status> {
        self.call(self.target(), Verb::DeleteCollection(which, options)).await.map(|_| ())
    }

    /// Events in order. An error item ends the stream; where it `is_expired`, list again.
    pub async fn watch(&self, options: WatchOptions) -> Result<BoxStream<'static, Result<Event<K>, Status>>, Status> {
        let events = self.client.watch(self.target(), options).await?;
        Ok(events.map(|event| Event::decode(event?)).boxed())
    }

    /// Posts `body` to a subresource. `None` means success without an object.
    pub async fn create_subresource<B: Serialize, R: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<Option<R>, Status> {
        match self.call(self.named(name, Some(subresource)), Verb::Create { body: encode(body)? }).await? {
            Response::Object(object) if object.meta.kind == "Status" => Ok(None),
            Response::Object(object) => object.decode().map(Some),
            Response::List(_) => Err(unexpected("an object")),
            Response::Done => Ok(None),
        }
    }

    fn named(&self, name: &str, subresource: Option<&str>) -> Target {
        Target { name: Some(name.to_owned()), subresource: subresource.map(str::to_owned), ..self.target() }
    }

    async fn call(&self, target: Target, verb: Verb) -> Result<Response, Status> {
        self.client.call(Request { target, verb, write: self.write.clone() }).await
    }

    async fn object(&self, target: Target, verb: Verb) -> Result<K, Status> {
        match self.call(target, verb).await? {
            Response::Object(object) => object.decode(),
            Response::List(_) | Response::Done => Err(unexpected("an object")),
        }
    }
}

impl Api<Pod> {
    /// Binds a pod to a node. A conflict means that it is bound, or being deleted, already.
    pub async fn bind(&self, pod: &str, uid: &str, node: &str) -> Result<(), Status> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.to_owned()),
                namespace: self.namespace.clone(),
                uid: Some(uid.to_owned()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        self.create_subresource::<_, Value>(pod, "binding", &binding).await.map(|_| ())
    }

    /// Asks for a pod's eviction; 429 means that a disruption budget does not allow it now.
    pub async fn evict(&self, pod: &str) -> Result<(), Status> {
        let eviction = Eviction {
            metadata: ObjectMeta {
                name: Some(pod.to_owned()),
                namespace: self.namespace.clone(),
                ..ObjectMeta::default()
            },
            delete_options: None,
        };
        self.create_subresource::<_, Value>(pod, "eviction", &eviction).await.map(|_| ())
    }
}

impl Api<ServiceAccount> {
    /// A signed token of a service account, in the answer's status.
    pub async fn create_token(&self, account: &str, request: &TokenRequest) -> Result<TokenRequest, Status> {
        self.create_subresource(account, "token", request).await?.ok_or_else(|| unexpected("a TokenRequest"))
    }
}

impl<K: DeserializeOwned> Event<K> {
    pub fn decode(event: WatchEvent) -> Result<Event<K>, Status> {
        Ok(match event {
            WatchEvent::Added(object) => Event::Added(object.decode()?),
            WatchEvent::Modified(object) => Event::Modified(object.decode()?),
            WatchEvent::Deleted(object) => Event::Deleted(object.decode()?),
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                Event::Bookmark { resource_version, initial_events_end }
            }
        })
    }
}

impl Object {
    /// The object that a typed value is on the wire.
    pub fn encode<K: Serialize>(value: &K) -> Result<Object, Status> {
        Object::from_json(encode(value)?).map_err(|error| does_not_encode(&error))
    }
}

fn patch_verb(kind: PatchType, patch: &Value) -> Result<Verb, Status> {
    Ok(Verb::Patch { kind, body: encode(patch)?, force: false })
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, Status> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| does_not_encode(&error))
}

fn does_not_encode(error: &serde_json::Error) -> Status {
    Status::new(500, "InternalError", format!("the request does not encode: {error}"))
}

fn name_of<K: Kind>(object: &K) -> Result<&str, Status> {
    object.metadata().name.as_deref().ok_or_else(|| Status::new(400, "BadRequest", "name is required"))
}

fn unexpected(wanted: &str) -> Status {
    Status::new(500, "InternalError", format!("the server answered with something else than {wanted}"))
}
