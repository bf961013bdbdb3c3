//! `meta.k8s.io/v1 Table` and `PartialObjectMetadata`.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// `string`, `integer`, `boolean`, ...
    pub type_: String,
    /// `name` marks the column that names the object.
    pub format: String,
    pub description: String,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u32,
}

/// The cells of one object, one a column, at a moment that ages are counted from.
pub type Row = Arc<dyn Fn(&Value, Timestamp) -> Vec<Value> + Send + Sync>;

/// How objects of a resource look in a table.
#[derive(Clone)]
pub struct Printer {
    pub columns: Vec<Column>,
    pub row: Row,
}

impl Printer {
    /// `columns`: name, type and priority.
    pub fn new(
        columns: &[(&str, &str, u32)],
        row: impl Fn(&Value, Timestamp) -> Vec<Value> + Send + Sync + 'static,
    ) -> Printer {
        let columns = columns.iter().map(|&(name, type_, priority)| Column {
            name: name.to_owned(),
            type_: type_.to_owned(),
            format: if name == "Name" { "name".to_owned() } else { String::new() },
            description: format!("{name} of the object, as `kubectl get` shows it."),
            priority,
        });
        Printer { columns: columns.collect(), row: Arc::new(row) }
    }

    /// For kinds that nothing more is known of.
    pub fn name_and_age() -> Printer {
        Printer::new(&[("Name", "string", 0), ("Age", "string", 0)], |object, now| {
            vec![object["metadata"]["name"].clone(), age::of(object, now)]
        })
    }
}

/// What goes into the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObjectPolicy {
    None,
    /// The metadata only; the default.
    #[default]
    Metadata,
    Object,
}

#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    pub include_object: IncludeObjectPolicy,
    /// Events of a watch after the first leave the column definitions out.
    pub no_headers: bool,
}

/// A `Table` of `objects`. `list_metadata` is the metadata of the list (or `{"resourceVersion": ...}` of one object).
pub fn render_table<'a>(
    printer: &Printer,
    objects: impl IntoIterator<Item = &'a Value>,
    list_metadata: Value,
    now: Timestamp,
    options: &TableOptions,
) -> Value {
    let rows: Vec<Value> =
        objects.into_iter().map(|object| row(printer, object, now, options.include_object)).collect();
    let columns: Vec<Value> = match options.no_headers {
        true => Vec::new(),
        false => printer.columns.iter().map(column).collect(),
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(printer: &Printer, object: &Value, now: Timestamp, include_object: IncludeObjectPolicy) -> Value {
    let cells = (printer.row)(object, now);
    match include_object {
        IncludeObjectPolicy::None => json!({"cells": cells}),
        IncludeObjectPolicy::Metadata => json!({"cells": cells, "object": partial_metadata(object)}),
        IncludeObjectPolicy::Object => json!({"cells": cells, "object": object}),
    }
}

/// The object reduced to its metadata: `PartialObjectMetadata`.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// A list reduced to metadata: `PartialObjectMetadataList`.
pub fn partial_metadata_list<'a>(objects: impl IntoIterator<Item = &'a Value>, list_metadata: Value) -> Value {
    let items: Vec<Value> = objects.into_iter().map(partial_metadata).collect();
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "items": items,
    })
}
