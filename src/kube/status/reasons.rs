//! A constructor for every refusal. Groups are `""` for core; `resource` is the plural.

use super::{Cause, Details, Status};

/// `pods` or `deployments.apps`.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// `pods "www"`, or `pods` alone when there is no name.
fn subject(group: &str, resource: &str, name: &str) -> String {
    let qualified = qualified(group, resource);
    if name.is_empty() { qualified } else { format!("{qualified} {name:?}") }
}

fn about(group: &str, kind: &str, name: &str) -> Details {
    Details { name: name.to_owned(), group: group.to_owned(), kind: kind.to_owned(), ..Details::default() }
}

/// What an authorizer refused: the words of its message.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthorizerAttributes<'a> {
    pub user: &'a str,
    pub verb: &'a str,
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    pub subresource: Option<&'a str>,
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
    /// The reason that the authorizer gives, or empty.
    pub reason: &'a str,
}

impl Status {
    /// The object was deleted and nothing of it is left to show.
    pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Status {
        let details = Details { uid: uid.to_owned(), ..about(group, resource, name) };
        Status::new(200, "", "").with_details(details)
    }

    /// A request was accepted and left nothing to show (bindings, evictions): code 201.
    pub fn created() -> Status {
        Status::new(201, "", "")
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// An admission step or a rule of the API refuses: `pods "www" is forbidden: exceeded quota ...`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Status {
        let message = format!("{} is forbidden: {why}", subject(group, resource, name));
        Status::new(403, "Forbidden", message).with_details(about(group, resource, name))
    }

    /// No authorizer allowed the request.
    pub fn forbidden_by_authorizer(attributes: AuthorizerAttributes<'_>) -> Status {
        let AuthorizerAttributes { user, verb, group, resource, subresource, namespace, name, reason } = attributes;
        let resource_path = subresource.map_or(resource.to_owned(), |sub| format!("{resource}/{sub}"));
        let place = match namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        let mut why = format!("User {user:?} cannot {verb} resource {resource_path:?} in API group {group:?} {place}");
        if !reason.is_empty() {
            why.push_str(": ");
            why.push_str(reason);
        }
        Status::forbidden(group, resource, name.unwrap_or_default(), why)
    }

