//! Impersonation: `Impersonate-User` and its companions, for those who have the right to act for others.

use http::HeaderMap;

use crate::apiserver::authorization::Attributes;
use crate::apiserver::request::Api;
use crate::apiserver::user::User;
use crate::kube::status::Status;
use crate::world::Instant;

const ACCOUNT: &str = "system:serviceaccount:";

impl Api {
    /// Whom the request acts for: the user itself, unless it names another one.
    pub(super) async fn impersonated(
        &self,
        user: User,
        headers: &HeaderMap,
        deadline: Instant,
    ) -> Result<User, Status> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let wanted = text("impersonate-user");
        let groups: Vec<String> = headers
            .get_all("impersonate-group")
            .iter()
            .filter_map(|group| group.to_str().ok().map(str::to_owned))
            .collect();
        let uid = text("impersonate-uid");
        if wanted.is_empty() {
            if groups.is_empty() && uid.is_empty() {
                return Ok(user);
            }
            return Err(Status::bad_request("impersonating groups or a uid requires impersonating a user"));
        }
        self.begin(deadline).await?;
        let mut attempts = vec![match wanted.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':')) {
            Some((namespace, name)) => attempt("", "serviceaccounts", Some(namespace), name),
            None => attempt("", "users", None, wanted),
        }];
        attempts.extend(groups.iter().map(|group| attempt("", "groups", None, group)));
        if !uid.is_empty() {
            attempts.push(attempt("authentication.k8s.io", "uids", None, uid));
        }
        for attributes in &attempts {
            self.authorizer.check(&user, attributes, deadline).await?;
        }
        Ok(acting(wanted, uid, groups))
    }
}

fn attempt<'a>(group: &'a str, resource: &'a str, namespace: Option<&'a str>, name: &'a str) -> Attributes<'a> {
    Attributes::Resource { verb: "impersonate", group, resource, subresource: None, namespace, name: Some(name) }
}

/// The user that is acted for, in the groups it is always in.
fn acting(name: &str, uid: &str, mut groups: Vec<String>) -> User {
    if name == "system:anonymous" {
        return User::anonymous();
    }
    if let Some((namespace, _)) = name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'))
        && groups.is_empty()
    {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    groups.retain(|group| group != "system:authenticated");
    User { uid: uid.to_owned(), ..User::new(name, groups) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_in_their_groups() {
        let user = acting("system:serviceaccount:a:b", "", Vec::new());
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        assert_eq!(acting("u", "7", vec!["g".to_owned()]).groups, ["g", "system:authenticated"]);
        assert_eq!(acting("system:anonymous", "", Vec::new()), User::anonymous());
    }
}
