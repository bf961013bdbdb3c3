//! Label selectors: `app=www,tier in (web, cache),!legacy` and their structured form.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Requirements that must all hold. Without any, it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    /// Set for a missing selector, which selects nothing.
    nothing: bool,
}

/// What must hold for one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted; one for the comparing operators, none for those that ask for presence.
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// Not a selector: surface it to the writer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

pub type Labels = BTreeMap<String, String>;

impl Selector {
    pub fn everything() -> Selector {
        Selector::default()
    }

    pub fn nothing() -> Selector {
        Selector { requirements: Vec::new(), nothing: true }
    }

    pub fn new(requirements: Vec<Requirement>) -> Selector {
        Selector { requirements, nothing: false }
    }

    /// Selects what carries all of `labels`: the `selector` of a Service or a ReplicationController.
    pub fn from_labels(labels: &Labels) -> Selector {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Selector::new(labels.iter().map(equals).collect())
    }

    /// The structured form. A missing one selects nothing, an empty one everything.
    pub fn from_label_selector(selector: Option<&LabelSelector>) -> Result<Selector, ParseError> {
        let Some(selector) = selector else { return Ok(Selector::nothing()) };
        let mut requirements =
            Selector::from_labels(selector.match_labels.as_ref().unwrap_or(&Labels::new())).requirements;
        for expression in selector.match_expressions.iter().flatten() {
            let operator = structured_operator(&expression.operator)?;
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::checked(expression.key.clone(), operator, values)?);
        }
        Ok(Selector::new(requirements))
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

fn structured_operator(name: &str) -> Result<Operator, ParseError> {
    match name {
        "In" => Ok(Operator::In),
        "NotIn" => Ok(Operator::NotIn),
        "Exists" => Ok(Operator::Exists),
        "DoesNotExist" => Ok(Operator::DoesNotExist),
        _ => Err(ParseError(format!("{name:?} is not a valid label selector operator"))),
    }
}

impl Requirement {
    /// A requirement whose key, and number and form of values fit its operator.
    pub fn checked(key: String, operator: Operator, mut values: Vec<String>) -> Result<Requirement, ParseError> {
        check_key(&key)?;
        let fits = match operator {
            Operator::In | Operator::NotIn => !values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => values.is_empty(),
            Operator::Equals | Operator::NotEquals | Operator::GreaterThan | Operator::LessThan => values.len() == 1,
        };
        if !fits {
            return Err(ParseError(format!("values of {key:?}: {}", operator.wants())));
        }
        for value in &values {
            check_value(&key, value)?;
            if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
                return Err(ParseError(format!(
                    "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                )));
            }
        }
        values.sort();
        Ok(Requirement { key, operator, values })
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key).map(String::as_str))
    }

    /// Whether `label`, the value under this key, is as required.
    pub fn matches_value(&self, label: Option<&str>) -> bool {
        let listed = |value| self.values.iter().any(|listed| listed == value);
        match self.operator {
            Operator::Equals | Operator::In => label.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !label.is_some_and(listed),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.compare(label).is_some_and(|(label, bound)| label > bound),
            Operator::LessThan => self.compare(label).is_some_and(|(label, bound)| label < bound),
        }
    }

