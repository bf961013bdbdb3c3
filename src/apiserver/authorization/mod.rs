//! Authorization: `system:masters` may do everything, an agent what its node needs, every other user what RBAC grants.
//!
//! - [`attributes`]: what a user wants to do
//! - [`rbac`]: roles and bindings, indexed; pure
//! - [`escalation`]: users grant only rights that they hold; [`covers`]: rules within other rules, pure
//! - [`node`]: what an agent may do, and [`graph`]: what its pods refer to; pure
//! - [`bootstrap`]: the built-in roles

mod attributes;
pub mod bootstrap;
pub mod covers;
mod escalation;
pub mod graph;
pub mod node;
pub mod rbac;

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use serde::de::DeserializeOwned;

use crate::kube::resources::{Resource, Table};
use crate::kube::status::{AuthorizerAttributes, Status};
use crate::world::Instant;

use super::storage::Storage;
use super::user::User;
use super::watch_cache::view::View;

pub use self::attributes::Attributes;

use self::graph::Graph;
use self::node::Decision;
use self::rbac::Rules;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Decides whether a user may do something.
pub struct Authorizer {
    storage: Storage,
    pods: Arc<Resource>,
    graph: Mutex<Graph>,
    sources: [Arc<Resource>; 4],
    compiled: Mutex<Option<Compiled>>,
}

/// The rules, and the views they were made from.
struct Compiled {
    views: [Arc<View>; 4],
    rules: Arc<Rules>,
}

impl Authorizer {
    pub fn new(storage: Storage, table: &Table) -> Authorizer {
        let source = |plural| table.get(RBAC, "v1", plural).expect("the table of resources has the RBAC kinds").clone();
        Authorizer {
            storage,
            pods: table.get("", "v1", "pods").expect("the table of resources has pods").clone(),
            graph: Mutex::default(),
            sources: ["clusterroles", "roles", "clusterrolebindings", "rolebindings"].map(source),
            compiled: Mutex::new(None),
        }
    }

    /// The refusal, if the user is not allowed.
    pub async fn check(&self, user: &User, attributes: &Attributes<'_>, deadline: Instant) -> Result<(), Status> {
        if self.allows(user, attributes, deadline).await? {
            return Ok(());
        }
        Err(match *attributes {
            Attributes::NonResource { verb, path } => Status::forbidden_path(&user.name, verb, path),
            Attributes::Resource { verb, group, resource, subresource, namespace, name, .. } => {
                let refused = AuthorizerAttributes {
                    user: &user.name,
                    verb,
                    group,
                    resource,
                    subresource,
                    namespace,
                    name,
                    reason: "",
                };
                Status::forbidden_by_authorizer(refused)
            }
        })
    }

    pub async fn allows(&self, user: &User, attributes: &Attributes<'_>, deadline: Instant) -> Result<bool, Status> {
        if user.in_group("system:masters") {
            return Ok(true);
        }
        if let Some(node) = node::node_of(user) {
            match node::decide(node, attributes) {
                Decision::Allow => return Ok(true),
                Decision::IfRelated if self.is_related(node, attributes, deadline).await? => return Ok(true),
                Decision::IfRelated | Decision::NoOpinion => {}
            }
        }
        Ok(self.rules(deadline).await?.allow(user, attributes))
    }

    /// The rules that hold for a user in a namespace.
    pub async fn rules_for(&self, user: &User, namespace: &str, deadline: Instant) -> Result<Vec<PolicyRule>, Status> {
        Ok(self.rules(deadline).await?.for_user(user, Some(namespace)).cloned().collect())
    }

    /// Is the object a pod on the node, or does one there refer to it?
    async fn is_related(&self, node: &str, attributes: &Attributes<'_>, deadline: Instant) -> Result<bool, Status> {
        let Attributes::Resource { resource, namespace: Some(namespace), name: Some(name), .. } = *attributes else {
            return Ok(false);
        };
        let cache = self.storage.cache(&self.pods)?;
        let related = |view: &View| {
            let mut graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
            graph.update(view);
            graph.has_path(resource, namespace, name, node)
        };
        // A pod that was bound a moment ago may not be in the cache yet.
        Ok(related(&*cache.any(deadline).await?) || related(&*self.storage.newest(&cache, deadline).await?))
    }

    /// Keeps the graph of pods and nodes up to date, so that no request has much to catch up. Never ends.
    pub async fn follow_pods(&self) -> Result<(), Status> {
        let mut views = self.storage.cache(&self.pods)?.views();
        while views.changed().await.is_ok() {
            let view = views.borrow_and_update().clone();
            if let Some(view) = view {
                self.graph.lock().unwrap_or_else(PoisonError::into_inner).update(&view);
            }
        }
        Ok(())
    }

    /// Waits until decisions are made by the roles and bindings that the store holds now.
    pub async fn catch_up(&self, deadline: Instant) -> Result<(), Status> {
        self.newest_rules(deadline).await.map(|_| ())
    }

    async fn rules(&self, deadline: Instant) -> Result<Arc<Rules>, Status> {
        let [a, b, c, d] = &self.sources;
        let views = [
            self.view(a, deadline).await?,
            self.view(b, deadline).await?,
            self.view(c, deadline).await?,
            self.view(d, deadline).await?,
        ];
        Ok(self.compiled(views))
    }

    /// The rules with all that was written before this call.
    async fn newest_rules(&self, deadline: Instant) -> Result<Arc<Rules>, Status> {
        for source in &self.sources {
            self.storage.newest(&*self.storage.cache(source)?, deadline).await?;
        }
        self.rules(deadline).await
    }

    fn compiled(&self, views: [Arc<View>; 4]) -> Arc<Rules> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = compiled.as_mut()
            && known.views.iter().zip(&views).all(|(old, new)| same(old, new))
        {
            return known.rules.clone();
        }
        let [cluster_roles, roles, cluster_bindings, bindings] = &views;
        let rules = Arc::new(Rules::new(
            decoded::<ClusterRole>(cluster_roles),
            decoded::<Role>(roles),
            decoded::<ClusterRoleBinding>(cluster_bindings),
            decoded::<RoleBinding>(bindings),
        ));
        *compiled = Some(Compiled { views, rules: rules.clone() });
        rules
    }

    async fn view(&self, resource: &Arc<Resource>, deadline: Instant) -> Result<Arc<View>, Status> {
        Ok(self.storage.cache(resource)?.any(deadline).await?)
    }
}

/// Do both views hold the same objects?
fn same(old: &Arc<View>, new: &Arc<View>) -> bool {
    Arc::ptr_eq(old, new) || old.objects.ptr_eq(&new.objects)
}

fn decoded<T: DeserializeOwned>(view: &View) -> Vec<T> {
    view.objects
        .iter()
        .filter_map(|(key, item)| match item.object.decode() {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::error!(key, %error, "a stored RBAC object does not decode and grants nothing");
                None
            }
        })
        .collect()
}
