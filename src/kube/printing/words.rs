//! Cells that several kinds share.

use serde_json::{Value, json};

use crate::kube::tree::{entries, items, plain, text};

pub fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

/// A number that Go writes as 0 when it is absent.
pub fn number(object: &Value, pointer: &str) -> Value {
    json!(object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0))
}

pub fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

pub fn created_at(object: &Value) -> Value {
    object["metadata"]["creationTimestamp"].clone()
}

/// `a=1,b=2` in order of the keys, `<none>` when there are none.
pub fn labels(owner: &Value, field: &str) -> Value {
    let mut pairs: Vec<String> =
        entries(owner, field).iter().map(|(key, value)| format!("{key}={}", plain(value))).collect();
    pairs.sort();
    or_none(&pairs.join(","))
}

/// A label selector: `app=x,tier in (a,b)`.
pub fn selector(selector: &Value) -> Value {
    let mut terms: Vec<(String, String)> = entries(selector, "matchLabels")
        .iter()
        .map(|(key, value)| (key.clone(), format!("{key}={}", plain(value))))
        .collect();
    for expression in items(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values: Vec<String> = items(expression, "values").iter().map(plain).collect();
        values.sort();
        let values = values.join(",");
        let term = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    or_none(&terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(","))
}

/// The names and the images of the containers of a template, or of a pod's spec.
pub fn containers_and_images(pod_spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        let all: Vec<&str> = items(pod_spec, "containers").iter().map(|container| text(container, field)).collect();
        json!(all.join(","))
    })
}

/// At most three of many: `a,b,c + 2 more...`.
pub fn some_of(all: Vec<String>) -> String {
    const SHOWN_MAX: usize = 3;
    let shown = all.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}
