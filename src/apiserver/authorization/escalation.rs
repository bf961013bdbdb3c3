//! Users grant only rights that they hold: the writer of a role must hold the rights in it, or `escalate` on it; the
//! writer of a binding must hold the rights of its role, or `bind` on it. `system:masters` may do everything. The
//! decision takes every role and binding into account that was written before.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};

use crate::apiserver::user::User;
use crate::kube::status::Status;
use crate::world::Instant;

use super::covers::{describe, missing, quoted};
use super::{Attributes, Authorizer, RBAC};

impl Authorizer {
    /// Was the user given the right to write any role of this kind (`roles`, `clusterroles`), or this one?
    pub async fn may_escalate(
        &self,
        user: &User,
        resource: &str,
        namespace: Option<&str>,
        name: Option<&str>,
        deadline: Instant,
    ) -> Result<bool, Status> {
        let verb = "escalate";
        let (group, subresource, field_selector) = (RBAC, None, None);
        let attributes = Attributes::Resource { verb, group, resource, subresource, namespace, name, field_selector };
        self.newest_rules(deadline).await?;
        self.allows(user, &attributes, deadline).await
    }

    /// Was the user given the right to bind this role?
    pub async fn may_bind(
        &self,
        user: &User,
        role: &RoleRef,
        namespace: Option<&str>,
        deadline: Instant,
    ) -> Result<bool, Status> {
        let Some(resource) = resource_of(role) else { return Ok(false) };
        let (group, name) = (role.api_group.as_str(), Some(role.name.as_str()));
        let (verb, subresource, field_selector) = ("bind", None, None);
        let attributes = Attributes::Resource { verb, group, resource, subresource, namespace, name, field_selector };
        self.newest_rules(deadline).await?;
        self.allows(user, &attributes, deadline).await
    }

    /// Why the user may not grant `rules` in `namespace`, or everywhere, if it does not hold all of them there.
    pub async fn escalates(
        &self,
        user: &User,
        namespace: Option<&str>,
        rules: &[PolicyRule],
        deadline: Instant,
    ) -> Result<Option<String>, Status> {
        let known = self.newest_rules(deadline).await?;
        let held: Vec<&PolicyRule> = known.for_user(user, namespace).collect();
        let missing = missing(&held, rules);
        Ok((!missing.is_empty()).then(|| {
            let (name, groups) = (&user.name, quoted(&user.groups));
            format!(
                "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
                describe(&missing)
            )
        }))
    }

    /// The rules of a role that a binding in `namespace` refers to; 404 if it does not exist.
    pub async fn rules_of(
        &self,
        role: &RoleRef,
        namespace: Option<&str>,
        deadline: Instant,
    ) -> Result<Vec<PolicyRule>, Status> {
        let known = self.newest_rules(deadline).await?;
        let missing = || Status::not_found(RBAC, resource_of(role).unwrap_or(&role.kind), &role.name);
        known.find(role, namespace.unwrap_or_default()).map(<[_]>::to_vec).ok_or_else(missing)
    }
}

fn resource_of(role: &RoleRef) -> Option<&'static str> {
    match role.kind.as_str() {
        "ClusterRole" => Some("clusterroles"),
        "Role" => Some("roles"),
        _ => None,
    }
}
