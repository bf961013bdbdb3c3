//! Quantities: `800m`, `8G`, `1Gi`, `1e3`. Exact decimal arithmetic, and the one canonical way to write each.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{AddAssign, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

const NANOS: i128 = 1_000_000_000;
/// Larger magnitudes are cut to this, as Kubernetes does.
const NANOS_MAX: i128 = i64::MAX as i128 * NANOS;
/// Digits after the point beyond these only decide that the last kept one is rounded up.
const FRACTION_DIGITS_MAX: usize = 20;
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// An amount of a resource, in steps of 10⁻⁹, between ±(2⁶³-1). Compares by value: `1000m` equals `1`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The kind of suffix that a quantity came with and is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Decimal,
    Binary,
    Exponent,
}

/// Not a quantity: surface it to the writer. The texts are those that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::Decimal };

    /// `1500` gives `1500m`.
    pub fn from_millis(millis: i64) -> Quantity {
        Quantity { nanos: i128::from(millis) * 1_000_000, format: Format::Decimal }
    }

    /// `2000` gives `2k`.
    pub fn from_units(units: i64) -> Quantity {
        Quantity { nanos: i128::from(units) * NANOS, format: Format::Decimal }
    }

    /// `2048` gives `2Ki`.
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity { nanos: i128::from(bytes) * NANOS, format: Format::Binary }
    }

    /// Whole units, rounded away from zero: bytes of memory, pods.
    pub fn units(&self) -> i64 {
        saturate(divide_outwards(self.nanos, NANOS))
    }

    /// Thousandths, rounded away from zero: millicores of cpu.
    pub fn millis(&self) -> i64 {
        saturate(divide_outwards(self.nanos, 1_000_000))
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    pub fn to_wire(&self) -> Wire {
        Wire(self.to_string())
    }

    fn set(&mut self, nanos: i128, other: &Quantity) {
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos = nanos.clamp(-NANOS_MAX, NANOS_MAX);
    }
}

