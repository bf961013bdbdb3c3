//! The rules of volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common::{one_of, quantity, required, well_formed};
use super::field::{FieldErrors, Path};
use crate::kube::names;
use crate::kube::tree::{has, items, text};

const FILE_MODE_MAX: i64 = 0o777;
const HOST_PATH_TYPES: [&str; 7] =
    ["BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The volumes of a pod's spec; returns their names, which mounts refer to.
pub(super) fn volumes(spec: &Value, path: &Path, errors: &mut FieldErrors) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        let path = path.child("volumes").index(index);
        let name = text(volume, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            well_formed(names::dns_label(name, false), name, &path.child("name"), errors);
            if !seen.insert(name.to_owned()) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        source(volume, &path, errors);
    }
    seen
}

fn source(volume: &Value, path: &Path, errors: &mut FieldErrors) {
    let fields = volume.as_object().into_iter().flatten();
    let given: Vec<&str> =
        fields.filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key.as_str()).collect();
    for more in given.iter().skip(1) {
        errors.forbidden(&path.child(more), "may not specify more than 1 volume type");
    }
    let Some(kind) = given.first() else {
        errors.required(path, "must specify a volume type");
        return;
    };
    let (source, path) = (&volume[*kind], path.child(kind));
    match *kind {
        "emptyDir" if has(source, "sizeLimit") => {
            quantity(&source["sizeLimit"], &path.child("sizeLimit"), errors);
        }
        "hostPath" => host_path(source, &path, errors),
        "configMap" => {
            required(source, "name", &path, errors);
            files(source, &path, errors);
        }
        "secret" => {
            required(source, "secretName", &path, errors);
            files(source, &path, errors);
        }
        "downwardAPI" => mode(source, "defaultMode", &path, errors),
        "projected" => projected(source, &path, errors),
        "persistentVolumeClaim" => {
            required(source, "claimName", &path, errors);
        }
        "nfs" => {
            required(source, "server", &path, errors);
            required(source, "path", &path, errors);
        }
        _ => {}
    }
}

fn host_path(source: &Value, path: &Path, errors: &mut FieldErrors) {
    if required(source, "path", path, errors) && text(source, "path").split('/').any(|part| part == "..") {
        errors.invalid(&path.child("path"), text(source, "path"), "must not contain '..'");
    }
    one_of(source, "type", &HOST_PATH_TYPES, path, errors);
}

fn projected(source: &Value, path: &Path, errors: &mut FieldErrors) {
    mode(source, "defaultMode", path, errors);
    for (index, projection) in items(source, "sources").iter().enumerate() {
        let path = path.child("sources").index(index);
        let count = projection.as_object().map_or(0, |map| map.values().filter(|value| !value.is_null()).count());
        if count == 0 {
            errors.required(&path, "must specify exactly one of the sources");
        }
        if count > 1 {
            errors.forbidden(&path, "may not specify more than 1 volume type per source");
        }
        for kind in ["configMap", "secret"] {
            if has(projection, kind) {
                required(&projection[kind], "name", &path.child(kind), errors);
                files(&projection[kind], &path.child(kind), errors);
            }
        }
        let token = &projection["serviceAccountToken"];
        if token.is_object() {
            let path = path.child("serviceAccountToken");
            required(token, "path", &path, errors);
            if token["expirationSeconds"].as_i64().is_some_and(|seconds| seconds < 600) {
                let seconds = token["expirationSeconds"].clone();
                errors.invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
        }
    }
}

/// The items of a volume made of an object: which key becomes which file.
fn files(source: &Value, path: &Path, errors: &mut FieldErrors) {
    mode(source, "defaultMode", path, errors);
    for (index, item) in items(source, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        required(item, "key", &path, errors);
        if required(item, "path", &path, errors) {
            let file = text(item, "path");
            if file.starts_with('/') {
                errors.invalid(&path.child("path"), file, "must be a relative path");
            }
            if file.split('/').any(|part| part == "..") {
                errors.invalid(&path.child("path"), file, "must not contain '..'");
            }
        }
        mode(item, "mode", &path, errors);
    }
}

fn mode(source: &Value, field: &str, path: &Path, errors: &mut FieldErrors) {
    if let Some(mode) = source[field].as_i64()
        && !(0..=FILE_MODE_MAX).contains(&mode)
    {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(&path.child(field), mode, detail);
    }
}