    /// No authorizer allowed a path that is not a resource.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Status {
        let message = format!("forbidden: User {user:?} cannot {verb} path {path:?}");
        Status::new(403, "Forbidden", message).with_details(Details::default())
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} not found", subject(group, resource, name));
        Status::new(404, "NotFound", message).with_details(about(group, resource, name))
    }

    /// There is no such resource or path.
    pub fn no_such_resource() -> Status {
        Status::new(404, "NotFound", "the server could not find the requested resource")
            .with_details(Details::default())
    }

    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Status {
        let message = format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource));
        Status::new(405, "MethodNotAllowed", message).with_details(about(group, resource, ""))
    }

    pub fn not_acceptable(accepted: &[&str]) -> Status {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Status::new(406, "NotAcceptable", message)
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} already exists", subject(group, resource, name));
        Status::new(409, "AlreadyExists", message).with_details(about(group, resource, name))
    }

    /// Every name that was generated is taken.
    pub fn generated_name_exists(group: &str, resource: &str, name: &str) -> Status {
        let mut status = Status::already_exists(group, resource, name).retry_after(1);
        status.message.push_str(", the server was not able to generate a unique name for the object");
        status
    }

    /// The write cannot be done against the object as it is now.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Status {
        let subject = subject(group, resource, name);
        let message = format!("Operation cannot be fulfilled on {subject}: {why}");
        Status::new(409, "Conflict", message).with_details(about(group, resource, name))
    }

    /// The resource version of the request is not the current one.
    pub fn modified(group: &str, resource: &str, name: &str) -> Status {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }

    /// A uid precondition fails.
    pub fn uid_mismatch(group: &str, resource: &str, name: &str, wanted: &str, found: &str) -> Status {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
        Status::conflict(group, resource, name, why)
    }

    /// A resource version precondition of a deletion fails.
    pub fn resource_version_mismatch(group: &str, resource: &str, name: &str, wanted: &str, found: &str) -> Status {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {found}"
        );
        Status::conflict(group, resource, name, why)
    }

    /// A list or watch asks for a revision that was compacted away.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    /// A watch begins before the oldest revision that is left.
    pub fn watch_expired(wanted: i64, oldest: i64) -> Status {
        Status::expired(format!("too old resource version: {wanted} ({oldest})"))
    }

    /// A continue token is older than the history; `continue_token` continues the list, inconsistently.
    pub fn continue_expired(continue_token: Option<String>) -> Status {
        let message = match continue_token {
            None => {
                "The provided continue parameter is too old to display a consistent list result. You must start a \
                 new list without the continue parameter."
            }
            Some(_) => {
                "The provided continue parameter is too old to display a consistent list result. You can start a new \
                 list without the continue parameter, or use the continue token in this response to retrieve the \
                 remainder of the results. Continuing with the provided token results in an inconsistent list - \
                 objects that were created, modified, or deleted between the time the first chunk was returned and \
                 now may show up in the list."
            }
        };
        Status { continue_token, ..Status::expired(message) }
    }

    pub fn request_entity_too_large(bytes_max: usize) -> Status {
        let message = format!("Request entity too large: limit is {bytes_max}");
        Status::new(413, "RequestEntityTooLarge", message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let accepted = accepted.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// The object breaks a rule. `kind` is the kind (`Pod`), `causes` come from `validation`.
    pub fn invalid_with(group: &str, kind: &str, name: &str, text: &str, causes: Vec<Cause>) -> Status {
        let message = format!("{} {name:?} is invalid: {text}", qualified(group, kind));
        Status::new(422, "Invalid", message).with_details(Details { causes, ..about(group, kind, name) })
    }

    pub fn too_many_requests(retry_after_seconds: u32) -> Status {
        let message = "too many requests, please try again later";
        Status::new(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    pub fn internal_error(why: impl std::fmt::Display) -> Status {
        let why = why.to_string();
        let cause = Cause { message: why.clone(), ..Cause::default() };
        Status::new(500, "InternalError", format!("Internal error occurred: {why}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
    }

    /// The server could not do it now, and surely did not: try again.
    pub fn server_timeout(group: &str, resource: &str, verb: &str, retry_after_seconds: u32) -> Status {
        let resource_path = qualified(group, resource);
        let message = format!(
            "The {verb} operation against {resource_path} could not be completed at this time, please try again."
        );
        Status::new(500, "ServerTimeout", message)
            .with_details(about(group, resource, ""))
            .retry_after(retry_after_seconds)
    }

    pub fn service_unavailable(why: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", why)
    }

    /// The deadline passed. A write may have happened.
    pub fn timeout(why: impl std::fmt::Display) -> Status {
        Status::new(504, "Timeout", format!("Timeout: {why}")).with_details(Details::default())
    }

    /// A read asks for a revision that this frontend has not seen yet.
    pub fn resource_version_too_large(wanted: u64, current: u64) -> Status {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        Status::new(504, "Timeout", format!("Timeout: Too large resource version: {wanted}, current: {current}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
            .retry_after(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_clients_match() {
        let attributes = AuthorizerAttributes {
            user: "u",
            verb: "get",
            resource: "pods",
            namespace: Some("n"),
            ..AuthorizerAttributes::default()
        };
        let named = AuthorizerAttributes {
            user: "u",
            verb: "update",
            group: "apps",
            resource: "deployments",
            subresource: Some("scale"),
            name: Some("web"),
            namespace: Some("n"),
            ..AuthorizerAttributes::default()
        };
        let table = [
            (Status::not_found("apps", "deployments", "x"), 404, "deployments.apps \"x\" not found"),
            (Status::already_exists("", "pods", "x"), 409, "pods \"x\" already exists"),
            (
                Status::modified("", "pods", "x"),
                409,
                "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes \
                 to the latest version and try again",
            ),
            (
                Status::forbidden_by_authorizer(attributes),
                403,
                "pods is forbidden: User \"u\" cannot get resource \"pods\" in API group \"\" in the namespace \"n\"",
            ),
            (
                Status::forbidden_by_authorizer(named),
                403,
                "deployments.apps \"web\" is forbidden: User \"u\" cannot update resource \"deployments/scale\" in API \
                 group \"apps\" in the namespace \"n\"",
            ),
            (Status::watch_expired(1, 5), 410, "too old resource version: 1 (5)"),
            (Status::request_entity_too_large(3 << 20), 413, "Request entity too large: limit is 3145728"),
            (Status::internal_error("boom"), 500, "Internal error occurred: boom"),
        ];
        for (status, code, message) in table {
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }
}
