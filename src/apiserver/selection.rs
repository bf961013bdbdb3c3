//! Which objects a list or watch shows: label and field selectors of one resource, upstream's SelectionPredicate.

use std::sync::Arc;

use crate::kube::field_selector::FieldSelector;
use crate::kube::object::Object;
use crate::kube::resources::Resource;
use crate::kube::selector::Selector;
use crate::kube::status::Status;

use super::watch_cache::lister_watcher::Fields;
use super::watch_cache::view::Item;

/// Requirements on labels and fields that must all hold.
#[derive(Clone, Debug, Default)]
pub struct SelectionPredicate {
    labels: Selector,
    fields: Vec<Requirement>,
    /// The field selector as the client wrote it.
    field_selector: FieldSelector,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: SelectedField,
    equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SelectedField {
    Name,
    Namespace,
    /// In the resource's table of selectable fields.
    Field(usize),
}

/// Reads the selectable fields of `resource`, in the order of its table.
pub fn fields_of(resource: &Arc<Resource>) -> Fields {
    let resource = resource.clone();
    let names: Vec<String> = resource.selectable_fields().map(str::to_owned).collect();
    Arc::new(move |object: &Object| {
        if names.is_empty() {
            return Vec::new();
        }
        let value = object.value();
        names.iter().map(|name| resource.field_value(&value, name).unwrap_or_default()).collect()
    })
}

impl SelectionPredicate {
    /// Parses the two selectors; an unknown field or a malformed text is a bad request.
    pub fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<SelectionPredicate, Status> {
        let labels = labels.unwrap_or_default().parse::<Selector>();
        let labels = labels.map_err(|error| Status::bad_request(format!("unable to parse requirement: {error}")))?;
        let field_selector = FieldSelector::parse(fields.unwrap_or_default(), resource)?;
        let selected = |field: &str| match field {
            "metadata.name" => SelectedField::Name,
            "metadata.namespace" => SelectedField::Namespace,
            _ => {
                SelectedField::Field(resource.selectable_fields().position(|name| name == field).unwrap_or(usize::MAX))
            }
        };
        let fields = field_selector.requirements().iter();
        let fields = fields.map(|r| Requirement { field: selected(&r.field), equal: r.equal, value: r.value.clone() });
        let fields = fields.collect();
        Ok(SelectionPredicate { labels, fields, field_selector })
    }

    pub fn field_selector(&self) -> &FieldSelector {
        &self.field_selector
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// The one name that can match, if the field selector requires one.
    pub fn name(&self) -> Option<&str> {
        let named =
            self.fields.iter().find(|requirement| requirement.field == SelectedField::Name && requirement.equal);
        named.map(|field| field.value.as_str())
    }

    pub fn matches(&self, item: &Item) -> bool {
        self.labels.matches(&item.object.meta.labels) && self.fields.iter().all(|field| field.holds(item))
    }
}

impl Requirement {
    fn holds(&self, item: &Item) -> bool {
        let meta = &item.object.meta;
        let value = match self.field {
            SelectedField::Name => meta.name.as_str(),
            SelectedField::Namespace => meta.namespace.as_deref().unwrap_or_default(),
            SelectedField::Field(at) => item.fields.get(at).map_or("", String::as_str),
        };
        (value == self.value) == self.equal
    }
}
