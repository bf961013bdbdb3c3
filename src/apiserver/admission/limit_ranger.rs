//! LimitRanger: the default requests and limits of containers, and the minima and maxima of a namespace.

use serde_json::{Value, json};

use crate::apiserver::storage::Write;
use crate::kube::quantity::Quantity;
use crate::kube::status::Status;
use crate::kube::tree::{get_mut, items, items_mut};

use super::usage::{Usage, amounts, pod_resources};
use super::{Admission, AdmissionAttributes};

impl Admission {
    /// Fills in the requests and limits that containers leave out. The write holds only if no LimitRange is newer than
    /// the cache.
    pub(super) async fn admit_limits(
        &self,
        attributes: &AdmissionAttributes<'_>,
        pod: &mut Value,
    ) -> Result<Write, Status> {
        let view = self.view("limitranges", attributes).await?;
        for (_, item) in view.select(attributes.namespace) {
            apply_defaults(&item.object.value(), pod);
        }
        Ok(Write::default().if_none_written(&self.range("limitranges", attributes), view.revision))
    }

    /// Refuses a pod whose requests or limits are outside what its namespace allows.
    pub(super) async fn validate_limits(
        &self,
        attributes: &AdmissionAttributes<'_>,
        pod: &Value,
    ) -> Result<(), Status> {
        let mut problems = Vec::new();
        for (_, item) in self.view("limitranges", attributes).await?.select(attributes.namespace) {
            find_problems(&item.object.value(), pod, &mut problems);
        }
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(attributes.forbidden(one)),
            all => Err(attributes.forbidden(format!("[{}]", all.join(", ")))),
        }
    }
}

fn limits_of<'a>(range: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    items(&range["spec"], "limits").iter().filter(move |limit| limit["type"] == kind)
}

fn apply_defaults(range: &Value, pod: &mut Value) {
    for limit in limits_of(range, "Container") {
        for list in ["containers", "initContainers"] {
            for container in get_mut(pod, "spec").into_iter().flat_map(|spec| items_mut(spec, list)) {
                let own_limits = container["resources"]["limits"].clone();
                fill(container, "limits", &limit["default"]);
                // A container that limits itself, and requests nothing, requests its limit.
                fill(container, "requests", &own_limits);
                fill(container, "requests", &limit["defaultRequest"]);
            }
        }
    }
}

fn fill(container: &mut Value, part: &str, defaults: &Value) {
    for (name, amount) in defaults.as_object().into_iter().flatten() {
        if container["resources"][part][name].is_null() {
            if container["resources"].is_null() {
                container["resources"] = json!({});
            }
            container["resources"][part][name] = amount.clone();
        }
    }
}

fn find_problems(range: &Value, pod: &Value, problems: &mut Vec<String>) {
    for limit in limits_of(range, "Container") {
        for list in ["containers", "initContainers"] {
            for container in items(&pod["spec"], list) {
                let resources = &container["resources"];
                let asked = [amounts(&resources["requests"]).collect(), amounts(&resources["limits"]).collect()];
                check(limit, "Container", &asked, problems);
            }
        }
    }
    for limit in limits_of(range, "Pod") {
        check(limit, "Pod", &[pod_resources(pod, "requests"), pod_resources(pod, "limits")], problems);
    }
}

/// `asked`: requests and limits.
fn check(limit: &Value, what: &str, asked: &[Usage; 2], problems: &mut Vec<String>) {
    let [requests, limits] = asked;
    for (name, min) in amounts(&limit["min"]) {
        match requests.get(&name) {
            None => problems.push(format!("minimum {name} usage per {what} is {min}.  No request is specified")),
            Some(request) if *request < min => {
                problems.push(format!("minimum {name} usage per {what} is {min}, but request is {request}"));
            }
            Some(_) => {}
        }
        if let Some(own) = limits.get(&name).filter(|own| **own < min) {
            problems.push(format!("minimum {name} usage per {what} is {min}, but limit is {own}"));
        }
    }
    for (name, max) in amounts(&limit["max"]) {
        match limits.get(&name) {
            None => problems.push(format!("maximum {name} usage per {what} is {max}.  No limit is specified")),
            Some(own) if *own > max => {
                problems.push(format!("maximum {name} usage per {what} is {max}, but limit is {own}"));
            }
            Some(_) => {}
        }
        if let Some(request) = requests.get(&name).filter(|request| **request > max) {
            problems.push(format!("maximum {name} usage per {what} is {max}, but request is {request}"));
        }
    }
    for (name, ratio) in amounts(&limit["maxLimitRequestRatio"]) {
        check_ratio(&name, what, &ratio, requests.get(&name), limits.get(&name), problems);
    }
}

fn check_ratio(
    name: &str,
    what: &str,
    ratio: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    problems: &mut Vec<String>,
) {
    let (Some(request), Some(limit)) = (request, limit) else {
        problems.push(format!(
            "{name} max limit to request ratio per {what} is {ratio}, but no request is specified or request is 0"
        ));
        return;
    };
    let (request, limit, most) = (request.millis() as f64, limit.millis() as f64, ratio.millis() as f64 / 1000.0);
    if request <= 0.0 || limit / request > most {
        problems.push(format!(
            "{name} max limit to request ratio per {what} is {ratio}, but provided ratio is {:.6}",
            limit / request
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Value {
        json!({"spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"}, "defaultRequest": {"cpu": "100m"},
             "max": {"cpu": "1"}, "min": {"cpu": "50m"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
        ]}})
    }

    #[test]
    fn containers_get_what_they_do_not_ask_for() {
        let mut pod =
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "200m"}}}]}});
        apply_defaults(&range(), &mut pod);
        let resources = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(*resources, json!({"limits": {"cpu": "500m", "memory": "512Mi"}, "requests": {"cpu": "100m"}}));
        let own = &pod["spec"]["containers"][1]["resources"];
        assert_eq!(own["limits"]["cpu"], "200m");
        assert_eq!(own["requests"]["cpu"], "200m");
    }

    #[test]
    fn too_little_and_too_much_are_refused() {
        let container = |request: &str, limit: &str| json!({"resources": {"requests": {"cpu": request}, "limits": {"cpu": limit, "memory": "600Mi"}}});
        let table = [
            (json!([container("100m", "1")]), vec![]),
            (json!([container("10m", "1")]), vec!["minimum cpu usage per Container is 50m, but request is 10m"]),
            (json!([container("1", "2")]), vec!["maximum cpu usage per Container is 1, but limit is 2"]),
            (
                json!([container("100m", "1"), container("100m", "1")]),
                vec!["maximum memory usage per Pod is 1Gi, but limit is 1200Mi"],
            ),
        ];
        for (containers, expected) in table {
            let mut problems = Vec::new();
            find_problems(&range(), &json!({"spec": {"containers": containers}}), &mut problems);
            assert_eq!(problems, expected);
        }
    }
}
