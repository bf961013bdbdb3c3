//! The values of options, read and shown as Go's `flag` package and etcd's own flag types do.

use std::time::Duration;

use serde_json::Value as Json;

use super::urls::Url;

/// A value that an option can have.
pub trait Value: Sized {
    /// Whether the option stands alone on a command line.
    const BOOLEAN: bool = false;

    /// Reads `text`; the error completes the sentence `invalid value "..." for flag -x: `.
    fn read(text: &str) -> Result<Self, String>;

    /// The value after one of `old`: most replace it.
    fn after(self, _old: &Self) -> Self {
        self
    }

    /// The text that [`read`](Value::read) takes.
    fn show(&self) -> String;

    /// As it stands in the record of the configuration in the log.
    fn json(&self) -> Json {
        self.show().into()
    }

    /// Reads it from a configuration file. The error tells what is there instead.
    fn read_file(value: &Json) -> Result<Self, String> {
        match value {
            Json::String(text) => Self::read(text),
            other => Err(mismatch(other, "string")),
        }
    }
}

fn mismatch(found: &Json, wanted: &str) -> String {
    let found = match found {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    format!("cannot unmarshal {found} into a value of type {wanted}")
}

/// A list in a file is one, or a text with commas.
fn read_texts(value: &Json) -> Result<Vec<String>, String> {
    let text = |item: &Json| item.as_str().map(str::to_owned).ok_or_else(|| mismatch(item, "string"));
    match value {
        Json::Array(items) => items.iter().map(text).collect(),
        Json::String(text) => Ok(List::read(text)?.0),
        other => Err(mismatch(other, "[]string")),
    }
}

const SYNTAX: &str = "parse error";
const RANGE: &str = "value out of range";

impl Value for String {
    fn read(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for bool {
    const BOOLEAN: bool = true;

    fn read(text: &str) -> Result<bool, String> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(SYNTAX.into()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn json(&self) -> Json {
        (*self).into()
    }

    fn read_file(value: &Json) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| mismatch(value, "bool"))
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Value for $integer {
            fn read(text: &str) -> Result<$integer, String> {
                let wide = integer(text).ok_or(SYNTAX)?;
                <$integer>::try_from(wide).map_err(|_| if wide < 0 { SYNTAX } else { RANGE }.into())
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn json(&self) -> Json {
                (*self).into()
            }

            fn read_file(value: &Json) -> Result<$integer, String> {
                match value {
                    Json::Number(number) => <$integer>::read(&number.to_string()),
                    other => Err(mismatch(other, stringify!($integer))),
                }
            }
        }
    )*};
}

integers!(u32, u64, i64);

/// An integer in Go's notation with base 0: decimal, or with the prefix `0x`, `0o`, `0` or `0b`, with `_` between digits.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let number = i128::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(if negative { -number } else { number })
}

/// A signed duration in nanoseconds, written as Go writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    pub const fn seconds(seconds: i64) -> GoDuration {
        GoDuration(seconds * 1_000_000_000)
    }

    pub const fn millis(millis: i64) -> GoDuration {
        GoDuration(millis * 1_000_000)
    }

    /// Nothing where it is zero or less, which etcd takes as "off".
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.0).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}

impl Value for GoDuration {
    fn read(text: &str) -> Result<GoDuration, String> {
        duration(text).map(GoDuration).ok_or_else(|| SYNTAX.into())
    }

    fn show(&self) -> String {
        show_duration(self.0)
    }

    /// A file holds nanoseconds.
    fn read_file(value: &Json) -> Result<GoDuration, String> {
        value.as_i64().map(GoDuration).ok_or_else(|| mismatch(value, "time.Duration"))
    }
}

/// A sequence of decimal numbers, each with a unit: `1h30m`, `-1.5s`, `0`.
fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(scaled(number, i128::from(*scale))?)?;
        rest = tail;
    }
    i64::try_from(nanos * sign).ok()
}

/// `number` (digits, at most one point) times `scale`, cut to a whole.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(18)];
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some(whole * scale + part * scale / 10_i128.pow(u32::try_from(fraction.len()).ok()?))
}

