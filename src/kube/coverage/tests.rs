#![allow(clippy::disallowed_methods, reason = "reads the README of this package")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::*;
use crate::kube::resources::Table;

/// How many fields nobody acts on. It may only become smaller.
const UNHEEDED: usize = 58;

/// The structs that can be reached from pods, services and what has a pod template, without those below fields of
/// nobody's.
fn reachable(schemas: &Schemas) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for resource in Table::builtin().iter() {
        let Some(object) = schemas.get(&resource.definition) else { continue };
        let Some(Type::Struct(spec)) = object.fields.get("spec").map(|spec| &spec.type_) else { continue };
        let of_template = schemas.get(spec).is_some_and(|spec| spec.fields.contains_key("template"));
        if of_template || ["Pod", "Service"].contains(&resource.kind.as_str()) {
            reach(schemas, &Type::Struct(spec.clone()), &mut found);
        }
    }
    found
}

fn reach(schemas: &Schemas, type_: &Type, found: &mut BTreeSet<String>) {
    match type_ {
        Type::List(items) | Type::Map(items) => reach(schemas, items, found),
        Type::Struct(definition) if found.insert(definition.to_string()) => {
            for (name, field) in schemas.get(definition).into_iter().flat_map(|of| &of.fields) {
                let of = short(definition);
                if by(of, name) != Some(By::Nobody) && !ACTS.contains_key(&(of, ALL)) {
                    reach(schemas, &field.type_, found);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn of_every_field_it_is_known_who_acts_on_it() {
    let schemas = Schemas::builtin();
    let reachable = reachable(&schemas);
    let mut unknown = Vec::new();
    for definition in &reachable {
        let Some(of) = schemas.get(definition) else { continue };
        let names = of.fields.keys().filter(|name| by(short(definition), name).is_none());
        unknown.extend(names.map(|name| format!("{}.{name}", short(definition))));
    }
    assert!(unknown.is_empty(), "enter them in the table: {unknown:#?}");
}

#[test]
fn the_table_knows_each_field_once_and_no_other() {
    let schemas = Schemas::builtin();
    let reachable = reachable(&schemas);
    let mut seen = BTreeSet::new();
    for (of, _, fields) in FIELDS {
        let definition = reachable.iter().find(|definition| short(definition) == *of);
        let definition = definition.unwrap_or_else(|| panic!("{of} can't be reached"));
        for field in fields.split_whitespace() {
            assert!(seen.insert((of, field)), "{of}.{field} is there twice");
            let known = &schemas.get(definition).expect("it was reached").fields;
            assert!(field == ALL || known.contains_key(field), "{of} has no {field}");
        }
    }
    for (of, field, _) in HARMLESS {
        assert_eq!(by(of, field), Some(By::Nobody), "{of}.{field}");
    }
}

#[test]
fn what_nobody_acts_on_becomes_less_and_the_readme_names_it() {
    let (mut count, mut text) = (0, String::new());
    for (of, _, fields) in FIELDS.iter().filter(|(_, by, _)| *by == By::Nobody) {
        let names: Vec<String> = fields.split_whitespace().map(|field| format!("`{field}`")).collect();
        count += names.len();
        writeln!(text, "| `{of}` | {} |", names.join(", ")).unwrap();
    }
    assert_eq!(count, UNHEEDED, "it may only become smaller");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.contains(&text), "README.md has to name, in this form:\n{text}");
}

fn told(kind: &str, object: Value, old: Option<Value>) -> Vec<String> {
    let definition = format!("io.k8s.api.{kind}");
    let all = warnings(&Schemas::builtin(), &definition, &object, old.as_ref());
    let suffix = ": accepted, but not acted on yet";
    all.into_iter().map(|text| text.strip_suffix(suffix).expect("all say the same").to_owned()).collect()
}

#[test]
fn clients_are_told_of_what_they_send() {
    let spec = json!({
        "runtimeClassName": "kata", "hostUsers": true, "os": {"name": "linux"}, "ephemeralContainers": [],
        "containers": [{"name": "c", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}],
        "volumes": [{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "b", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}, {"name": "c", "nfs": {"path": "/"}}],
    });
    let paths = |at: &str| {
        ["runtimeClassName", "containers[0].resizePolicy", "volumes[0].emptyDir.sizeLimit", "volumes[2].nfs"]
            .map(|path| format!("{at}.{path}"))
    };
    assert_eq!(told("core.v1.Pod", json!({"spec": spec}), None), paths("spec"));
    let deployment = json!({"spec": {"template": {"spec": spec}}});
    assert_eq!(told("apps.v1.Deployment", deployment.clone(), None), paths("spec.template.spec"));
    assert!(told("apps.v1.Deployment", deployment.clone(), Some(deployment)).is_empty(), "it was told before");
    let service = json!({"spec": {"sessionAffinity": "None", "internalTrafficPolicy": "Local"}});
    assert_eq!(told("core.v1.Service", service, None), ["spec.internalTrafficPolicy"]);
}