impl AddAssign for Quantity {
    /// Sums are written in the left side's format, unless it was zero.
    fn add_assign(&mut self, other: Quantity) {
        self.set(self.nanos + other.nanos, &other);
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        self.set(self.nanos - other.nanos, &other);
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<&Wire> for Quantity {
    type Error = ParseError;

    fn try_from(wire: &Wire) -> Result<Quantity, ParseError> {
        wire.0.parse()
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Quantity, ParseError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(number_length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(ParseError::Format);
        }
        let Suffix { format, exponent, multiplier } = Suffix::parse(suffix)?;
        let nanos = nanos(whole, fraction, exponent, multiplier);
        // A fraction of one is written in thousandths, not as a fraction of a power of two.
        let format = if format == Format::Binary && nanos < NANOS { Format::Decimal } else { format };
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }
}

struct Suffix {
    format: Format,
    /// The power of ten.
    exponent: i32,
    /// The power of 1024, 1 for decimal suffixes.
    multiplier: i128,
}

impl Suffix {
    fn parse(suffix: &str) -> Result<Suffix, ParseError> {
        let decimal = |exponent, format| Ok(Suffix { format, exponent, multiplier: 1 });
        if let Some(place) = DECIMAL.iter().position(|s| *s == suffix) {
            return decimal(place as i32 * 3 - 9, Format::Decimal);
        }
        if let Some(place) = BINARY.iter().position(|s| *s == suffix) {
            return Ok(Suffix { format: Format::Binary, exponent: 0, multiplier: 1 << (10 * (place + 1)) });
        }
        let digits = suffix.strip_prefix(['e', 'E']).ok_or_else(|| unknown_suffix(suffix))?;
        let exponent: i64 = digits.parse().map_err(|_| unknown_suffix(suffix))?;
        // Beyond this every value is the largest, or zero.
        decimal(exponent.clamp(-100, 100) as i32, Format::Exponent)
    }
}

fn unknown_suffix(suffix: &str) -> ParseError {
    let known = |c: char| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit();
    if suffix.chars().all(known) { ParseError::Suffix } else { ParseError::Format }
}

/// `whole.fraction * 10^exponent * multiplier` in nanos, rounded up, cut at the largest.
fn nanos(whole: &str, fraction: &str, exponent: i32, multiplier: i128) -> i128 {
    let (whole, fraction) = shift(whole, fraction, exponent);
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 {
        return NANOS_MAX;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().expect("at most 19 digits") };
    let Some(whole) = whole.checked_mul(multiplier).and_then(|w| w.checked_mul(NANOS)) else { return NANOS_MAX };
    (whole + fraction_nanos(fraction.trim_end_matches('0'), multiplier)).min(NANOS_MAX)
}

fn fraction_nanos(fraction: &str, multiplier: i128) -> i128 {
    if fraction.is_empty() {
        return 0;
    }
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let dropped = kept.len() < fraction.len();
    let digits = kept.parse::<i128>().expect("at most 20 digits") + i128::from(dropped);
    match kept.len() {
        length @ 0..=9 => digits * 10_i128.pow(9 - length as u32) * multiplier,
        length => divide_outwards(digits * multiplier, 10_i128.pow(length as u32 - 9)),
    }
}

/// Moves the decimal point `by` places to the right.
fn shift(whole: &str, fraction: &str, by: i32) -> (String, String) {
    let places = by.unsigned_abs() as usize;
    if by >= 0 {
        let padded = format!("{fraction:0<places$}");
        (format!("{whole}{}", &padded[..places]), padded[places..].to_owned())
    } else {
        let padded = format!("{whole:0>places$}");
        let point = padded.len() - places;
        (padded[..point].to_owned(), format!("{}{fraction}", &padded[point..]))
    }
}

fn divide_outwards(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 { quotient } else { quotient + value.signum() }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary = self.format == Format::Binary && self.nanos.abs() >= 1024 * NANOS;
        if binary {
            let (mantissa, place) = reduce(divide_outwards(self.nanos, NANOS), 1024, BINARY.len());
            return write!(f, "{mantissa}{}", if place == 0 { "" } else { BINARY[place - 1] });
        }
        let (mantissa, place) = reduce(self.nanos, 1000, DECIMAL.len() - 1);
        match (self.format, place) {
            (Format::Exponent, 3) => write!(f, "{mantissa}"),
            (Format::Exponent, place) => write!(f, "{mantissa}e{}", place as i32 * 3 - 9),
            (Format::Decimal | Format::Binary, place) => write!(f, "{mantissa}{}", DECIMAL[place]),
        }
    }
}

/// Takes out as many factors of `base` as there are, at most `places`.
fn reduce(mut mantissa: i128, base: i128, places: usize) -> (i128, usize) {
    let mut place = 0;
    while place < places && mantissa % base == 0 {
        mantissa /= base;
        place += 1;
    }
    (mantissa, place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn quantities_are_written_in_canonical_form() {
        for (text, canonical) in [
            ("0", "0"),
            ("0.0", "0"),
            ("-0Gi", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("1.", "1"),
            (".5", "500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("800m", "800m"),
            ("1000m", "1"),
            ("1500", "1500"),
            ("3000", "3k"),
            ("8G", "8G"),
            ("8000M", "8G"),
            ("1Gi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("-2Ki", "-2Ki"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1E", "1E"),
            ("1e-3", "1e-3"),
            ("10e2", "1e3"),
            ("5e0", "5"),
            ("100n", "100n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.0001Ki", "1025"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775807"),
            ("1e999999", "9223372036854775807"),
            ("0e999999", "0"),
            ("1e-999999", "1e-9"),
            ("100Ei", "9223372036854775807"),
        ] {
            assert_eq!(quantity(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for (text, error) in [
            ("", ParseError::Format),
            ("-", ParseError::Format),
            (".", ParseError::Format),
            ("1.2.3", ParseError::Format),
            ("abc", ParseError::Format),
            ("1 Gi", ParseError::Format),
            ("1GB", ParseError::Format),
            ("ä", ParseError::Format),
            ("1kk", ParseError::Suffix),
            ("1e", ParseError::Suffix),
            ("1K", ParseError::Suffix),
            ("1mi", ParseError::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn values_round_away_from_zero_and_never_overflow() {
        assert_eq!(quantity("1m").units(), 1);
        assert_eq!(quantity("-1m").units(), -1);
        assert_eq!(quantity("1.5Gi").units(), 1536 << 20);
        assert_eq!(quantity("100u").millis(), 1);
        assert_eq!(quantity("2").millis(), 2000);
        assert_eq!(quantity("8E").millis(), i64::MAX);
    }

    #[test]
    fn sums_keep_the_format_of_the_left_side() {
        let mut sum = Quantity::ZERO;
        sum += quantity("1Gi");
        assert_eq!(sum.to_string(), "1Gi");
        sum += quantity("24M");
        sum -= quantity("24M");
        assert_eq!(sum.to_string(), "1Gi");
        sum -= quantity("2Gi");
        assert!(sum.is_negative());
        assert_eq!(quantity("1000m"), quantity("1"));
        assert!(quantity("1Gi") > quantity("1G"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same_and_is_stable(
            whole in 0_u64..1 << 40, fraction in 0_u32..1000, suffix in 0_usize..17
        ) {
            let suffixes: Vec<&str> = DECIMAL.iter().chain(&BINARY).copied().chain(["e2"]).collect();
            let parsed = quantity(&format!("{whole}.{fraction:03}{}", suffixes[suffix]));
            let again = quantity(&parsed.to_string());
            let binary = suffix >= DECIMAL.len();
            prop_assert!(again == parsed || (binary && again.units() == parsed.units()));
            prop_assert_eq!(again.to_string(), parsed.to_string());
        }

        #[test]
        fn any_text_is_answered(text in "[-+.0-9eEinumkKMGTP]{0,40}|.{0,12}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
