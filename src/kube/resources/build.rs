//! Building an entry: start with [`Resource::of`] a type, then say what is special about it.

use std::sync::Arc;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use schemars::JsonSchema;
use serde_json::Value;

use super::resource::{ApiSubresource, Resource, STORED_VERBS, SUBRESOURCE_VERBS, SchemaSource, Scope, Subresource};
use crate::kube::names::{self, NameRule};
use crate::kube::printing::Printer;
use crate::kube::validation::FieldErrors;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// The two scopes of `k8s-openapi`, as a value.
pub(super) trait ScopeOf {
    const SCOPE: Scope;
}

impl ScopeOf for NamespaceResourceScope {
    const SCOPE: Scope = Scope::Namespaced;
}

impl ScopeOf for ClusterResourceScope {
    const SCOPE: Scope = Scope::Cluster;
}

impl Resource {
    /// A stored resource whose names, scope and schema are those of the type `K`.
    pub(super) fn of<K: k8s_openapi::Resource<Scope: ScopeOf> + JsonSchema>() -> Resource {
        let schema = SchemaSource::Type(|generator| {
            generator.subschema_for::<K>();
        });
        let (scope, definition) = (K::Scope::SCOPE, K::schema_name());
        Resource::new([K::GROUP, K::VERSION, K::KIND, K::URL_PATH_SEGMENT], scope, &definition, schema)
    }

    fn new(
        [group, version, kind, plural]: [&str; 4],
        scope: Scope,
        definition: &str,
        schema: SchemaSource,
    ) -> Resource {
        Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            plural: plural.to_owned(),
            singular: kind.to_ascii_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            verbs: strings(&STORED_VERBS),
            subresources: Vec::new(),
            storage_prefix: Some(format!("/registry/{plural}")),
            definition: definition.to_owned(),
            schema,
            has_generation: false,
            allows_unconditional_update: true,
            allows_create_on_update: false,
            takes_status_on_create: false,
            status_takes_annotations: false,
            printer: Printer::name_and_age(),
            name_rule: names::dns_subdomain,
            selectable: Vec::new(),
            defaults: None,
            on_create: None,
            on_update: None,
            check: None,
            check_create: None,
            check_update: None,
        }
    }

    pub fn short(mut self, names: &[&str]) -> Resource {
        self.short_names = strings(names);
        self
    }

    /// `kubectl get all` shows the category `all`.
    pub fn category(mut self, category: &str) -> Resource {
        self.categories.push(category.to_owned());
        self
    }

    pub fn verbs(mut self, verbs: &[&str]) -> Resource {
        self.verbs = strings(verbs);
        self
    }

    /// Answered on create, never stored.
    pub fn virtual_kind(mut self) -> Resource {
        self.storage_prefix = None;
        self.verbs(&["create"])
    }

    pub fn stored_at(mut self, prefix: &str) -> Resource {
        self.storage_prefix = Some(prefix.to_owned());
        self
    }

    pub fn with_generation(mut self) -> Resource {
        self.has_generation = true;
        self
    }

    pub fn conditional_update(mut self) -> Resource {
        self.allows_unconditional_update = false;
        self
    }

    pub fn create_on_update(mut self) -> Resource {
        self.allows_create_on_update = true;
        self
    }

    pub fn status_on_create(mut self) -> Resource {
        self.takes_status_on_create = true;
        self
    }

    pub fn annotated_by_status(mut self) -> Resource {
        self.status_takes_annotations = true;
        self
    }

    /// A subresource that shows the object itself, such as its status.
    pub fn with_subresource(self, name: &str) -> Resource {
        self.add_subresource(name, &SUBRESOURCE_VERBS, None)
    }

    /// A subresource with the object's own kind and these verbs.
    pub fn with_subresource_verbs(self, name: &str, verbs: &[&str]) -> Resource {
        self.add_subresource(name, verbs, None)
    }

    /// A subresource whose bodies are of another kind.
    pub fn with_subresource_kind(self, name: &str, verbs: &[&str], api_version: &str, kind: &str) -> Resource {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.add_subresource(name, verbs, Some((group.to_owned(), version.to_owned(), kind.to_owned())))
    }

    /// The path through which anything that counts replicas is scaled.
    pub fn with_scale(self) -> Resource {
        self.with_subresource_kind("scale", &SUBRESOURCE_VERBS, "autoscaling/v1", "Scale")
    }

    fn add_subresource(
        mut self,
        name: &str,
        verbs: &[&str],
        response_kind: Option<(String, String, String)>,
    ) -> Resource {
        self.subresources.push(ApiSubresource { name: name.to_owned(), verbs: strings(verbs), response_kind });
        self.subresources.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    pub fn named_by(mut self, rule: NameRule) -> Resource {
        self.name_rule = rule;
        self
    }

    pub fn printed_by(mut self, printer: Printer) -> Resource {
        self.printer = printer;
        self
    }

    /// A field that field selectors may use; `path` has dots, and names the selector as well as the place.
    pub fn selectable(self, path: &str) -> Resource {
        let pointer = format!("/{}", path.replace('.', "/"));
        self.selectable_by(path, move |object| match object.pointer(&pointer) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        })
    }

    /// A field whose value for selectors is worked out.
    pub fn selectable_by(mut self, name: &str, value: impl Fn(&Value) -> String + Send + Sync + 'static) -> Resource {
        self.selectable.push((name.to_owned(), Arc::new(value)));
        self
    }

    pub fn defaulted_by(mut self, defaults: impl Fn(&mut Value) + Send + Sync + 'static) -> Resource {
        self.defaults = Some(Arc::new(defaults));
        self
    }

    pub fn on_create(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Resource {
        self.on_create = Some(Arc::new(edit));
        self
    }

    /// Carries over from the stored object (second) what an update must keep.
    pub fn on_update(mut self, reconcile: impl Fn(&mut Value, &Value) + Send + Sync + 'static) -> Resource {
        self.on_update = Some(Arc::new(reconcile));
        self
    }

    pub fn checked_by(mut self, check: impl Fn(&Value, &mut FieldErrors) + Send + Sync + 'static) -> Resource {
        self.check = Some(Arc::new(check));
        self
    }

    /// Rules that only a new object has to meet.
    pub fn create_checked_by(mut self, check: impl Fn(&Value, &mut FieldErrors) + Send + Sync + 'static) -> Resource {
        self.check_create = Some(Arc::new(check));
        self
    }

    /// Rules that compare a new state (first) with the stored one.
    pub fn update_checked_by(
        mut self,
        check: impl Fn(&Value, &Value, Subresource<'_>, &mut FieldErrors) + Send + Sync + 'static,
    ) -> Resource {
        self.check_update = Some(Arc::new(check));
        self
    }
}
