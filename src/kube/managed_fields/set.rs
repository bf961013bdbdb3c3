//! Sets of fields, and their form in `managedFields`: `{"f:spec":{"f:replicas":{}}}`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One element of the path to a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of a struct or a key of a map.
    Field(String),
    /// The item of a list that has these key fields: a JSON object, its keys in alphabetical order.
    Key(String),
    /// The item of a set: its JSON.
    Item(String),
}

impl PathElement {
    fn encode(&self) -> String {
        match self {
            PathElement::Field(name) => format!("f:{name}"),
            PathElement::Key(key) => format!("k:{key}"),
            PathElement::Item(value) => format!("v:{value}"),
        }
    }

    fn decode(text: &str) -> Option<PathElement> {
        let (front, rest) = text.split_once(':')?;
        match front {
            "f" => Some(PathElement::Field(rest.to_owned())),
            "k" => Some(PathElement::Key(rest.to_owned())),
            "v" => Some(PathElement::Item(rest.to_owned())),
            _ => None,
        }
    }

    /// As conflicts name it: `.spec`, `[name="a"]`, `[="x"]`.
    fn text(&self) -> String {
        match self {
            PathElement::Field(name) => format!(".{name}"),
            PathElement::Item(value) => format!("[={value}]"),
            PathElement::Key(key) => {
                let fields: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let all: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", all.join(","))
            }
        }
    }
}

/// A set of fields, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// The field at this place itself is a member.
    pub member: bool,
    pub below: BTreeMap<PathElement, Set>,
}

impl Set {
    pub fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    pub fn at(&mut self, element: PathElement) -> &mut Set {
        self.below.entry(element).or_default()
    }

    /// Everything of either.
    pub fn add(&mut self, other: &Set) {
        self.member |= other.member;
        for (element, set) in &other.below {
            self.at(element.clone()).add(set);
        }
    }

    /// Everything of `self` that is not in `other`.
    #[must_use]
    pub fn without(&self, other: &Set) -> Set {
        self.filtered(Some(other), |own, other| own && !other)
    }

    /// Everything that is in both.
    #[must_use]
    pub fn common(&self, other: &Set) -> Set {
        self.filtered(Some(other), |own, other| own && other)
    }

    fn filtered(&self, other: Option<&Set>, keep: fn(bool, bool) -> bool) -> Set {
        let member = keep(self.member, other.is_some_and(|set| set.member));
        let below = self.below.iter().map(|(element, set)| {
            let other = other.and_then(|other| other.below.get(element));
            (element.clone(), set.filtered(other, keep))
        });
        Set { member, below: below.filter(|(_, set)| !set.is_empty()).collect() }
    }

    /// Members that lie at or below a member of `gone` go, too: what contained them is no longer there.
    #[must_use]
    pub fn without_trees(&self, gone: &Set) -> Set {
        if gone.member {
            return Set::default();
        }
        let below = self.below.iter().map(|(element, set)| match gone.below.get(element) {
            Some(gone) => (element.clone(), set.without_trees(gone)),
            None => (element.clone(), set.clone()),
        });
        Set { member: self.member, below: below.filter(|(_, set)| !set.is_empty()).collect() }
    }

    /// The members, as texts: `.spec.containers[name="a"].image`.
    pub fn texts(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, front: &str, out: &mut Vec<String>) {
        if self.member {
            out.push(front.to_owned());
        }
        for (element, set) in &self.below {
            set.collect(&format!("{front}{}", element.text()), out);
        }
    }

    /// The value of `fieldsV1`.
    pub fn encode(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.below.is_empty() {
            map.insert(".".into(), json!({}));
        }
        for (element, set) in &self.below {
            map.insert(element.encode(), set.encode());
        }
        Value::Object(map)
    }

    /// Reads `fieldsV1`; what it does not understand is left out.
    pub fn decode(value: &Value) -> Set {
        let mut set = Set::default();
        for (key, value) in value.as_object().into_iter().flatten() {
            if key == "." {
                set.member = true;
            } else if let Some(element) = PathElement::decode(key) {
                let mut below = Set::decode(value);
                below.member |= below.below.is_empty();
                set.below.insert(element, below);
            }
        }
        set
    }
}