    fn compare(&self, label: Option<&str>) -> Option<(i64, i64)> {
        Some((label?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl Operator {
    fn wants(self) -> &'static str {
        match self {
            Operator::In | Operator::NotIn => "for 'in', 'notin' operators, values set can't be empty",
            Operator::Exists | Operator::DoesNotExist => "values set must be empty for exists and does not exist",
            Operator::Equals | Operator::NotEquals => "exact-match compatibility requires one single value",
            Operator::GreaterThan | Operator::LessThan => "for 'Gt', 'Lt' operators, exactly one value is required",
        }
    }
}

/// A label key: an optional DNS prefix and `/`, then a name of at most 63 characters.
fn check_key(key: &str) -> Result<(), ParseError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let good = is_name(name) && !name.is_empty() && prefix.is_none_or(is_dns_subdomain);
    good.then_some(()).ok_or_else(|| ParseError(format!(
        "key: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
    )))
}

fn check_value(key: &str, value: &str) -> Result<(), ParseError> {
    is_name(value).then_some(()).ok_or_else(|| ParseError(format!(
        "values[0][{key}]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    )))
}

/// Empty, or at most 63 of `A-Za-z0-9-_.` with an alphanumeric at both ends.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

fn is_dns_subdomain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |l: &str| !l.is_empty() && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-');
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Requirement> = self.requirements.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        for (place, requirement) in sorted.into_iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requirement { key, operator, values } = self;
        let values = values.join(",");
        match operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Selector, ParseError> {
        let mut tokens = Tokens { rest: text };
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Selector::everything());
        }
        loop {
            requirements.push(tokens.requirement()?);
            match tokens.next() {
                Token::End => return Ok(Selector::new(requirements)),
                Token::Symbol(",") => {}
                token => return Err(token.unexpected("',' or end of string")),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Symbol(&'a str),
    Word(&'a str),
}

impl Token<'_> {
    fn unexpected(self, expected: &str) -> ParseError {
        let found = match self {
            Token::End => "",
            Token::Symbol(text) | Token::Word(text) => text,
        };
        ParseError(format!("unable to parse requirement: found '{found}', expected: {expected}"))
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

/// Longer ones first.
const SYMBOLS: [&str; 9] = ["!=", "==", "=", "!", "(", ")", ",", ">", "<"];

impl<'a> Tokens<'a> {
    fn split(&self) -> (Token<'a>, &'a str) {
        let rest = self.rest.trim_start();
        if rest.is_empty() {
            return (Token::End, rest);
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            return (Token::Symbol(symbol), &rest[symbol.len()..]);
        }
        let end = rest.find(|c: char| c.is_whitespace() || "=!(),><".contains(c)).unwrap_or(rest.len());
        (Token::Word(&rest[..end]), &rest[end..])
    }

    fn peek(&self) -> Token<'a> {
        self.split().0
    }

    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        if self.peek() == Token::Symbol("!") {
            self.next();
            return Requirement::checked(self.key()?, Operator::DoesNotExist, Vec::new());
        }
        let key = self.key()?;
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::checked(key, Operator::Exists, Vec::new());
        }
        let operator = match self.next() {
            Token::Symbol("=" | "==") => Operator::Equals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            token => return Err(token.unexpected("in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        Requirement::checked(key, operator, values)
    }

    fn key(&mut self) -> Result<String, ParseError> {
        match self.next() {
            Token::Word(word) => Ok(word.to_owned()),
            token => Err(token.unexpected("identifier")),
        }
    }

    /// One value, which may be empty: `tier=`.
    fn value(&mut self) -> Result<String, ParseError> {
        match self.peek() {
            Token::End | Token::Symbol("," | ")") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            token @ Token::Symbol(_) => Err(token.unexpected("identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, ParseError> {
        match self.next() {
            Token::Symbol("(") => {}
            token => return Err(token.unexpected("'('")),
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                token => return Err(token.unexpected("',', or ')'")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selectors_match_as_written() {
        let www = labels(&[("app", "www"), ("tier", "web"), ("size", "7"), ("empty", "")]);
        for (selector, matches) in [
            ("", true),
            ("app=www", true),
            ("app==www", true),
            ("app = www , tier=web", true),
            ("app=ftp", false),
            ("app!=ftp", true),
            ("app!=www", false),
            ("absent!=www", true),
            ("absent=", false),
            ("empty=", true),
            ("empty in (,x)", true),
            ("tier in (web, cache)", true),
            ("tier in(cache)", false),
            ("tier notin (cache)", true),
            ("tier notin (web)", false),
            ("absent notin (web)", true),
            ("app", true),
            ("absent", false),
            ("!absent", true),
            ("! app", false),
            ("size>6", true),
            ("size<7", false),
            ("app>6", false),
            ("in in (in)", false),
            ("app=www,!absent,size>1,tier notin (a,b)", true),
            ("example.com/app!=x", true),
        ] {
            let parsed: Selector = selector.parse().unwrap_or_else(|error| panic!("{selector:?}: {error}"));
            assert_eq!(parsed.matches(&www), matches, "{selector:?}");
            let again: Selector = parsed.to_string().parse().unwrap();
            assert_eq!(again.matches(&www), matches, "{selector:?} written as {parsed}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            ",",
            "app=www,",
            "=www",
            "app in",
            "app in ()x",
            "app in (a",
            "app in (a b)",
            "app www",
            "app=a=b",
            "!",
            "app=-a",
            "-a=b",
            "a/b/c=d",
            "Ä=b",
            "size>x",
            "/a",
            "app in a",
            "((",
            "app<",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
        let error = "app www".parse::<Selector>().unwrap_err().to_string();
        assert_eq!(error, "unable to parse requirement: found 'www', expected: in, notin, =, ==, !=, gt, lt");
    }

    #[test]
    fn selectors_are_written_sorted_by_key() {
        let selector: Selector = "tier in (web,cache),!legacy,app==www".parse().unwrap();
        assert_eq!(selector.to_string(), "app=www,!legacy,tier in (cache,web)");
        assert_eq!(Selector::from_labels(&labels(&[("b", "2"), ("a", "1")])).to_string(), "a=1,b=2");
    }

    #[test]
    fn the_structured_form_selects_the_same() {
        let expression = |operator: &str, values: Option<&[&str]>| LabelSelectorRequirement {
            key: "tier".to_owned(),
            operator: operator.to_owned(),
            values: values.map(|values| values.iter().map(|v| (*v).to_owned()).collect()),
        };
        let selects = |expression| {
            let selector = LabelSelector {
                match_labels: Some(labels(&[("app", "www")])),
                match_expressions: Some(vec![expression]),
            };
            Selector::from_label_selector(Some(&selector))
                .map(|selector| selector.matches(&labels(&[("app", "www"), ("tier", "web")])))
        };
        assert_eq!(selects(expression("In", Some(&["web"]))), Ok(true));
        assert_eq!(selects(expression("NotIn", Some(&["web"]))), Ok(false));
        assert_eq!(selects(expression("Exists", None)), Ok(true));
        assert_eq!(selects(expression("DoesNotExist", None)), Ok(false));
        assert!(selects(expression("In", None)).is_err());
        assert!(selects(expression("Exists", Some(&["web"]))).is_err());
        assert!(selects(expression("Gt", Some(&["1"]))).is_err());
        assert!(!Selector::from_label_selector(None).unwrap().matches(&Labels::new()));
        assert!(Selector::from_label_selector(Some(&LabelSelector::default())).unwrap().is_everything());
    }
}
