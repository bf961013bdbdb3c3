//! Follows a container's log across the engine's rotation of it.
//!
//! The engine's own way of following loses whole files of a log that it rotates. It serves here only to learn that
//! there is something new: each time a new stream is opened at the last line, and dropped as soon as it shows another
//! one. What is new is then read from the end of the log, which the engine does reliably. The end of a stream says
//! nothing about the container, so that the engine is asked whether it still runs:
//!
//! ```text
//!   wait at the last line ── another one came, or the end ──▶ read the last lines ──▶ [`Cursor`] ──▶ reader
//!             ▲                                                      ▲              │     │
//!             │                                                      └─ more lines ─┘     │ all are delivered
//!             └───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! More lines are read where the line that was delivered last is not among those read. Lines are lost only where the
//! engine has thrown them away before they could be read.
//!
//! All this needs the frames in which the engine sends a log. The output of a terminal has none, and is not followed
//! here.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bollard::Docker as Engine;
use bollard::container::LogOutput;
use bollard::errors::Error as EngineError;
use bollard::query_parameters::{InspectContainerOptions, LogsOptions};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::{failed, unless_system_error};
use crate::agent::error::Error;
use crate::agent::runtime::LogOptions;
use crate::world::Clock;

/// Entries that wait for a slow reader. When there are so many, nothing more is read from the engine.
const ENTRIES_MAX: usize = 64;
/// How many lines are read first, and how many times more where they do not reach back far enough.
const LINES_MIN: u64 = 64;
const LINES_FACTOR: u64 = 8;
/// Beyond so many the whole log is read.
const LINES_MAX: u64 = 100_000;
/// The pause between two reads, so that a busy log is read in portions.
const READ_PAUSE: Duration = Duration::from_millis(20);
/// A read follows after this time even if the engine shows nothing new: it may have rotated the log at the very moment
/// when the wait began. It is also the pause after a read that found nothing though there seemed to be something.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How many entries of one time are remembered. It takes a very coarse clock to write more.
const DIGESTS_MAX: usize = 1_024;

/// What an entry of a log is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<'a> {
    stream: u8,
    /// As the engine writes it: texts compare as times do.
    time: &'a [u8],
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Of an entry that the engine was asked to write the time before.
    fn of(output: &'a LogOutput) -> Entry<'a> {
        let (stream, message) = match output {
            LogOutput::StdOut { message } => (1, message),
            LogOutput::StdErr { message } => (2, message),
            LogOutput::StdIn { message } | LogOutput::Console { message } => (0, message),
        };
        let end = message.iter().position(|byte| *byte == b' ').map_or(0, |blank| blank + 1);
        Entry { stream, time: &message[..end], text: &message[end..] }
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.stream, self.time, self.text).hash(&mut hasher);
        hasher.finish()
    }

    /// A long line is several entries, of which only the last ends it; all have its time.
    fn ends_a_line(&self) -> bool {
        self.text.ends_with(b"\n")
    }

    /// Whether it is older than `since`, a time as [`text_of`] writes it.
    fn is_before(&self, since: &str) -> bool {
        self.time < since.as_bytes()
    }
}

/// A time in seconds since the Unix epoch, as the engine writes it up to its seconds.
fn text_of(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.strftime("%Y-%m-%dT%H:%M:%S").to_string())
}

/// The last entry delivered, and how many equal ones were delivered up to it: parts of a long line may be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchor {
    digest: u64,
    count: u32,
}

/// What to do with an entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It was delivered before.
    Skip,
    /// It is new. The engine writes the time before each part of a long line, but it belongs before the first alone.
    Deliver { begins_line: bool },
    /// Time steps back: the engine rotated the log while it was read, and goes through a part of it again.
    Stop,
}

/// The newest time of a stream.
#[derive(Debug, Default)]
struct Newest {
    time: Vec<u8>,
    /// Whether the last entry ended a line.
    ended: bool,
    /// Of the entries delivered that have this time.
    digests: BTreeSet<u64>,
}

impl Newest {
    /// Whether `entry` is a further part of the line that the last one did not end.
    fn goes_on_with(&self, entry: Entry<'_>) -> bool {
        !self.ended && entry.time == self.time.as_slice()
    }

    /// Whether time steps back with `entry`. A coarse clock gives many entries one time, and only those that were
    /// delivered come again.
    fn is_after(&self, entry: Entry<'_>) -> bool {
        match entry.time.cmp(self.time.as_slice()) {
            Ordering::Less => true,
            Ordering::Equal => self.ended && self.digests.contains(&entry.digest()),
            Ordering::Greater => false,
        }
    }

    fn note(&mut self, entry: Entry<'_>) {
        if entry.time != self.time.as_slice() {
            self.time = entry.time.to_vec();
            self.digests.clear();
        }
        self.ended = entry.ends_a_line();
        if self.digests.len() < DIGESTS_MAX {
            self.digests.insert(entry.digest());
        }
    }
}

