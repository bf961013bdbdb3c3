//! Text to JSON value, with a note of duplicate fields. Depth is bounded here, the expansion of YAML aliases by the
//! YAML parser.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::field_path::FieldPath;
use crate::kube::tree::DEPTH_MAX;

/// Duplicate fields of one body that are reported at most.
const DUPLICATES_MAX: usize = 100;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

/// A parsed body.
#[derive(Debug)]
pub struct Parsed {
    pub value: Value,
    /// The places of fields that were given more than once; the last one counts.
    pub duplicates: Vec<String>,
}

/// What the YAML parser may have to look at for the flow collections of one body.
const FLOW_WORK_MAX: u64 = 1 << 29;

/// Refuses what would keep the YAML parser busy: for each token it looks at all flow collections that are open. Those
/// that were ever opened are counted, since what closes one may also stand in a string: then this would be the parser.
fn check_flow(body: &[u8]) -> Result<(), String> {
    let (mut opened, mut work) = (0_u64, 0_u64);
    for byte in body {
        opened += u64::from(matches!(byte, b'[' | b'{'));
        work += opened;
    }
    if work > FLOW_WORK_MAX {
        return Err(format!("error converting YAML to JSON: yaml: {opened} flow collections are too many; send JSON"));
    }
    Ok(())
}

/// Parses one document. JSON is YAML, too, and is read as JSON. The `Err` is the parser's text.
pub fn parse(body: &[u8], format: Format) -> Result<Parsed, String> {
    if format == Format::Yaml
        && body.trim_ascii_start().starts_with(b"{")
        && let Ok(parsed) = parse(body, Format::Json)
    {
        return Ok(parsed);
    }
    let duplicates = RefCell::new(Vec::new());
    let path = FieldPath::default();
    let seed = ValueSeed { path: &path, depth: 0, duplicates: &duplicates };
    let value = match format {
        Format::Json => {
            let mut deserializer = serde_json::Deserializer::from_slice(body);
            let parsed = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
            parsed.map_err(|error| error.to_string())
        }
        Format::Yaml => {
            check_flow(body)?;
            let deserializer = serde_yaml_ng::Deserializer::from_slice(body);
            seed.deserialize(deserializer).map_err(|error| format!("error converting YAML to JSON: yaml: {error}"))
        }
    }?;
    Ok(Parsed { value, duplicates: duplicates.into_inner() })
}

struct ValueSeed<'a> {
    path: &'a FieldPath<'a>,
    depth: usize,
    duplicates: &'a RefCell<Vec<String>>,
}

impl ValueSeed<'_> {
    /// For the value at `path`, which is in this one.
    fn inner<'b, E: Error>(&'b self, path: &'b FieldPath<'b>) -> Result<ValueSeed<'b>, E> {
        match self.depth + 1 {
            DEPTH_MAX.. => Err(E::custom("exceeded max depth")),
            depth => Ok(ValueSeed { path, depth, duplicates: self.duplicates }),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("numbers must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = self.path.index(list.len());
            match items.next_element_seed(self.inner(&path)?)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = self.path.field(&key);
            let value = entries.next_value_seed(self.inner(&path)?)?;
            if map.contains_key(&key) && self.duplicates.borrow().len() < DUPLICATES_MAX {
                self.duplicates.borrow_mut().push(path.text());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn doubled_fields_are_noted_and_the_last_counts() {
        let parsed = parse(br#"{"a": {"b": [{"c": 1, "c": 2}]}, "a2": 1.5}"#, Format::Json).unwrap();
        assert_eq!(parsed.value, json!({"a": {"b": [{"c": 2}]}, "a2": 1.5}));
        assert_eq!(parsed.duplicates, ["a.b[0].c"]);
    }

    #[test]
    fn yaml_and_json_give_the_same_value() {
        let yaml = parse(b"a: 1\nb: [x, true, null, 2.5]\nc: \"1\"\n", Format::Yaml).unwrap();
        assert_eq!(yaml.value, json!({"a": 1, "b": ["x", true, null, 2.5], "c": "1"}));
        let json = parse(yaml.value.to_string().as_bytes(), Format::Json).unwrap();
        assert_eq!(json.value, yaml.value);
    }

    #[test]
    fn yaml_is_refused_before_it_takes_long() {
        for bomb in ["[".repeat(60_000), "{a: ".repeat(100_000), "[']',".repeat(60_000)] {
            assert!(parse(bomb.as_bytes(), Format::Yaml).unwrap_err().contains("too many"));
        }
        let long = "- {name: a, pattern: '^[a-z]$'}\n".to_owned() + &"- text\n".repeat(100_000);
        parse(long.as_bytes(), Format::Yaml).unwrap();
        let json = format!("{{\"a\": [{}[]]}}", "[],".repeat(60_000));
        parse(json.as_bytes(), Format::Yaml).unwrap();
    }

    #[test]
    fn nonsense_and_depth_are_refused() {
        for bad in ["{", "{} {}", "", "{\"a\":}"] {
            parse(bad.as_bytes(), Format::Json).unwrap_err();
        }
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        for format in [Format::Json, Format::Yaml] {
            parse(nested(DEPTH_MAX - 1).as_bytes(), format).unwrap();
            parse(nested(DEPTH_MAX + 1).as_bytes(), format).unwrap_err();
        }
        parse("[".repeat(100_000).as_bytes(), Format::Json).unwrap_err();
        parse("- ".repeat(10_000).as_bytes(), Format::Yaml).unwrap_err();
    }
}
