//! What happens at a failpoint: a chain such as `50.0%sleep("1s")->3*return("text")->panic`. Each time, the first term
//! whose chance and count allow it is carried out.

use std::time::Duration;

use crate::world::Random;
use crate::world::clock::go_duration;

/// What one term does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Off,
    Return,
    Sleep,
    Panic,
    Break,
    Print,
}

const ACTIONS: [(&str, Action); 6] = [
    ("off", Action::Off),
    ("return", Action::Return),
    ("sleep", Action::Sleep),
    ("panic", Action::Panic),
    ("break", Action::Break),
    ("print", Action::Print),
];

/// What stands in the parentheses behind an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nothing,
    Text(String),
    Number(i64),
    Truth(bool),
}

impl Value {
    pub fn text(&self) -> String {
        match self {
            Value::Nothing => "{}".to_owned(),
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Truth(truth) => truth.to_string(),
        }
    }

    /// As the argument of a sleep: a number is milliseconds, a text is a duration of Go's.
    pub fn duration(&self) -> Option<Duration> {
        match self {
            Value::Number(millis) => Some(Duration::from_millis(u64::try_from(*millis).unwrap_or(0))),
            Value::Text(text) => go_duration(text),
            Value::Nothing | Value::Truth(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Modifier {
    /// Percent.
    Chance(f64),
    /// How often yet.
    Count(u64),
}

impl Modifier {
    fn allows(&mut self, random: &Random) -> bool {
        match self {
            Modifier::Chance(percent) => random.within(0..1_000_000) as f64 <= *percent * 10_000.0,
            Modifier::Count(left) => {
                let allowed = *left > 0;
                *left = left.saturating_sub(1);
                allowed
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    modifiers: Vec<Modifier>,
    action: Action,
    value: Value,
}

/// A chain of terms and how often one was carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// As they were given.
    pub text: String,
    pub count: u64,
    chain: Vec<Term>,
}

impl Terms {
    /// `None`: not the notation.
    pub fn parse(text: &str) -> Option<Terms> {
        let (mut chain, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let (term, after) = term(rest)?;
            chain.push(term);
            rest = if after.is_empty() { after } else { after.strip_prefix("->")? };
        }
        (!chain.is_empty()).then(|| Terms { text: text.to_owned(), count: 0, chain })
    }

    /// What is to be done this time.
    pub fn next(&mut self, random: &Random) -> Option<(Action, Value)> {
        let allowed = |term: &mut Term| term.modifiers.iter_mut().all(|modifier| modifier.allows(random));
        let term = self.chain.iter_mut().find_map(|term| allowed(term).then_some(term))?;
        self.count += 1;
        Some((term.action, term.value.clone()))
    }
}

fn term(text: &str) -> Option<(Term, &str)> {
    let (mut modifiers, mut rest) = (Vec::new(), text);
    while let Some((modifier, after)) = modifier(rest) {
        modifiers.push(modifier);
        rest = after;
    }
    let (name, action) = ACTIONS.into_iter().find(|(name, _)| rest.starts_with(name))?;
    let (value, rest) = value(&rest[name.len()..])?;
    Some((Term { modifiers, action, value }, rest))
}

/// `12.5%` or `3*`; a chance always has a point.
fn modifier(text: &str) -> Option<(Modifier, &str)> {
    let end = text.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
    let (number, rest) = text.split_at(end);
    match (number.contains('.'), rest.as_bytes().first()?) {
        (true, b'%') => Some((Modifier::Chance(number.parse().ok()?), &rest[1..])),
        (false, b'*') => Some((Modifier::Count(number.parse().ok()?), &rest[1..])),
        _ => None,
    }
}

/// `("text")`, `(12)`, `(true)`, `()` or nothing.
fn value(text: &str) -> Option<(Value, &str)> {
    let Some(inside) = text.strip_prefix('(') else { return Some((Value::Nothing, text)) };
    if let Some(quoted) = inside.strip_prefix('"') {
        let (text, rest) = quoted.split_once('"')?;
        return Some((Value::Text(text.to_owned()), rest.strip_prefix(')')?));
    }
    let (inside, rest) = inside.split_once(')')?;
    let value = match inside {
        "" => Value::Nothing,
        "true" => Value::Truth(true),
        "false" => Value::Truth(false),
        number => Value::Number(number.parse().ok()?),
    };
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(terms: &mut Terms, random: &Random) -> Option<String> {
        terms.next(random).map(|(action, value)| format!("{action:?} {}", value.text()))
    }

    #[test]
    fn a_chain_is_carried_out_in_order() {
        let random = Random::from_seed(1);
        for (text, wanted) in [
            ("off", [Some("Off {}"), Some("Off {}"), Some("Off {}")]),
            ("2*return(\"abc\")", [Some("Return abc"), Some("Return abc"), None]),
            ("1*return(\"abc\")->1*sleep(10)", [Some("Return abc"), Some("Sleep 10"), None]),
            ("0.0%panic->100.0%print()", [Some("Print {}"), Some("Print {}"), Some("Print {}")]),
            ("1*2*return(true)", [Some("Return true"), None, None]),
        ] {
            let mut terms = Terms::parse(text).unwrap();
            for wanted in wanted {
                assert_eq!(said(&mut terms, &random).as_deref(), wanted, "{text}");
            }
            assert_eq!(terms.count, wanted.iter().flatten().count() as u64, "{text}");
        }
        let mut sometimes = Terms::parse("50.0%panic").unwrap();
        let often = (0..1000).filter(|_| sometimes.next(&random).is_some()).count();
        assert!((400..600).contains(&often), "{often}");
    }

    #[test]
    fn sleeps_have_a_duration() {
        let duration = |text| Terms::parse(text).unwrap().next(&Random::from_seed(1)).unwrap().1.duration();
        assert_eq!(duration("sleep(100)"), Some(Duration::from_millis(100)));
        assert_eq!(duration("sleep(\"1.5s\")"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("sleep(\"soon\")"), None);
        assert_eq!(duration("sleep"), None);
    }

    #[test]
    fn other_notations_are_refused() {
        for wrong in [
            "",
            "nope",
            "50%panic",
            "1.0*panic",
            "3*",
            "panic>off",
            "panic off",
            "return(",
            "return(x)",
            "return(\"x)",
            "return(\"x\"",
            "sleep(1",
            "->off",
            "return(1.5)",
        ] {
            assert_eq!(Terms::parse(wrong), None, "{wrong:?}");
        }
    }
}
