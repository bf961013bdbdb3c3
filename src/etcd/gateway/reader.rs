//! A JSON object as the message that a descriptor describes, by the rules of protobuf's JSON: fields under either of
//! their names, each once; integers as numbers or in quotes, also with a fraction or an exponent as long as they are
//! whole; bytes in base64 of either alphabet, with padding or without; `null` is an absent field. Unknown
//! fields and unknown names of an enum's values are ignored.
//!
//! Values keep their text until their field is known, so that no integer is ever rounded. There may be only so many of
//! them: two bytes of JSON can be a hundred of a message.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Longest part of a refused value that is shown.
const SHOWN_CHARS_MAX: usize = 32;

/// Fields and items of one message, nested ones included.
const VALUES_MAX: usize = 65_536;

/// Reads the first JSON value of `json` as a message. Bytes after that value are ignored.
pub(super) fn read(descriptor: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, serde_json::Error> {
    let left = Left(Cell::new(VALUES_MAX));
    Object(descriptor, &left).deserialize(&mut serde_json::Deserializer::from_slice(json))
}

/// How many more values there may be.
struct Left(Cell<usize>);

impl Left {
    fn take<E: Error>(&self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom(format_args!("more than {VALUES_MAX} values")))?);
        Ok(())
    }
}

struct Object<'a>(&'a MessageDescriptor, &'a Left);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = DynamicMessage;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<DynamicMessage, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = DynamicMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object for message {}", self.0.full_name())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<DynamicMessage, M::Error> {
        let mut message = DynamicMessage::new(self.0.clone());
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let field = self.0.get_field_by_name(&name).or_else(|| self.0.get_field_by_json_name(&name));
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if !seen.insert(field.number()) {
                return Err(M::Error::custom(format_args!("duplicate field {name:?}")));
            }
            self.1.take::<M::Error>()?;
            let Some(value) = map.next_value_seed(Content(&field, self.1))? else { continue };
            if let Some(choice) = field.containing_oneof()
                && choice.fields().any(|other| message.has_field(&other))
            {
                let choice = choice.full_name();
                return Err(M::Error::custom(format_args!("error parsing {name:?}, oneof {choice} is already set")));
            }
            message.set_field(&field, value);
        }
        Ok(message)
    }
}

/// The value of a field; none for `null` or an unknown name.
struct Content<'a>(&'a FieldDescriptor, &'a Left);

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        match (self.0.is_list(), self.0.kind()) {
            (false, kind) if !matches!(kind, Kind::Message(_)) => Item(self.0, self.1).deserialize(deserializer),
            _ => deserializer.deserialize_option(self),
        }
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value for field {}", self.0.name())
    }

    fn visit_none<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        match self.0.is_list() {
            true => deserializer.deserialize_seq(self),
            false => Item(self.0, self.1).deserialize(deserializer),
        }
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Option<Value>, S::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Item(self.0, self.1))? {
            self.1.take::<S::Error>()?;
            match item {
                Some(item) => list.push(item),
                None if matches!(self.0.kind(), Kind::Enum(_)) => {}
                None => return Err(S::Error::custom("unexpected token null")),
            }
        }
        Ok(Some(Value::List(list)))
    }
}

/// One value of a field.
struct Item<'a>(&'a FieldDescriptor, &'a Left);

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        let kind = self.0.kind();
        if let Kind::Message(descriptor) = &kind {
            return Object(descriptor, self.1).deserialize(deserializer).map(|message| Some(Value::Message(message)));
        }
        let text = <&RawValue as serde::Deserialize>::deserialize(deserializer)?.get();
        if text == "null" || is_unknown_name(&kind, text) {
            return Ok(None);
        }
        scalar(&kind, text).map(Some).ok_or_else(|| {
            let (name, shown) = (self.0.name(), text.chars().take(SHOWN_CHARS_MAX).collect::<String>());
            let kind = if let Kind::Enum(_) = kind { "enum".to_owned() } else { format!("{kind:?}") };
            D::Error::custom(format_args!("invalid value for {kind} field {name}: {shown}"))
        })
    }
}

fn is_unknown_name(kind: &Kind, text: &str) -> bool {
    let Kind::Enum(names) = kind else { return false };
    quoted(text).is_some_and(|name| names.get_value_by_name(&name).is_none())
}

/// Reads `text`, a JSON value, as a field of that kind. No request of etcd has a field for fractions.
fn scalar(kind: &Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Bool => serde_json::from_str(text).ok().map(Value::Bool),
        Kind::String => serde_json::from_str(text).ok().map(Value::String),
        Kind::Bytes => bytes(&quoted(text)?).map(|bytes| Value::Bytes(bytes.into())),
        Kind::Enum(names) => {
            let number = match quoted(text) {
                Some(name) => names.get_value_by_name(&name)?.number(),
                None => number(text)?.try_into().ok()?,
            };
            Some(Value::EnumNumber(number))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(text)?.try_into().ok().map(Value::I64),
        Kind::Uint64 | Kind::Fixed64 => integer(text)?.try_into().ok().map(Value::U64),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(text)?.try_into().ok().map(Value::I32),
        Kind::Uint32 | Kind::Fixed32 => integer(text)?.try_into().ok().map(Value::U32),
        Kind::Double | Kind::Float | Kind::Message(_) => None,
    }
}

fn quoted(text: &str) -> Option<Cow<'_, str>> {
    // A `Cow` alone would always be a copy.
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str(text).ok().map(|Text(text)| text)
}

fn integer(text: &str) -> Option<i128> {
    match quoted(text) {
        Some(inner) => number(&inner),
        None => number(text),
    }
}

/// A JSON number that is whole, however it is written: `10`, `1e1`, `10.0`.
fn number(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = !whole.is_empty() && (whole == "0" || !whole.starts_with('0'));
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if !well_formed || !all_digits(whole) || !all_digits(fraction) || !all_digits(exponent_digits) {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let fraction = fraction.trim_end_matches('0');
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = shift.checked_add(i32::try_from(digits.len() - significant.len()).ok()?)?;
    let scale = 10_i128.checked_pow(u32::try_from(zeros).ok()?)?;
    significant.parse::<i128>().ok()?.checked_mul(scale)?.checked_mul(sign)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let wrapped = text.contains(['\r', '\n']);
    let text = if wrapped { Cow::Owned(text.replace(['\r', '\n'], "")) } else { Cow::Borrowed(text) };
    let alphabet: &Alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let padding = match text.len() % 4 {
        0 => DecodePaddingMode::RequireCanonical,
        _ => DecodePaddingMode::RequireNone,
    };
    let rules = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, rules).decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact_however_they_are_written() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("10", 10),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("18446744073709551615", i128::from(u64::MAX)),
            ("18446744073709551616", i128::from(u64::MAX) + 1),
            ("1e3", 1_000),
            ("1.0", 1),
            ("1.50E+1", 15),
            ("1200e-2", 12),
            ("0.000e-400", 0),
        ] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for bad in ["", "-", "+1", "01", "1.", ".5", "1.5", "1e", "1e-1", "1e400", "1e99999999999", " 1", "0x1", "1_0"]
        {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn bytes_are_base64_of_either_kind() {
        for text in ["+/8=", "-_8=", "+/8", "-_8", "+/\n8=\r\n"] {
            assert_eq!(bytes(text), Some(vec![0xfb, 0xff]), "{text:?}");
        }
        assert_eq!(bytes("Zh=="), Some(b"f".to_vec()), "bits that mean nothing");
        for bad in ["Zg=", "Z", "Zg==Zg==", "+_8=", "!", "Zm 9v"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }
}
