//! Lists in a strategic merge: joined by merge key or as sets, then put in order.

use serde_json::{Map, Value};

use super::directives::{DIRECTIVE, Error, ListDirectives, plain};

/// Joins two lists of maps whose items are identified by `merge_key`; `merge_item` merges one item with its patch.
pub(super) fn merge_maps(
    original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
    merge_item: impl Fn(Map<String, Value>, Map<String, Value>) -> Result<Map<String, Value>, Error>,
    directives: ListDirectives<'_>,
    field: &str,
) -> Result<Vec<Value>, Error> {
    let Sorted { items: patch, deleted, replaces } = sort_out(patch, merge_key)?;
    let server_order: Vec<Value> = original.iter().map(|item| item[merge_key].clone()).collect();
    let mut merged = if replaces { Vec::new() } else { original };
    merged.retain(|item| !deleted.contains(&item[merge_key]));
    let keys: Vec<Value> = patch.iter().map(|item| item[merge_key].clone()).collect();
    for item in patch {
        let place = merged.iter().position(|known| known[merge_key] == item[merge_key]);
        match place.map(|place| &mut merged[place]) {
            Some(known) => {
                let before = known.as_object_mut().map(std::mem::take).unwrap_or_default();
                *known = Value::Object(merge_item(before, item)?);
            }
            None => merged.push(Value::Object(merge_item(Map::new(), item)?)),
        }
    }
    let Some(order) = directives.order else { return Ok(merged) };
    let order: Vec<Value> = order.as_array().into_iter().flatten().map(|item| item[merge_key].clone()).collect();
    check_order(&keys, &order, field)?;
    Ok(put_in_order(merged, |item| item[merge_key].clone(), &order, &server_order))
}

/// Joins two lists of scalars: the union, less what the directives delete.
pub(super) fn merge_scalars(
    original: Vec<Value>,
    patch: Vec<Value>,
    directives: ListDirectives<'_>,
    field: &str,
) -> Result<Vec<Value>, Error> {
    let server_order = original.clone();
    let deleted: Vec<Value> = directives.delete.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut merged: Vec<Value> = Vec::new();
    let keys = patch.clone();
    for item in original.into_iter().filter(|item| !deleted.contains(item)).chain(patch) {
        if !merged.contains(&item) {
            merged.push(item);
        }
    }
    let Some(order) = directives.order.and_then(Value::as_array) else { return Ok(merged) };
    check_order(&keys, order, field)?;
    Ok(put_in_order(merged, Value::clone, order, &server_order))
}

/// A patch list, its directives taken out.
#[derive(Default)]
struct Sorted {
    items: Vec<Map<String, Value>>,
    /// The merge keys of the items that go.
    deleted: Vec<Value>,
    /// The rest replaces the whole list.
    replaces: bool,
}

fn sort_out(patch: Vec<Value>, merge_key: &str) -> Result<Sorted, Error> {
    let mut sorted = Sorted::default();
    for item in patch {
        let Value::Object(item) = item else {
            return Err(Error::NoMergeKey { item: plain(&item), key: merge_key.to_owned() });
        };
        let key = item.get(merge_key).filter(|key| !key.is_null()).cloned();
        let no_key = || Error::NoMergeKey { item: Value::Object(item.clone()).to_string(), key: merge_key.to_owned() };
        match item.get(DIRECTIVE).and_then(Value::as_str) {
            Some("delete") => sorted.deleted.push(key.ok_or_else(no_key)?),
            Some("replace") => {
                sorted.replaces = true;
                // Beside the bare marker, upstream takes an item with fields of its own as an item, too.
                if key.is_some() {
                    sorted.items.push(item);
                }
            }
            Some("merge") => return Err(Error::MergeDirectiveInList),
            Some(other) => return Err(Error::UnknownDirective(other.to_owned())),
            None if key.is_none() => return Err(no_key()),
            None => sorted.items.push(item),
        }
    }
    Ok(sorted)
}

/// The items of a patch must be in the order of its directive.
fn check_order(keys: &[Value], order: &[Value], field: &str) -> Result<(), Error> {
    let mut rest = order.iter();
    match keys.iter().all(|key| rest.any(|ordered| ordered == key)) {
        true => Ok(()),
        false => Err(Error::OrderMismatch(field.to_owned())),
    }
}

/// Items that the patch orders take its order; the others keep their position relative to their neighbours.
fn put_in_order(
    items: Vec<Value>,
    key: impl Fn(&Value) -> Value,
    order: &[Value],
    server_order: &[Value],
) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|known| *known == key(item));
    let (mut ordered, mut server_only): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| place(order, item).is_some());
    ordered.sort_by_key(|item| place(order, item));
    server_only.sort_by_key(|item| place(server_order, item));
    let stood_before =
        |a: &Value, b: &Value| matches!((place(server_order, a), place(server_order, b)), (Some(a), Some(b)) if a < b);
    let mut out = Vec::with_capacity(ordered.len() + server_only.len());
    let (mut ordered, mut server_only) = (ordered.into_iter().peekable(), server_only.into_iter().peekable());
    loop {
        let next = match (server_only.peek(), ordered.peek()) {
            (Some(server), Some(patch)) if stood_before(server, patch) => server_only.next(),
            (_, Some(_)) => ordered.next(),
            (_, None) => server_only.next(),
        };
        match next {
            Some(item) => out.push(item),
            None => return out,
        }
    }
}
