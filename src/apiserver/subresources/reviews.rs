//! Reviews: kinds that are never stored, and answer a question when they are created.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apiserver::authentication::user_info;
use crate::apiserver::authorization::Attributes;
use crate::apiserver::request::{Api, Outcome, RequestInfo, timestamp};
use crate::apiserver::user::User;
use crate::kube::client::Response;
use crate::kube::object::Object;
use crate::kube::status::Status;
use crate::kube::tree::{items, text};
use crate::kube::validation::{FieldErrors, Path};

impl Api {
    /// Answers a review: `SubjectAccessReview`, `TokenReview` and the like.
    pub(in crate::apiserver) async fn review(
        &self,
        info: &RequestInfo<'_>,
        mut review: Value,
    ) -> Result<Outcome, Status> {
        check(info, &review)?;
        review["status"] = match info.resource.kind.as_str() {
            "SelfSubjectReview" => json!({"userInfo": user_info(info.user)}),
            "SelfSubjectAccessReview" => self.access(info, info.user, &review["spec"]).await?,
            "SubjectAccessReview" | "LocalSubjectAccessReview" => {
                self.access(info, &subject(&review["spec"]), &review["spec"]).await?
            }
            "SelfSubjectRulesReview" => self.rules(info, &review["spec"]).await?,
            "TokenReview" => self.token_review(info, &review["spec"]).await,
            kind => return Err(Status::new(501, "NotImplemented", format!("{kind} is not answered"))),
        };
        if info.resource.kind == "SelfSubjectReview" {
            review["metadata"]["creationTimestamp"] = json!(timestamp(self.world.clock.unix()));
        }
        let object = Object::from_value(&review).map_err(Status::internal_error)?;
        Ok(Outcome { created: true, ..Outcome::of(Response::Object(Arc::new(object))) })
    }

    async fn access(&self, info: &RequestInfo<'_>, user: &User, spec: &Value) -> Result<Value, Status> {
        let attributes = attributes(spec).ok_or_else(|| Status::internal_error("a review without attributes"))?;
        let allowed = self.authorizer.allows(user, &attributes, info.deadline).await?;
        Ok(json!({"allowed": allowed}))
    }

    async fn rules(&self, info: &RequestInfo<'_>, spec: &Value) -> Result<Value, Status> {
        let namespace = spec["namespace"].as_str().unwrap_or_default();
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        if info.user.in_group("system:masters") {
            resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
            paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        for rule in self.authorizer.rules_for(info.user, namespace, info.deadline).await? {
            if let Some(urls) = rule.non_resource_urls {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
            } else {
                let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups.unwrap_or_default(),
                    "resources": rule.resources.unwrap_or_default()});
                if let Some(names) = rule.resource_names {
                    shown["resourceNames"] = json!(names);
                }
                resources.push(shown);
            }
        }
        Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
    }

    async fn token_review(&self, info: &RequestInfo<'_>, spec: &Value) -> Value {
        let audiences: Vec<String> = serde_json::from_value(spec["audiences"].clone()).unwrap_or_default();
        let wanted = (!audiences.is_empty()).then_some(audiences.as_slice());
        let token = spec["token"].as_str().unwrap_or_default();
        match self.authenticator.authenticate_token(token, wanted, info.deadline).await {
            Ok((user, claims)) => {
                let shared: Vec<&String> = match wanted {
                    Some(wanted) => claims.aud.iter().filter(|audience| wanted.contains(audience)).collect(),
                    None => claims.aud.iter().collect(),
                };
                json!({"authenticated": true, "user": user_info(&user), "audiences": shared})
            }
            Err(status) => json!({"authenticated": false, "error": status.message}),
        }
    }
}

/// A review asks one question about one subject. A local review may ask only about its own namespace, because its
/// sender was authorized there.
fn check(info: &RequestInfo<'_>, review: &Value) -> Result<(), Status> {
    let kind = info.resource.kind.as_str();
    if !kind.ends_with("SubjectAccessReview") {
        return Ok(());
    }
    let (spec, path, mut errors) = (&review["spec"], Path::new("spec"), FieldErrors::new());
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() && other.is_object() {
        let detail = "cannot be specified in combination with resourceAttributes";
        errors.invalid(&path.child("nonResourceAttributes"), other.clone(), detail);
    }
    if !resource.is_object() && !other.is_object() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&path.child("resourceAttributes"), Value::Null, detail);
    }
    let is_nobody = text(spec, "user").is_empty() && items(spec, "groups").is_empty();
    if kind != "SelfSubjectAccessReview" && is_nobody {
        errors.invalid(&path.child("user"), "", "at least one of user or group must be specified");
    }
    if kind == "LocalSubjectAccessReview" {
        let asked = text(resource, "namespace");
        if resource.is_object() && Some(asked) != info.namespace() {
            let path = path.child("resourceAttributes").child("namespace");
            errors.invalid(&path, asked, "must match metadata.namespace");
        }
        if other.is_object() {
            let detail = "disallowed on this kind of request";
            errors.invalid(&path.child("nonResourceAttributes"), other.clone(), detail);
        }
    }
    errors.into_result(&info.resource.group, kind, "")
}

fn subject(spec: &Value) -> User {
    User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: serde_json::from_value(spec["groups"].clone()).unwrap_or_default(),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    }
}

fn attributes(spec: &Value) -> Option<Attributes<'_>> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    fn word(value: &Value) -> &str {
        value.as_str().unwrap_or_default()
    }
    fn some(value: &Value) -> Option<&str> {
        value.as_str().filter(|text| !text.is_empty())
    }
    match (resource.is_object(), path.is_object()) {
        (true, false) => Some(Attributes::Resource {
            verb: word(&resource["verb"]),
            group: word(&resource["group"]),
            resource: word(&resource["resource"]),
            subresource: some(&resource["subresource"]),
            namespace: some(&resource["namespace"]),
            name: some(&resource["name"]),
            field_selector: None,
        }),
        (false, true) => Some(Attributes::NonResource { verb: word(&path["verb"]), path: word(&path["path"]) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_kind_of_attributes() {
        let resource = json!({"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}});
        assert!(matches!(
            attributes(&resource),
            Some(Attributes::Resource { resource: "pods", namespace: Some("a"), .. })
        ));
        let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}});
        assert_eq!(attributes(&path), Some(Attributes::NonResource { verb: "get", path: "/version" }));
        assert_eq!(attributes(&json!({})), None);
    }
}
