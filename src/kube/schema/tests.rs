use serde_json::{Value, json};

use super::*;

fn decode(kind: &str, body: Value, validation: FieldValidation) -> Result<Decoded, String> {
    let table = Table::builtin();
    let resource = table.iter().find(|resource| resource.kind == kind).unwrap();
    let body = body.to_string();
    Schemas::builtin()
        .decode(resource, body.as_bytes(), Format::Json, validation)
        .map_err(|status| format!("{} {}", status.code, status.message))
}

#[test]
fn every_entry_has_a_schema() {
    let schemas = Schemas::builtin();
    for resource in Table::builtin().iter() {
        let schema = schemas.get(&resource.definition).unwrap_or_else(|| panic!("no schema of {resource:?}"));
        assert!(schema.fields.contains_key("metadata"), "{resource:?}");
    }
}

#[test]
fn every_reference_leads_to_a_struct() {
    let schemas = Schemas::builtin();
    fn target(type_: &Type) -> Option<&str> {
        match type_ {
            Type::Struct(name) => Some(name),
            Type::Map(inner) | Type::List(inner) => target(inner),
            _ => None,
        }
    }
    for (name, schema) in schemas.structs() {
        for (field, described) in &schema.fields {
            if let Some(target) = target(&described.type_) {
                assert!(schemas.get(target).is_some(), "{name}.{field} leads to {target}");
            }
        }
    }
}

#[test]
fn unknown_and_wrong_fields_have_the_texts_clients_know() {
    let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec});
    let front = "400 Pod in version \"v1\" cannot be handled as a Pod: ";
    let table = [
        (pod(json!({"colour": 1})), "strict decoding error: unknown field \"spec.colour\""),
        (
            pod(json!({"containers": [{"name": "a", "imag": "b"}]})),
            "strict decoding error: unknown field \"spec.containers[0].imag\"",
        ),
        (
            pod(json!({"containers": "x"})),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            pod(json!({"containers": [{"ports": [{"containerPort": "80"}]}]})),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of \
             type int32",
        ),
        (
            pod(json!({"containers": [{"ports": [{"containerPort": 1.5}]}]})),
            "json: cannot unmarshal number 1.5 into Go struct field \
             ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            pod(json!({"containers": [{"resources": {"requests": {"cpu": "lots"}}}]})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
    ];
    for (body, text) in table {
        assert_eq!(decode("Pod", body, FieldValidation::Strict).unwrap_err(), format!("{front}{text}"));
    }
}

#[test]
fn unknown_fields_are_pruned_and_told() {
    let body = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "data": {"k": "v"}, "colour": 1});
    let decoded = decode("ConfigMap", body, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings, ["unknown field \"colour\""]);
    assert_eq!(
        decoded.object,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "x", "labels": {"a": "b"}}, "data": {"k": "v"},
        })
    );
}

#[test]
fn doubled_fields_are_strict_errors() {
    let table = Table::builtin();
    let resource = table.get("", "v1", "configmaps").unwrap();
    let body = br#"{"metadata":{"name":"a","name":"b"}}"#;
    let error = Schemas::builtin().decode(resource, body, Format::Json, FieldValidation::Strict).unwrap_err();
    assert!(error.message.ends_with("strict decoding error: duplicate field \"metadata.name\""), "{error}");
}

#[test]
fn another_kind_or_version_is_refused() {
    let other = decode("Pod", json!({"apiVersion": "apps/v1", "kind": "Deployment"}), FieldValidation::Ignore);
    let text = "400 the API version in the data (apps/v1) does not match the expected API version (v1)";
    assert_eq!(other.unwrap_err(), text);
    decode("Pod", json!({"apiVersion": "v1", "kind": "Service"}), FieldValidation::Ignore).unwrap_err();
}

#[test]
fn values_take_their_canonical_form() {
    let body = json!({"spec": {
        "containers": [{
            "name": "a",
            "resources": {"requests": {"cpu": 0.5, "memory": "1024Mi"}},
            "livenessProbe": {"httpGet": {"port": 8080.0}, "periodSeconds": 1e1},
            "args": null,
        }],
    }, "metadata": {"creationTimestamp": "2026-01-01T01:00:00.5+01:00"}});
    let object = decode("Pod", body, FieldValidation::Strict).unwrap().object;
    let container = &object["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    assert_eq!(container["livenessProbe"], json!({"httpGet": {"port": 8080}, "periodSeconds": 10}));
    assert_eq!(container.get("args"), None);
    assert_eq!(object["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    let lease = decode("Lease", json!({"spec": {"renewTime": "2026-01-01T00:00:00.5Z"}}), FieldValidation::Strict);
    assert_eq!(lease.unwrap().object["spec"]["renewTime"], "2026-01-01T00:00:00.500000Z");
}
