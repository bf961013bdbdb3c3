//! Authentication and authorization at the agent's port, as in a kubelet: a certificate or a token names the user, and
//! the API reviews the token (TokenReview) and the request (SubjectAccessReview for a subresource of the node).
//!
//! Nothing is cached: a right that was taken away ends at once.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};

use crate::kube::client::Client;
use crate::kube::status::Status;
use crate::world::{Clock, tls};

/// How long the API may take to decide.
const DECISION_MAX: Duration = Duration::from_secs(10);

/// Authenticates and authorizes requests about one node.
pub struct Auth {
    pub clock: Clock,
    pub client: Client,
    pub node: String,
}

/// Why a request is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Neither a certificate nor a token names the user.
    Unknown,
    Forbidden(String),
    /// The API did not decide. Trying again may help.
    Undecided(String),
}

impl Auth {
    /// Checks whether the client with this `certificate` and these `headers` may make the request.
    pub async fn check(
        &self,
        certificate: Option<&tls::Certificate>,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<(), Refusal> {
        let decision = async {
            let user = self.user(certificate, headers).await?;
            self.authorize(user, method, path).await
        };
        let decided = self.clock.timeout(DECISION_MAX, decision).await;
        decided.unwrap_or_else(|_| Err(Refusal::Undecided("the API did not decide in time who may".to_owned())))
    }

    /// The user, in the form of a review of its rights.
    async fn user(
        &self,
        certificate: Option<&tls::Certificate>,
        headers: &HeaderMap,
    ) -> Result<SubjectAccessReviewSpec, Refusal> {
        if let Some(certificate) = certificate.filter(|certificate| !certificate.common_name.is_empty()) {
            let mut groups = certificate.organizations.clone();
            groups.push("system:authenticated".to_owned());
            let user = Some(certificate.common_name.clone());
            return Ok(SubjectAccessReviewSpec { user, groups: Some(groups), ..SubjectAccessReviewSpec::default() });
        }
        let token = bearer(headers).ok_or(Refusal::Unknown)?;
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.client.api::<TokenReview>().create(&review).await.map_err(undecided)?;
        let status = answer.status.filter(|status| status.authenticated == Some(true)).ok_or(Refusal::Unknown)?;
        let user = status.user.ok_or(Refusal::Unknown)?;
        Ok(SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            ..SubjectAccessReviewSpec::default()
        })
    }

    async fn authorize(&self, user: SubjectAccessReviewSpec, method: &Method, path: &str) -> Result<(), Refusal> {
        let verb = verb(method);
        let parts = parts(path);
        for part in parts {
            let attributes = ResourceAttributes {
                verb: Some(verb.to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some((*part).to_owned()),
                name: Some(self.node.clone()),
                ..ResourceAttributes::default()
            };
            let spec = SubjectAccessReviewSpec { resource_attributes: Some(attributes), ..user.clone() };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let answer = self.client.api::<SubjectAccessReview>().create(&review).await.map_err(undecided)?;
            if answer.status.is_some_and(|status| status.allowed) {
                return Ok(());
            }
        }
        let (who, last) = (user.user.unwrap_or_default(), parts.last().copied().unwrap_or_default());
        Err(Refusal::Forbidden(format!("Forbidden (user={who}, verb={verb}, resource=nodes, subresource={last})")))
    }
}

fn undecided(status: Status) -> Refusal {
    Refusal::Undecided(format!("the API did not decide who may: {status}"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources of the node that a path belongs to: the right to one of them is enough.
fn parts(path: &str) -> &'static [&'static str] {
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match () {
        () if below("/stats") => &["stats"],
        () if below("/metrics") => &["metrics"],
        () if below("/logs") => &["log"],
        () if below("/checkpoint") => &["checkpoint"],
        () if below("/healthz") => &["healthz", "proxy"],
        () if below("/pods") || below("/runningpods") => &["pods", "proxy"],
        () if below("/configz") => &["configz", "proxy"],
        () => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::stream::BoxStream;
    use serde_json::{Value, json};

    use super::*;
    use crate::kube::client::{Request, Response, Target, Transport, Verb, WatchOptions};
    use crate::kube::object::{Object, WatchEvent};
    use crate::world::{MemoryDisk, World};

    /// Knows one token, and lets members of `readers` get `nodes/proxy` of n1.
    struct Api;

    #[async_trait::async_trait]
    impl Transport for Api {
        async fn call(&self, request: Request) -> Result<Response, Status> {
            let Verb::Create { body } = request.verb else { panic!("agents only ask") };
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            let spec = &review["spec"];
            review["status"] = match request.target.resource.as_str() {
                "tokenreviews" if spec["token"] == "good" => {
                    json!({"authenticated": true, "user": {"username": "scraper", "groups": ["readers"]}})
                }
                "tokenreviews" => json!({"authenticated": false}),
                _ => {
                    let asked = &spec["resourceAttributes"];
                    let known = spec["groups"].as_array().unwrap().contains(&json!("readers"));
                    let right = asked["verb"] == "get" && asked["subresource"] == "proxy" && asked["name"] == "n1";
                    json!({"allowed": known && right})
                }
            };
            Ok(Response::Object(Arc::new(Object::from_value(&review).unwrap())))
        }

        async fn watch(
            &self,
            _: Target,
            _: WatchOptions,
        ) -> Result<BoxStream<'static, Result<WatchEvent, Status>>, Status> {
            panic!("agents only ask")
        }
    }

    #[tokio::test]
    async fn who_may_ask_an_agent() {
        let access = |node: &str| Auth {
            clock: World::simulated(1, MemoryDisk::default()).clock,
            client: Client::new(Arc::new(Api)),
            node: node.to_owned(),
        };
        let certificate = |organization: &str| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, "kube-apiserver-kubelet-client");
            params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
            let signed = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            tls::Certificate::read(signed.der()).unwrap()
        };
        let token = |token: &str| HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
        let (nothing, logs) = (HeaderMap::new(), "/containerLogs/a/p/c");
        let (reader, other) = (certificate("readers"), certificate("system:nodes"));
        let get = |node: &str| (access(node), Method::GET);
        let (ours, theirs, post) = (get("n1"), get("n2"), (access("n1"), Method::POST));
        let forbidden = |outcome: &Result<(), Refusal>| matches!(outcome, Err(Refusal::Forbidden(_)));
        let check = async |(access, method): &(Auth, Method),
                           who: Option<&tls::Certificate>,
                           headers: &HeaderMap,
                           path: &str| { access.check(who, headers, method, path).await };
        assert_eq!(check(&ours, Some(&reader), &nothing, logs).await, Ok(()));
        assert_eq!(check(&ours, Some(&reader), &nothing, "/healthz").await, Ok(()), "by nodes/proxy");
        assert_eq!(check(&ours, None, &token("good"), logs).await, Ok(()));
        assert_eq!(check(&ours, None, &token("bad"), logs).await, Err(Refusal::Unknown));
        assert_eq!(check(&ours, None, &nothing, "/healthz").await, Err(Refusal::Unknown));
        assert!(forbidden(&check(&ours, Some(&other), &token("good"), logs).await), "the certificate counts");
        assert!(forbidden(&check(&theirs, Some(&reader), &nothing, logs).await));
        assert!(forbidden(&check(&post, Some(&reader), &nothing, logs).await));
        assert!(forbidden(&check(&ours, Some(&reader), &nothing, "/metrics").await));
    }
}
