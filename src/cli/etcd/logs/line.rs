//! One log line: a JSON object with level, ts, caller and msg first, or the same for a reader at a console.

use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A field of this name holds a JSON object whose members become fields of the line.
const INLINED: &str = "inlined";

/// Lines that debug HTTP/2 are plain text in any format, as Go's library prints them.
const HTTP2: &str = "http2";

/// How lines look; `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Console,
}

impl<S, N> FormatEvent<S, N> for LogFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        if metadata.target() == HTTP2 {
            return writeln!(writer, "{} http2: {}", timestamp(now()), fields.message());
        }
        let head = Head {
            level: level(metadata.target(), *metadata.level()),
            time: timestamp(now()),
            caller: caller(metadata.file(), metadata.line()),
        };
        let line = match self {
            LogFormat::Json => json(&head, &fields),
            LogFormat::Console => console(&head, &fields),
        };
        writeln!(writer, "{line}")
    }
}

struct Head {
    level: &'static str,
    time: String,
    caller: String,
}

fn json(head: &Head, fields: &Fields) -> String {
    let mut line = String::from("{");
    let mut put = |name: &str, value: &Value| {
        let comma = if line.len() > 1 { "," } else { "" };
        let _ = write!(line, "{comma}{}:{value}", Value::from(name));
    };
    put("level", &head.level.into());
    put("ts", &head.time.as_str().into());
    put("caller", &head.caller.as_str().into());
    put("msg", &fields.message().into());
    fields.others.iter().for_each(|(name, value)| put(name, value));
    line + "}"
}

fn console(head: &Head, fields: &Fields) -> String {
    let mut line = format!("{}\t{}\t{}\t{}", head.time, head.level, head.caller, fields.message());
    if !fields.others.is_empty() {
        let members = fields.others.iter().map(|(name, value)| format!("{}: {value}", Value::from(name.as_str())));
        let _ = write!(line, "\t{{{}}}", members.collect::<Vec<_>>().join(", "));
    }
    line
}

#[allow(clippy::disallowed_methods, reason = "log lines carry the machine's time; nothing depends on it")]
fn now() -> Duration {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A library's error concerns one connection or one try, and is tried again: a warning here.
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
pub fn timestamp(since: Duration) -> String {
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
    /// Libraries log events without a message; every line has one.
    fn message(&self) -> &str {
        if self.message.is_empty() { "event" } else { &self.message }
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (INLINED, Value::String(text)) => match serde_json::from_str(&text) {
                Ok(Value::Object(members)) => self.others.extend(members),
                _ => drop(self.others.insert(INLINED.into(), text.into())),
            },
            (name, value) => drop(self.others.insert(name.trim_start_matches("r#").replace('_', "-"), value)),
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
    fn a_line_is_json_or_for_a_console() {
        let mut fields = Fields { message: "say \"hi\"".into(), ..Fields::default() };
        fields.others.insert("n".into(), 7.into());
        let head = Head { level: "info", time: "T".into(), caller: "a/b.rs:1".into() };
        let line = json(&head, &fields);
        assert_eq!(line, r#"{"level":"info","ts":"T","caller":"a/b.rs:1","msg":"say \"hi\"","n":7}"#);
        assert_eq!(console(&head, &fields), "T\tinfo\ta/b.rs:1\tsay \"hi\"\t{\"n\": 7}");
        assert_eq!(Fields::default().message(), "event");
    }

    #[test]
    fn callers_are_short() {
        assert_eq!(caller(Some("src/store/open.rs"), Some(7)), "store/open.rs:7");
        assert_eq!(caller(Some("main.rs"), Some(7)), "main.rs:7");
    }
}
