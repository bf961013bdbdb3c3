//! Field selectors: `status.phase!=Failed,spec.nodeName=n1`. Each kind knows which fields it can be selected by.

use serde_json::Value;

use super::resources::Resource;
use super::status::Status;

/// More requirements than this in one selector are refused.
const REQUIREMENTS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub field: String,
    pub equal: bool,
    pub value: String,
}

/// All requirements hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Requirement>);

impl FieldSelector {
    /// Parses the query parameter `fieldSelector` for objects of `resource`. The `Err` is a 400 that names the field this
    /// kind does not support, or what cannot be parsed.
    pub fn parse(text: &str, resource: &Resource) -> Result<FieldSelector, Status> {
        let mut requirements = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let requirement = parse_term(&part)
                .ok_or_else(|| Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            if !is_supported(resource, &requirement.field) {
                return Err(Status::bad_request(format!("field label not supported: {}", requirement.field)));
            }
            requirements.push(requirement);
        }
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(Status::bad_request(format!(
                "a field selector may have at most {REQUIREMENTS_MAX} requirements"
            )));
        }
        Ok(FieldSelector(requirements))
    }

    /// A selector that only the object with this name matches.
    pub fn named(name: &str) -> FieldSelector {
        FieldSelector(vec![Requirement { field: "metadata.name".into(), equal: true, value: name.into() }])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// The one value that `field` must have, when the selector says so: a list of `metadata.name=x` is a get.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// Whether only objects match whose `field` has this value.
    pub fn requires(&self, field: &str, value: &str) -> bool {
        self.0.iter().any(|r| r.equal && r.field == field && r.value == value)
    }

    pub fn matches(&self, resource: &Resource, object: &Value) -> bool {
        self.0.iter().all(|requirement| {
            let value = resource.field_value(object, &requirement.field).unwrap_or_default();
            (value == requirement.value) == requirement.equal
        })
    }
}

fn is_supported(resource: &Resource, field: &str) -> bool {
    match field {
        "metadata.name" => true,
        "metadata.namespace" => resource.is_namespaced(),
        _ => resource.selectable_fields().any(|known| known == field),
    }
}

/// Splits at commas; a backslash keeps what follows it as it is.
fn split_terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        let last = terms.last_mut().expect("there is always a term");
        match character {
            ',' if !escaped => terms.push(String::new()),
            _ => last.push(character),
        }
        escaped = character == '\\' && !escaped;
    }
    terms
}

fn parse_term(term: &str) -> Option<Requirement> {
    let place = term.find(['=', '!'])?;
    let (field, rest) = term.split_at(place);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else if let Some(value) = rest.strip_prefix("==") {
        (true, value)
    } else {
        (true, rest.strip_prefix('=')?)
    };
    Some(Requirement { field: field.trim().to_owned(), equal, value: unescape(value)? })
}

/// Removes the backslashes before `\`, `,` and `=`; a bare `=` or another escape is an error.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                escaped @ ('\\' | ',' | '=') => plain.push(escaped),
                _ => return None,
            },
            '=' => return None,
            _ => plain.push(character),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::resources::Table;
    use serde_json::json;

    #[test]
    fn pods_by_node_and_phase() {
        let table = Table::builtin();
        let pods = table.get("", "v1", "pods").unwrap();
        let selector = FieldSelector::parse("spec.nodeName=n1,status.phase!=Failed", pods).unwrap();
        let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node}, "status": {"phase": phase}});
        assert!(selector.matches(pods, &pod("n1", "Running")));
        assert!(!selector.matches(pods, &pod("n2", "Running")));
        assert!(!selector.matches(pods, &pod("n1", "Failed")));
        assert_eq!(selector.exact("spec.nodeName"), Some("n1"));
        let unbound = FieldSelector::parse("spec.nodeName=", pods).unwrap();
        assert!(unbound.matches(pods, &json!({"spec": {}})));
    }

    #[test]
    fn unknown_fields_and_nonsense_are_refused() {
        let table = Table::builtin();
        let pods = table.get("", "v1", "pods").unwrap();
        let error = FieldSelector::parse("spec.color=red", pods).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (400, "field label not supported: spec.color"));
        for bad in ["metadata.name", "metadata.name=a=b", "metadata.name=a\\b"] {
            assert_eq!(FieldSelector::parse(bad, pods).unwrap_err().code, 400, "{bad}");
        }
        let escaped = FieldSelector::parse("metadata.name=a\\,b", pods).unwrap();
        assert_eq!(escaped.exact("metadata.name"), Some("a,b"));
    }

    #[test]
    fn every_selectable_field_of_every_kind_parses() {
        for resource in Table::builtin().iter() {
            for field in resource.selectable_fields() {
                FieldSelector::parse(&format!("{field}=x"), resource).unwrap();
            }
        }
    }
}
