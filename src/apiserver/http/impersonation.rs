//! Impersonation: `Impersonate-User` and its companions, for users with the right to act for others. Each user, group,
//! UID and extra that a request names is authorized by itself.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::apiserver::authorization::Attributes;
use crate::apiserver::request::Api;
use crate::apiserver::user::User;
use crate::kube::names;
use crate::kube::status::Status;
use crate::world::Instant;

use super::route::decode;

const ACCOUNT: &str = "system:serviceaccount:";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const EXTRA: &str = "impersonate-extra-";
/// The API group of UIDs and extras, which exist for authorization only.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that a request wants to act for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Impersonated {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Api {
    /// The user that the request acts for: its own, unless it names another one.
    pub(super) async fn impersonated(
        &self,
        user: User,
        headers: &HeaderMap,
        deadline: Instant,
    ) -> Result<User, Status> {
        let Some(wanted) = Impersonated::of(headers)? else { return Ok(user) };
        self.wait_until_ready(deadline).await?;
        for attributes in wanted.attributes() {
            self.authorizer.check(&user, &attributes, deadline).await?;
        }
        Ok(wanted.into_user())
    }
}

impl Impersonated {
    /// The impersonated user of the headers, if they name one.
    fn of(headers: &HeaderMap) -> Result<Option<Impersonated>, Status> {
        let all = |name: &str| headers.get_all(name).iter().map(text).collect::<Result<Vec<_>, _>>();
        let first = |name: &str| headers.get(name).map(text).transpose().map(Option::unwrap_or_default);
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            // Header names are lower case here; other characters of a key are percent-encoded.
            if let Some(key) = name.as_str().strip_prefix(EXTRA) {
                let key = decode(key).unwrap_or_else(|| key.to_owned());
                extra.entry(key).or_default().push(text(value)?);
            }
        }
        let wanted = Impersonated {
            user: first("impersonate-user")?,
            uid: first("impersonate-uid")?,
            groups: all("impersonate-group")?,
            extra,
        };
        if wanted == Impersonated::default() {
            return Ok(None);
        }
        if wanted.user.is_empty() {
            return Err(Status::bad_request("impersonating groups, a uid or extras requires impersonating a user"));
        }
        Ok(Some(wanted))
    }

    /// What to authorize: one right for each user, group, UID and extra.
    fn attributes(&self) -> Vec<Attributes<'_>> {
        let mut all = vec![match account(&self.user) {
            Some((namespace, name)) => impersonate("", "serviceaccounts", None, Some(namespace), name),
            None => impersonate("", "users", None, None, &self.user),
        }];
        all.extend(self.groups.iter().map(|group| impersonate("", "groups", None, None, group)));
        for (key, values) in &self.extra {
            all.extend(values.iter().map(|value| impersonate(AUTHENTICATION, "userextras", Some(key), None, value)));
        }
        if !self.uid.is_empty() {
            all.push(impersonate(AUTHENTICATION, "uids", None, None, &self.uid));
        }
        all
    }

    /// The user, in the groups that it always has.
    fn into_user(self) -> User {
        let Impersonated { user, uid, mut groups, extra } = self;
        if let Some((namespace, _)) = account(&user)
            && groups.is_empty()
        {
            groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        }
        let has = |wanted: &str| groups.iter().any(|group| group == wanted);
        if user == ANONYMOUS {
            if !has(UNAUTHENTICATED) {
                groups.push(UNAUTHENTICATED.to_owned());
            }
        } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        User { name: user, uid, groups, extra }
    }
}

/// A header that cannot be read is refused: without it the request would act for another user than it names.
fn text(value: &HeaderValue) -> Result<String, Status> {
    let unreadable = || Status::bad_request("an Impersonate header is not UTF-8");
    std::str::from_utf8(value.as_bytes()).map(str::to_owned).map_err(|_| unreadable())
}

/// Namespace and name of the service account that a user name stands for.
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT)?.split_once(':')?;
    let well_formed = names::dns_label(namespace, false).is_empty() && names::dns_subdomain(name, false).is_empty();
    well_formed.then_some((namespace, name))
}

fn impersonate<'a>(
    group: &'a str,
    resource: &'a str,
    subresource: Option<&'a str>,
    namespace: Option<&'a str>,
    name: &'a str,
) -> Attributes<'a> {
    let (verb, name) = ("impersonate", Some(name));
    Attributes::Resource { verb, group, resource, subresource, namespace, name, field_selector: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn of(pairs: &[(&'static str, &str)]) -> Impersonated {
        Impersonated::of(&headers(pairs)).unwrap().unwrap()
    }

    #[test]
    fn users_are_in_the_groups_they_are_always_in() {
        for (user, group, expected) in [
            ("u", None, &["system:authenticated"][..]),
            ("u", Some("g"), &["g", "system:authenticated"]),
            ("u", Some("system:authenticated"), &["system:authenticated"]),
            ("u", Some("system:unauthenticated"), &["system:unauthenticated"]),
            ("system:anonymous", None, &["system:unauthenticated"]),
            ("system:anonymous", Some("g"), &["g", "system:unauthenticated"]),
            (
                "system:serviceaccount:a:b",
                None,
                &["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"],
            ),
            ("system:serviceaccount:a:b", Some("g"), &["g", "system:authenticated"]),
            ("system:serviceaccount:a:b:c", None, &["system:authenticated"]),
        ] {
            let mut pairs = vec![("impersonate-user", user)];
            pairs.extend(group.map(|group| ("impersonate-group", group)));
            assert_eq!(of(&pairs).into_user().groups, expected, "{user} {group:?}");
        }
    }

    #[test]
    fn each_thing_that_is_named_is_a_right_of_its_own() {
        let wanted = of(&[
            ("impersonate-user", "u"),
            ("impersonate-group", "g"),
            ("impersonate-group", "h"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-scopes", "view"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ]);
        assert_eq!(
            wanted.attributes(),
            [
                impersonate("", "users", None, None, "u"),
                impersonate("", "groups", None, None, "g"),
                impersonate("", "groups", None, None, "h"),
                impersonate(AUTHENTICATION, "userextras", Some("acme.com/project"), None, "x"),
                impersonate(AUTHENTICATION, "userextras", Some("scopes"), None, "view"),
                impersonate(AUTHENTICATION, "uids", None, None, "7"),
            ]
        );
        let user = wanted.into_user();
        assert_eq!((user.uid.as_str(), user.extra["scopes"].as_slice()), ("7", &["view".to_owned()][..]));
    }

    #[test]
    fn nobody_acts_for_a_user_that_is_not_named() {
        assert_eq!(Impersonated::of(&HeaderMap::new()), Ok(None));
        for companion in ["impersonate-group", "impersonate-uid", "impersonate-extra-x"] {
            assert_eq!(Impersonated::of(&headers(&[(companion, "x")])).unwrap_err().code, 400, "{companion}");
        }
        let mut unreadable = HeaderMap::new();
        unreadable.insert("impersonate-user", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Impersonated::of(&unreadable).unwrap_err().code, 400);
    }
}
