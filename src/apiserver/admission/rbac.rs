//! RBAC escalation: roles and bindings grant only rights that their writer may grant.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde_json::Value;

use crate::kube::status::Status;

use super::{Admission, AdmissionAttributes, Operation};

const GROUP: &str = "rbac.authorization.k8s.io";

impl Admission {
    /// Refuses a role or a binding that grants more than its writer may grant.
    pub(super) async fn validate_rbac(
        &self,
        attributes: &AdmissionAttributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let is_write = attributes.operation != Operation::Delete && attributes.resource.group == GROUP;
        if !is_write || attributes.user.in_group("system:masters") || changes_only_owners(attributes, object) {
            return Ok(());
        }
        match attributes.resource.plural.as_str() {
            "roles" | "clusterroles" => self.validate_role(attributes, object).await,
            "rolebindings" | "clusterrolebindings" => self.validate_binding(attributes, object).await,
            _ => Ok(()),
        }
    }

    async fn validate_role(&self, attributes: &AdmissionAttributes<'_>, role: &Value) -> Result<(), Status> {
        let (user, namespace, deadline) = (attributes.user, attributes.namespace, attributes.deadline);
        let name = Some(attributes.name).filter(|_| attributes.operation != Operation::Create);
        if self.authorizer.may_escalate(user, &attributes.resource.plural, namespace, name, deadline).await? {
            return Ok(());
        }
        let rules: Vec<PolicyRule> = decode(&role["rules"])?;
        if let Some(why) = self.authorizer.escalates(user, namespace, &rules, deadline).await? {
            return Err(attributes.forbidden(why));
        }
        // A role can aggregate any rights, now or later.
        let aggregates = |role: &Value| !role["aggregationRule"].is_null();
        if (aggregates(role) || attributes.old.is_some_and(aggregates))
            && self.authorizer.escalates(user, None, &everything(), deadline).await?.is_some()
        {
            return Err(attributes.forbidden("must have cluster-admin privileges to use the aggregationRule"));
        }
        Ok(())
    }

    async fn validate_binding(&self, attributes: &AdmissionAttributes<'_>, binding: &Value) -> Result<(), Status> {
        let (user, namespace, deadline) = (attributes.user, attributes.namespace, attributes.deadline);
        let role: RoleRef = decode(&binding["roleRef"])?;
        if self.authorizer.may_bind(user, &role, namespace, deadline).await? {
            return Ok(());
        }
        let rules = self.authorizer.rules_of(&role, namespace, deadline).await?;
        match self.authorizer.escalates(user, namespace, &rules, deadline).await? {
            Some(why) => Err(attributes.forbidden(why)),
            None => Ok(()),
        }
    }
}

fn decode<T: serde::de::DeserializeOwned + Default>(value: &Value) -> Result<T, Status> {
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(value.clone()).map_err(|error| Status::bad_request(error.to_string()))
}

/// All rights there are.
fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    let resources =
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() };
    [resources, PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() }]
}

/// The garbage collector removes owners and finalizers of roles whose rights it does not hold.
fn changes_only_owners(attributes: &AdmissionAttributes<'_>, object: &Value) -> bool {
    let Some(old) = attributes.old else { return false };
    let bare = |object: &Value| {
        let mut bare = object.clone();
        if let Some(metadata) = bare["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "selfLink"] {
                metadata.shift_remove(field);
            }
        }
        bare
    };
    bare(old) == bare(object)
}