/// Where in a log its reader is.
#[derive(Debug, Default)]
struct Cursor {
    anchor: Option<Anchor>,
    /// By stream.
    newest: [Newest; 3],
    /// The entry at which the read before stopped. When it is the next one again, then the clock stepped back.
    suspect: Option<u64>,
    /// Of the read under way: how many entries equal to the anchor are still to come, and what was delivered.
    to_skip: u32,
    delivered: u64,
}

impl Cursor {
    /// Begins to read entries up to the end of the log.
    fn begin(&mut self) {
        self.to_skip = self.anchor.map_or(0, |anchor| anchor.count);
        self.delivered = 0;
    }

    /// Whether the entries read so far reach back to what was delivered before.
    fn is_found(&self) -> bool {
        self.to_skip == 0
    }

    /// Whether `entry` is the last one delivered.
    fn is_at(&self, entry: Entry<'_>) -> bool {
        self.anchor.is_some_and(|anchor| anchor.digest == entry.digest())
    }

    fn take(&mut self, entry: Entry<'_>) -> Action {
        if self.to_skip > 0 {
            self.to_skip -= u32::from(self.is_at(entry));
            return Action::Skip;
        }
        let digest = entry.digest();
        let newest = &mut self.newest[usize::from(entry.stream)];
        if newest.is_after(entry) && (self.delivered > 0 || self.suspect != Some(digest)) {
            self.suspect = Some(digest);
            return Action::Stop;
        }
        let begins_line = !newest.goes_on_with(entry);
        newest.note(entry);
        self.suspect = None;
        self.anchor = Some(match self.anchor {
            Some(anchor) if anchor.digest == digest => Anchor { count: anchor.count + 1, ..anchor },
            _ => Anchor { digest, count: 1 },
        });
        self.delivered += 1;
        Action::Deliver { begins_line }
    }
}

/// What a wait for news came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// There seems to be something new.
    News,
    /// Nothing was seen for [`WAIT_MAX`].
    Silence,
    /// The container does not run: what is to be read now is the rest.
    End,
}

/// Follows the log of a container without a terminal until it ends.
pub(super) fn follow(
    engine: Engine,
    clock: Clock,
    id: &str,
    options: LogOptions,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let (sender, receiver) = mpsc::channel(ENTRIES_MAX);
    let since = options.since.and_then(text_of);
    let follower = Follower { engine, clock, id: id.to_owned(), options, since, cursor: Cursor::default(), sender };
    // The follower runs while somebody reads.
    let driver = futures::stream::once(follower.run()).filter_map(|()| std::future::ready(None));
    futures::stream::select(ReceiverStream::new(receiver), driver).boxed()
}

struct Follower {
    engine: Engine,
    clock: Clock,
    id: String,
    options: LogOptions,
    /// From the options, as entries compare with it.
    since: Option<String>,
    cursor: Cursor,
    sender: mpsc::Sender<Result<Bytes, Error>>,
}

