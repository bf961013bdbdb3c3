//! Paths and query parameters. Pure.

use crate::kube::client::Target;

/// What a path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Resource(Target),
    /// `/`: the paths there are.
    Root,
    /// `/api`
    Api,
    /// `/apis`
    Apis,
    /// `/apis/{group}`
    Group(String),
    /// `/api/v1`, `/apis/{group}/{version}`
    GroupVersion(String, String),
    /// `/openapi/v3`
    OpenApiIndex,
    /// `/openapi/v3/{key}`
    OpenApi(String),
    OpenApiV2,
    Version,
    /// `healthz`, `livez` or `readyz`, with the single check that the path names.
    Health(Health, Option<String>),
    Metrics,
    /// The long-lived components of the process.
    Actors,
    OpenIdConfiguration,
    KeySet,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthz,
    Livez,
    Readyz,
}

impl Route {
    pub fn of(path: &str) -> Route {
        let Some(parts) = path.split('/').filter(|part| !part.is_empty()).map(decode).collect::<Option<Vec<_>>>()
        else {
            return Route::Unknown;
        };
        let words: Vec<&str> = parts.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => Route::Root,
            ["api"] => Route::Api,
            ["apis"] => Route::Apis,
            ["api", "v1"] => Route::GroupVersion(String::new(), "v1".to_owned()),
            ["api", version, rest @ ..] => resource("", version, rest),
            ["apis", group] => Route::Group((*group).to_owned()),
            ["apis", group, version] => Route::GroupVersion((*group).to_owned(), (*version).to_owned()),
            ["apis", group, version, rest @ ..] => resource(group, version, rest),
            ["openapi", "v3"] => Route::OpenApiIndex,
            ["openapi", "v3", rest @ ..] => Route::OpenApi(rest.join("/")),
            ["openapi", "v2"] => Route::OpenApiV2,
            ["version"] => Route::Version,
            ["healthz", rest @ ..] => Route::Health(Health::Healthz, check(rest)),
            ["livez", rest @ ..] => Route::Health(Health::Livez, check(rest)),
            ["readyz", rest @ ..] => Route::Health(Health::Readyz, check(rest)),
            ["metrics"] => Route::Metrics,
            ["debug", "actors"] => Route::Actors,
            [".well-known", "openid-configuration"] => Route::OpenIdConfiguration,
            ["openid", "v1", "jwks"] => Route::KeySet,
            _ => Route::Unknown,
        }
    }
}

fn check(rest: &[&str]) -> Option<String> {
    (!rest.is_empty()).then(|| rest.join("/"))
}

fn resource(group: &str, version: &str, rest: &[&str]) -> Route {
    let target = |namespace: Option<&str>, words: &[&str]| {
        let text = |at: usize| words.get(at).map(|word| (*word).to_owned());
        Route::Resource(Target {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: text(0).unwrap_or_default(),
            namespace: namespace.map(str::to_owned),
            name: text(1),
            subresource: text(2),
        })
    };
    match rest {
        // The namespace itself and its own subresources.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => target(None, rest),
        ["namespaces", namespace, words @ ..] if words.len() <= 3 => target(Some(namespace), words),
        words if words.len() <= 3 => target(None, words),
        _ => Route::Unknown,
    }
}

/// The parameters of a query, in their order.
pub fn parameters(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
    };
    query.split('&').filter(|text| !text.is_empty()).filter_map(pair).collect()
}

/// Resolves `%XX`; `None` if what comes out is not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(group: &str, resource: &str, namespace: &str, name: &str, subresource: &str) -> Route {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Route::Resource(Target {
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            namespace: some(namespace),
            name: some(name),
            subresource: some(subresource),
        })
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/", Route::Root),
            ("/api", Route::Api),
            ("/api/v1", Route::GroupVersion(String::new(), "v1".to_owned())),
            ("/api/v1/pods", target("", "pods", "", "", "")),
            ("/api/v1/nodes/n1/status", target("", "nodes", "", "n1", "status")),
            ("/api/v1/namespaces", target("", "namespaces", "", "", "")),
            ("/api/v1/namespaces/a", target("", "namespaces", "", "a", "")),
            ("/api/v1/namespaces/a/finalize", target("", "namespaces", "", "a", "finalize")),
            ("/api/v1/namespaces/a/pods/p/log", target("", "pods", "a", "p", "log")),
            ("/apis/apps/v1/namespaces/a/deployments/d/scale", target("apps", "deployments", "a", "d", "scale")),
            ("/apis/apps", Route::Group("apps".to_owned())),
            ("/openapi/v3/apis/apps/v1", Route::OpenApi("apis/apps/v1".to_owned())),
            ("/livez/ping", Route::Health(Health::Livez, Some("ping".to_owned()))),
            ("/api/v1/namespaces/a/pods/p/log/too/deep", Route::Unknown),
            ("/api/v1/pods/%ff", Route::Unknown),
            ("/favicon.ico", Route::Unknown),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }

    #[test]
    fn queries() {
        let found = parameters("labelSelector=a%3Db%2Cc+in&watch&limit=5&&x=%zz");
        let expected = [("labelSelector", "a=b,c in"), ("watch", ""), ("limit", "5")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