fn show_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let small = |unit: u64, name: &str| format!("{sign}{}{name}", decimal(nanos, unit));
    match nanos {
        0 => "0s".into(),
        1..1_000 => small(1, "ns"),
        1_000..1_000_000 => small(1_000, "µs"),
        1_000_000..1_000_000_000 => small(1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let (hours, minutes) = (minutes / 60, minutes % 60);
            let seconds = decimal(rest, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, _) => format!("{sign}{minutes}m{seconds}s"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

fn decimal(nanos: u64, unit: u64) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{rest:0width$}").trim_end_matches('0').to_owned()
}

/// A list of texts, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl Value for List {
    fn read_file(value: &Json) -> Result<List, String> {
        read_texts(value).map(List)
    }

    fn read(text: &str) -> Result<List, String> {
        let parts = text.split(',').filter(|_| !text.is_empty());
        Ok(List(parts.map(str::to_owned).collect()))
    }

    fn show(&self) -> String {
        self.0.join(",")
    }

    fn json(&self) -> Json {
        self.0.clone().into()
    }
}

/// The same, as a set: sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set(pub Vec<String>);

impl Value for Set {
    fn read_file(value: &Json) -> Result<Set, String> {
        Set::read(&read_texts(value)?.join(","))
    }

    fn read(text: &str) -> Result<Set, String> {
        let List(mut parts) = List::read(text)?;
        parts.sort();
        parts.dedup();
        Ok(Set(parts))
    }

    fn show(&self) -> String {
        self.0.join(",")
    }

    fn json(&self) -> Json {
        self.0.clone().into()
    }
}

/// Whether a member founds its cluster, or joins one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState(pub String);

impl ClusterState {
    pub fn is_known(&self) -> bool {
        matches!(self.0.as_str(), "new" | "existing")
    }
}

impl Value for ClusterState {
    fn read(text: &str) -> Result<ClusterState, String> {
        Some(ClusterState(text.to_owned())).filter(ClusterState::is_known).ok_or_else(|| "invalid value".into())
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    /// What a file says is judged with the other options.
    fn read_file(value: &Json) -> Result<ClusterState, String> {
        String::read_file(value).map(ClusterState)
    }
}

/// Origins of pages in a browser: URLs, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins(pub Vec<String>);

impl Value for Origins {
    fn read(text: &str) -> Result<Origins, String> {
        match text {
            "*" => Ok(Origins(vec![text.to_owned()])),
            _ => Urls::read(text).map(|urls| Origins(urls.texts())),
        }
    }

    fn show(&self) -> String {
        self.0.join(",")
    }

    fn json(&self) -> Json {
        self.0.clone().into()
    }
}

/// A list of URLs, sorted as etcd does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Urls(pub Vec<Url>);

impl Urls {
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(Url::to_string).collect()
    }
}

impl Value for Urls {
    fn read(text: &str) -> Result<Urls, String> {
        if text.is_empty() {
            return Ok(Urls::default());
        }
        let mut urls = text.split(',').map(Url::read).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
        urls.sort();
        urls.dedup();
        Ok(Urls(urls))
    }

    /// An empty text leaves what was there.
    fn after(self, old: &Urls) -> Urls {
        if self.0.is_empty() { old.clone() } else { self }
    }

    fn show(&self) -> String {
        self.texts().join(",")
    }

    fn json(&self) -> Json {
        self.texts().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos, shown) in [
            ("0", 0, "0s"),
            ("100ms", 100_000_000, "100ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("2h", 7_200_000_000_000, "2h0m0s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1h1m1.001s", 3_661_001_000_000, "1h1m1.001s"),
            ("-10ms", -10_000_000, "-10ms"),
            (".5us", 500, "500ns"),
            ("1500ns", 1_500, "1.5µs"),
        ] {
            assert_eq!(GoDuration::read(text), Ok(GoDuration(nanos)), "{text}");
            assert_eq!(GoDuration(nanos).show(), shown);
        }
        for bad in ["", "5", "s", "1x", "1s1", "1..5s", ".s", "- 1s", "9999999h"] {
            assert!(GoDuration::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_gos() {
        for (text, value) in [("10", Ok(10)), ("0x1F", Ok(31)), ("1_000", Ok(1000)), ("010", Ok(8)), ("0", Ok(0))] {
            assert_eq!(u64::read(text), value, "{text}");
        }
        for bad in ["", "-1", "1.5", "x", "1_", "0x"] {
            assert_eq!(u64::read(bad), Err("parse error".into()), "{bad}");
        }
        assert_eq!(u32::read("4294967296"), Err("value out of range".into()));
        assert_eq!(i64::read("-5"), Ok(-5));
        assert_eq!((bool::read("T"), bool::read("0")), (Ok(true), Ok(false)));
        assert!(bool::read("yes").is_err());
    }

    #[test]
    fn files_hold_values_of_their_own_kind() {
        assert_eq!(GoDuration::read_file(&5_000_000_000_i64.into()), Ok(GoDuration::seconds(5)));
        assert!(GoDuration::read_file(&"5s".into()).is_err());
        assert_eq!(Set::read_file(&serde_json::json!(["b", "a"])).unwrap().show(), "a,b");
        assert_eq!(u64::read_file(&"7".into()), Err("cannot unmarshal string into a value of type u64".into()));
        assert_eq!(u64::read_file(&7.into()), Ok(7));
    }

    #[test]
    fn lists_and_sets() {
        assert_eq!(Set::read("b,a,b").unwrap().0, ["a", "b"]);
        assert_eq!(List::read("b,a").unwrap().0, ["b", "a"]);
        assert!(List::read("").unwrap().0.is_empty());
        assert_eq!(Urls::read("http://b:1,http://a:1").unwrap().show(), "http://a:1,http://b:1");
    }
}