impl Follower {
    async fn run(mut self) {
        match self.follow().await {
            // A container that was removed, or is being removed, has nothing more to say.
            Ok(()) | Err(EngineError::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
            // Without a reader nobody polls this.
            Err(error) => {
                let _ = self.sender.send(Err(failed(error))).await;
            }
        }
    }

    async fn follow(&mut self) -> Result<(), EngineError> {
        let mut wait = Wait::Silence;
        let mut has_begun = false;
        loop {
            let read = if has_begun { self.read_on().await } else { self.begin().await };
            has_begun = has_begun || read.is_ok() || self.cursor.anchor.is_some();
            let is_whole = match read {
                // As long as the container runs, the next read may succeed.
                Err(EngineError::DockerStreamError { error }) if wait != Wait::End => {
                    tracing::debug!(container = self.id, error, "the engine cannot read a log; trying again");
                    false
                }
                read => read?,
            };
            if wait == Wait::End && is_whole {
                return Ok(());
            }
            if self.cursor.delivered > 0 {
                self.clock.sleep(READ_PAUSE).await;
            } else if wait != Wait::Silence {
                self.clock.sleep(WAIT_MAX).await;
            }
            if wait != Wait::End {
                wait = self.wait_for_news().await?;
            }
        }
    }

    /// Waits until the log has another last entry than the one delivered last, for at most [`WAIT_MAX`].
    async fn wait_for_news(&self) -> Result<Wait, EngineError> {
        let mut entries = self.entries(Self::request(true, Some(1)));
        let news = async {
            loop {
                match entries.try_next().await {
                    Ok(Some(output)) if self.cursor.is_at(Entry::of(&output)) => {}
                    Ok(Some(_)) => return Ok(Wait::News),
                    Ok(None) | Err(EngineError::DockerStreamError { .. }) => {
                        return Ok(if self.is_running().await? { Wait::News } else { Wait::End });
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        self.clock.timeout(WAIT_MAX, news).await.unwrap_or(Ok(Wait::Silence))
    }

    async fn is_running(&self) -> Result<bool, EngineError> {
        let inspected = self.engine.inspect_container(&self.id, None::<InspectContainerOptions>).await?;
        Ok(inspected.state.is_some_and(|state| state.running == Some(true)))
    }

    /// Delivers what the options ask for of the log as it is; `false` where the read broke off.
    async fn begin(&mut self) -> Result<bool, EngineError> {
        let LogOptions { tail_lines, since, .. } = self.options;
        // To begin where the log ends, its last line has to be known.
        let lines = tail_lines.map(|lines| lines.max(1));
        let request = LogsOptions { since: logs_request(self.options).since, ..Self::request(false, lines) };
        let is_whole = self.read(request, tail_lines != Some(0)).await?;
        if since.is_some() && self.cursor.anchor.is_none() {
            self.begin_at_older().await?;
        }
        Ok(is_whole)
    }

    /// Where all entries are too old, all that come after the last one are new.
    async fn begin_at_older(&mut self) -> Result<(), EngineError> {
        let last = self.entries(Self::request(false, Some(1))).try_next().await?;
        if let Some(entry) = last.as_ref().map(Entry::of).filter(|entry| self.is_too_old(*entry)) {
            self.cursor.begin();
            self.cursor.take(entry);
        }
        Ok(())
    }

    /// Delivers what came since the last read, and reads as many lines as it takes to find where that was; `false`
    /// where the read broke off.
    async fn read_on(&mut self) -> Result<bool, EngineError> {
        let mut lines = (self.cursor.delivered * 2).max(LINES_MIN);
        loop {
            let reads_all = self.cursor.anchor.is_none() || lines > LINES_MAX;
            let is_whole = self.read(Self::request(false, (!reads_all).then_some(lines)), true).await?;
            if self.cursor.is_found() {
                return Ok(is_whole);
            }
            if reads_all {
                self.cursor.anchor = None;
            }
            lines *= LINES_FACTOR;
        }
    }

    /// Reads what `request` asks for, and delivers what the cursor has not passed yet; `false` where it broke off.
    async fn read(&mut self, request: LogsOptions, delivers: bool) -> Result<bool, EngineError> {
        let mut entries = self.entries(request);
        self.cursor.begin();
        while let Some(output) = entries.try_next().await? {
            let entry = Entry::of(&output);
            match self.cursor.take(entry) {
                Action::Skip => {}
                Action::Stop => return Ok(false),
                Action::Deliver { begins_line } if delivers && !self.is_too_old(entry) => {
                    let shown = if self.options.timestamps && begins_line { 0 } else { entry.time.len() };
                    let part = output.into_bytes().slice(shown..);
                    // Without a reader nobody polls this.
                    let _ = self.sender.send(Ok(part)).await;
                }
                Action::Deliver { .. } => {}
            }
        }
        Ok(true)
    }

    fn is_too_old(&self, entry: Entry<'_>) -> bool {
        self.since.as_ref().is_some_and(|since| entry.is_before(since))
    }

    fn entries(&self, request: LogsOptions) -> BoxStream<'static, Result<LogOutput, EngineError>> {
        let outputs = self.engine.logs(&self.id, Some(request));
        outputs.and_then(|output| std::future::ready(unless_system_error(output))).boxed()
    }

    /// Without a lower bound of time: what was delivered last may be older, and has to be found.
    fn request(follow: bool, lines: Option<u64>) -> LogsOptions {
        logs_request(LogOptions { follow, tail_lines: lines, timestamps: true, since: None })
    }
}

/// The engine's query for what `options` say.
pub(super) fn logs_request(options: LogOptions) -> LogsOptions {
    LogsOptions {
        follow: options.follow,
        stdout: true,
        stderr: true,
        timestamps: options.timestamps,
        since: options.since.and_then(|since| i32::try_from(since).ok()).unwrap_or_default(),
        until: 0,
        tail: options.tail_lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROTATED: usize = 3;

    fn entry(text: &str) -> LogOutput {
        LogOutput::StdOut { message: Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// Reads `log` with the cursor: what is delivered, and whether it came to the end.
    fn read(cursor: &mut Cursor, log: &[String]) -> (Vec<String>, bool) {
        cursor.begin();
        let mut delivered = Vec::new();
        for text in log {
            match cursor.take(Entry::of(&entry(text))) {
                Action::Skip => {}
                Action::Deliver { .. } => delivered.push(text.clone()),
                Action::Stop => return (delivered, false),
            }
        }
        (delivered, true)
    }

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| format!("{text}\n")).collect()
    }

    #[test]
    fn each_read_goes_on_where_the_last_one_ended() {
        let mut cursor = Cursor::default();
        assert_eq!(read(&mut cursor, &lines(&["1 a", "2 b"])).0.len(), 2);
        assert_eq!(read(&mut cursor, &lines(&["1 a", "2 b"])).0.len(), 0);
        assert_eq!(read(&mut cursor, &lines(&["2 b", "3 c"])).0, lines(&["3 c"]));
        assert_eq!(read(&mut cursor, &lines(&["4 d"])).0.len(), 0);
        assert!(!cursor.is_found());
    }

    #[test]
    fn equal_parts_of_a_long_line_are_all_delivered() {
        let mut cursor = Cursor::default();
        let part = || "1 xxxx".to_owned();
        assert_eq!(read(&mut cursor, &[part()]).0.len(), 1);
        assert_eq!(read(&mut cursor, &[part(), part(), part(), "1 x\n".to_owned()]).0.len(), 3);
        assert_eq!(read(&mut cursor, &[part(), part(), part(), "1 x\n".to_owned()]).0.len(), 0);
    }

    #[test]
    fn only_the_first_part_of_a_line_begins_it() {
        let mut cursor = Cursor::default();
        cursor.begin();
        let log = ["1 xx", "1 yy", "1 z\n", "1 a\n", "2 thrown awa", "3 b\n"];
        let begins = log.map(|text| cursor.take(Entry::of(&entry(text))));
        let begins = begins.map(|action| action == Action::Deliver { begins_line: true });
        assert_eq!(begins, [true, false, false, true, true, true]);
    }

    #[test]
    fn lines_of_one_time_are_read_at_once_and_stop_only_where_they_come_again() {
        let mut cursor = Cursor::default();
        let log = lines(&["1 a", "1 b", "1 c"]);
        assert_eq!(read(&mut cursor, &log), (log, true));
        let log = lines(&["1 c", "1 d", "1 a", "1 b"]);
        assert_eq!(read(&mut cursor, &log), (lines(&["1 d"]), false));
    }

    #[test]
    fn entries_are_older_than_since_by_whole_seconds() {
        let since = text_of(1_767_323_045).unwrap();
        assert_eq!(since, "2026-01-02T03:04:05");
        for (text, is_before) in [
            ("2026-01-02T03:04:04.999999999Z x\n", true),
            ("2026-01-02T03:04:05.000000000Z x\n", false),
            ("2026-01-02T03:04:05.000000001Z x\n", false),
            ("2025-12-31T23:59:59.999999999Z x\n", true),
        ] {
            assert_eq!(Entry::of(&entry(text)).is_before(&since), is_before, "{text}");
        }
        assert_eq!(text_of(i64::MAX), None);
    }

    #[test]
    fn a_clock_that_steps_back_holds_nothing_up() {
        let mut cursor = Cursor::default();
        let log = lines(&["8 a", "9 b", "1 c", "2 d"]);
        assert_eq!(read(&mut cursor, &log), (log[..2].to_vec(), false));
        assert_eq!(read(&mut cursor, &log), (log[2..].to_vec(), true));
    }

    proptest! {
        /// The log grows and is rotated between reads, and now and then during one, which then sees the newest file
        /// twice. The clock gives several lines one time. Every line is delivered once, in order.
        #[test]
        fn nothing_is_repeated_and_nothing_is_missing(
            steps in proptest::collection::vec((0..6_usize, any::<bool>(), any::<bool>(), 1..9_usize), 1..60),
            lines_per_time in 1..8_usize
        ) {
            let (mut files, mut written, mut delivered) = (vec![Vec::new()], Vec::new(), Vec::new());
            let mut cursor = Cursor::default();
            for (grows, rotates, races, tail) in steps {
                let current: Vec<String> = files.last().cloned().unwrap_or_default();
                for _ in 0..grows {
                    let line = format!("{:04} {}\n", written.len() / lines_per_time, written.len());
                    files.last_mut().unwrap().push(line.clone());
                    written.push(line);
                }
                if rotates {
                    files.push(Vec::new());
                }
                let mut log = files[files.len().saturating_sub(ROTATED)..].concat();
                if rotates && races {
                    // The file was opened, then renamed and opened again under its other name.
                    log.extend(current);
                }
                // Without an anchor the whole log is read.
                let mut tail = if cursor.anchor.is_none() { log.len() } else { tail };
                loop {
                    let last = &log[log.len().saturating_sub(tail)..];
                    delivered.extend(read(&mut cursor, last).0);
                    if cursor.is_found() || tail >= log.len() {
                        break;
                    }
                    tail *= 4;
                }
            }
            for _ in 0..2 {
                delivered.extend(read(&mut cursor, &files.concat()).0);
            }
            prop_assert_eq!(delivered, written);
        }
    }
}
