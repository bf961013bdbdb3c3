//! Events as etcd's log lines: one JSON object each, with level, ts, caller and msg first.

use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cluster::server::Options;

/// A field of this name holds a JSON object whose members stand in the line themselves.
const INLINED: &str = "inlined";

/// Begins to log as `options` say.
pub fn begin(options: &Options) {
    let filter = EnvFilter::new(filter(&options.log_level));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).event_format(Lines);
    // A second beginning, as in tests, has no effect.
    let _ = logs.try_init();
}

/// What of which crate is logged. Consensus and HTTP tell of each connection that fails, which is no news to anyone.
fn filter(level: &str) -> String {
    match level {
        "debug" => "info,chorus=debug,openraft=warn".into(),
        "info" => "warn,chorus=info,openraft=error".into(),
        "warn" => "warn,openraft=error".into(),
        _ => "error".into(),
    }
}

struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = String::from("{");
        let mut put = |name: &str, value: &Value| {
            let comma = if line.len() > 1 { "," } else { "" };
            let _ = write!(line, "{comma}{}:{value}", Value::from(name));
        };
        put("level", &level(metadata.target(), *metadata.level()).into());
        put("ts", &timestamp(now()).into());
        put("caller", &caller(metadata.file(), metadata.line()).into());
        put("msg", &fields.message.into());
        fields.others.iter().for_each(|(name, value)| put(name, value));
        writeln!(writer, "{line}}}")
    }
}

#[allow(clippy::disallowed_methods, reason = "log lines carry the machine's time; nothing depends on it")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What a library calls an error is about one connection or one try, and is tried again.
fn level(target: &str, level: Level) -> &'static str {
    match level {
        Level::ERROR if target.starts_with("chorus") => "error",
        Level::ERROR | Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The last folder and the file, as Go's logs name it.
fn caller(file: Option<&str>, line: Option<u32>) -> String {
    let mut parts = file.unwrap_or("unknown").rsplit('/');
    let (name, folder) = (parts.next().unwrap_or_default(), parts.next());
    let line = line.unwrap_or_default();
    match folder {
        Some(folder) => format!("{folder}/{name}:{line}"),
        None => format!("{name}:{line}"),
    }
}

/// `2006-01-02T15:04:05.000000Z`, of the time since 1970.
fn timestamp(since: Duration) -> String {
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", since.subsec_micros())
}

/// The civil date so many days after 1970-01-01, by counting in years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The message and the other fields of an event, in order.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (INLINED, Value::String(text)) => match serde_json::from_str(&text) {
                Ok(Value::Object(members)) => self.others.extend(members),
                _ => drop(self.others.insert(INLINED.into(), text.into())),
            },
            (name, value) => drop(self.others.insert(name.trim_start_matches("r#").to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_etcd_writes_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000007Z"),
            (1_795_366_800, "2026-11-22T17:00:00.000007Z"),
        ] {
            assert_eq!(timestamp(Duration::new(seconds, 7_000)), text);
        }
    }

    #[test]
    fn callers_are_short() {
        assert_eq!(caller(Some("src/store/open.rs"), Some(7)), "store/open.rs:7");
        assert_eq!(caller(Some("main.rs"), Some(7)), "main.rs:7");
    }
}
