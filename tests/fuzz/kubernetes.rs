//! Bodies, patches and selectors of Kubernetes clients.

use chorus::kube::client::PatchType;
use chorus::kube::field_selector::FieldSelector;
use chorus::kube::managed_fields::{self, Manager};
use chorus::kube::object::Object;
use chorus::kube::patch::patch;
use chorus::kube::quantity::Quantity;
use chorus::kube::resources::{Resource, Subresource, Table};
use chorus::kube::schema::{FieldValidation, Format, Schemas};
use chorus::kube::selector::Selector;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::rbac::v1::Role;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::mutate::bend;

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"d","labels":{"a":"b"},
    "annotations":{"x":"y"},"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"u"}],"finalizers":["a/b"]},
    "spec":{"containers":[{"name":"c","image":"i:1","env":[{"name":"A","value":"$(B)"},{"name":"F","valueFrom":
    {"fieldRef":{"fieldPath":"metadata.name"}}}],"ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"requests":
    {"cpu":"100m","memory":"1.5Gi"}},"livenessProbe":{"httpGet":{"path":"/","port":"http"},"periodSeconds":3},
    "volumeMounts":[{"name":"v","mountPath":"/m"}]}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1e3"}}],
    "tolerations":[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}],"affinity":{"nodeAffinity":
    {"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"z","operator":"In",
    "values":["1"]}]}]}}},"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"}]}}"#;
const DEPLOYMENT: &str = r#"{"metadata":{"name":"w","namespace":"d","creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{
    "replicas":3,"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"NotIn","values":["d"]}]},
    "strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},"template":{"metadata":{"labels":{"a":"b"}},
    "spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
const SERVICE: &str = r#"{"metadata":{"name":"s","namespace":"d"},"spec":{"type":"NodePort","clusterIP":"10.0.0.1",
    "selector":{"a":"b"},"ports":[{"name":"http","port":80,"targetPort":"web","nodePort":30080},{"name":"b","port":53,
    "protocol":"UDP","targetPort":53}],"sessionAffinity":"ClientIP"}}"#;
const ROLE: &str =
    r#"{"metadata":{"name":"r","namespace":"d"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["*"]}]}"#;

/// A kind, an object of it, and whether an object is one to those who read it from the store.
type Sample = (&'static str, &'static str, &'static str, fn(&Object) -> bool);

const SAMPLES: [Sample; 4] = [
    ("v1", "Pod", POD, is::<Pod>),
    ("apps/v1", "Deployment", DEPLOYMENT, is::<Deployment>),
    ("v1", "Service", SERVICE, is::<Service>),
    ("rbac.authorization.k8s.io/v1", "Role", ROLE, is::<Role>),
];

fn is<K: DeserializeOwned>(object: &Object) -> bool {
    object.decode::<K>().is_ok()
}

/// What a create makes of a body that it lets in.
fn created(resource: &Resource, body: &[u8], format: Format) -> Option<Value> {
    let decoded = Schemas::builtin().decode(resource, body, format, FieldValidation::Warn).ok()?;
    let mut object = decoded.object;
    resource.default(&mut object);
    resource.prepare_for_create(&mut object);
    resource.validate_create(&object).ok().map(|()| object)
}

#[test]
fn bodies() {
    let samples = SAMPLES.map(|(.., body, _)| body.as_bytes().to_vec());
    let mut turn = 0;
    bend("bodies", &samples, |bytes| {
        turn += 1;
        let format = if turn % 8 == 0 { Format::Yaml } else { Format::Json };
        for (api_version, kind, _, is_one) in SAMPLES {
            let table = Table::builtin();
            let resource = table.by_kind(api_version, kind).unwrap();
            if let Some(object) = created(resource, bytes, format) {
                let stored = Object::from_value(&object).expect("it has the metadata of an object");
                assert!(is_one(&stored), "{kind} is let in and cannot be read: {object}");
            }
        }
    });
}

#[test]
fn patches() {
    let samples = [
        r#"[{"op":"add","path":"/metadata/labels/x~1y","value":"1"},{"op":"remove","path":"/spec/containers/0/env"},
            {"op":"copy","from":"/spec","path":"/spec/a"},{"op":"test","path":"/kind","value":"Pod"}]"#,
        r#"[{"op":"move","from":"/metadata/labels","path":"/metadata/annotations"},{"op":"replace","path":"","value":{}}]"#,
        r#"{"metadata":{"labels":{"a":null}},"spec":{"containers":[{"name":"c","image":"j"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"c"},{"name":"d"}],"containers":[{"$patch":"delete","name":"c"},
            {"name":"d","image":"k","ports":[{"containerPort":1},{"$patch":"replace"}]}],"$retainKeys":["containers"],
            "tolerations":[{"$patch":"merge"}]},"metadata":{"$deleteFromPrimitiveList/finalizers":["a/b"],"finalizers":["c/d"]}}"#,
        POD,
    ];
    let samples = samples.map(|patch| patch.as_bytes().to_vec());
    let (table, schemas) = (Table::builtin(), Schemas::builtin());
    let resource = table.by_kind("v1", "Pod").unwrap();
    let old = created(resource, POD.as_bytes(), Format::Json).expect("the sample is valid");
    let manager = Manager { name: "m", api_version: "v1", subresource: None, time: "2026-01-01T00:00:00Z" };
    bend("patches", &samples, |bytes| {
        for kind in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
            let Ok(new) = patch(&schemas, &resource.definition, kind, bytes, &old) else { continue };
            let Ok(decoded) = schemas.decode_patched(resource, new, FieldValidation::Warn, String::new) else {
                continue;
            };
            let mut new = decoded.object;
            resource.default(&mut new);
            resource.prepare_for_update(Subresource::None, &mut new, &old);
            if resource.validate_update(Subresource::None, &new, &old).is_ok() {
                managed_fields::track(&schemas, &resource.definition, Some(&old), &mut new, &manager);
                let stored = Object::from_value(&new).expect("it has the metadata of an object");
                assert!(is::<Pod>(&stored), "a patched pod cannot be read: {new}");
            }
        }
    });
}

#[test]
fn selectors_and_quantities() {
    let samples = [
        "app=www,tier in (web, cache),!legacy,x notin (),y>1,z<-2,w!=",
        "metadata.name=a,spec.nodeName!=b\\,c,status.phase==Failed",
        "example.com/a-b.c_d exists",
        "-1.5e-3Ki",
        "9223372036854775807m",
        "0.000000000000000000001E",
    ];
    let samples = samples.map(|text| text.as_bytes().to_vec());
    let table = Table::builtin();
    let pods = table.by_kind("v1", "Pod").unwrap();
    let pod: Value = serde_json::from_str(POD).unwrap();
    let labels = [("app".to_owned(), "www".to_owned()), ("y".to_owned(), "2".to_owned())].into();
    bend("selectors", &samples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(selector) = text.parse::<Selector>() {
            selector.matches(&labels);
            let again = selector.to_string().parse::<Selector>().map(|again| again.to_string());
            assert_eq!(again, Ok(selector.to_string()), "{text:?} does not read as it is written");
        }
        if let Ok(selector) = FieldSelector::parse(&text, pods) {
            selector.matches(pods, &pod);
        }
        if let Ok(quantity) = text.parse::<Quantity>() {
            let (again, wire) = (quantity.to_wire().0.parse::<Quantity>(), quantity.to_wire());
            assert_eq!(again.map(|again| again.to_wire()), Ok(wire), "{text:?} has no canonical form");
        }
    });
}
