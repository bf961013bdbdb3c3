//! Follows a container's log across the engine's rotation of it.
//!
//! The engine's own way of following loses whole files of a log that it rotates. It serves here only to learn that
//! there is something new: each time a new stream is opened at the last line, and dropped as soon as it shows another
//! one. What is new is then read from the end of the log, which the engine does reliably:
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

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bollard::Docker as Engine;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::failed;
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
/// when the wait began.
const WAIT_MAX: Duration = Duration::from_secs(2);

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
    Deliver,
    /// Time steps back: the engine rotated the log while it was read, and goes through a part of it again.
    Stop,
}

/// Where in a log its reader is.
#[derive(Debug, Default)]
struct Cursor {
    anchor: Option<Anchor>,
    /// By stream, the time of the last entry and whether it ended a line.
    last: [Option<(Vec<u8>, bool)>; 3],
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
        let last = &mut self.last[usize::from(entry.stream)];
        let steps_back = last.as_ref().is_some_and(|(time, ended)| match entry.time.cmp(time.as_slice()) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => *ended,
            std::cmp::Ordering::Greater => false,
        });
        if steps_back && (self.delivered > 0 || self.suspect != Some(digest)) {
            self.suspect = Some(digest);
            return Action::Stop;
        }
        *last = Some((entry.time.to_vec(), entry.ends_a_line()));
        self.suspect = None;
        self.anchor = Some(match self.anchor {
            Some(anchor) if anchor.digest == digest => Anchor { count: anchor.count + 1, ..anchor },
            _ => Anchor { digest, count: 1 },
        });
        self.delivered += 1;
        Action::Deliver
    }
}

/// Follows the log of a container until it ends.
pub(super) fn follow(
    engine: Engine,
    clock: Clock,
    id: &str,
    options: LogOptions,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let (sender, receiver) = mpsc::channel(ENTRIES_MAX);
    let follower = Follower { engine, clock, id: id.to_owned(), options, cursor: Cursor::default(), sender };
    // The follower runs while somebody reads.
    let driver = futures::stream::once(follower.run()).filter_map(std::future::ready);
    futures::stream::select(ReceiverStream::new(receiver), driver).boxed()
}

struct Follower {
    engine: Engine,
    clock: Clock,
    id: String,
    options: LogOptions,
    cursor: Cursor,
    sender: mpsc::Sender<Result<Bytes, Error>>,
}

impl Follower {
    async fn run(mut self) -> Option<Result<Bytes, Error>> {
        match self.follow().await {
            // A container that was removed has nothing more to say.
            Ok(()) | Err(Error::NotFound(_)) => None,
            Err(error) => Some(Err(error)),
        }
    }

    async fn follow(&mut self) -> Result<(), Error> {
        let lines = self.options.tail_lines;
        if !self.read(lines, lines != Some(0)).await? {
            self.read_on().await?;
        }
        loop {
            let has_ended = self.wait_for_news().await?;
            self.read_on().await?;
            if has_ended {
                return Ok(());
            }
            self.clock.sleep(READ_PAUSE).await;
        }
    }

    /// Waits until the log has another last entry than the one delivered last, for at most [`WAIT_MAX`]; `true` where
    /// the container has ended.
    async fn wait_for_news(&self) -> Result<bool, Error> {
        let mut entries = self.engine.logs(&self.id, Some(self.request(true, Some(1)))).map_err(failed).boxed();
        let news = async {
            while let Some(output) = entries.try_next().await? {
                if !self.cursor.is_at(Entry::of(&output)) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        self.clock.timeout(WAIT_MAX, news).await.unwrap_or(Ok(false))
    }

    /// Delivers what came since the last read, and reads as many lines as it takes to find where that was.
    async fn read_on(&mut self) -> Result<(), Error> {
        let mut lines = (self.cursor.delivered * 2).max(LINES_MIN);
        loop {
            let reads_all = self.cursor.anchor.is_none() || lines > LINES_MAX;
            let is_whole = self.read((!reads_all).then_some(lines), true).await?;
            if !self.cursor.is_found() && reads_all {
                self.cursor.anchor = None;
            } else if !self.cursor.is_found() {
                lines *= LINES_FACTOR;
            } else if is_whole {
                return Ok(());
            } else {
                self.clock.sleep(READ_PAUSE).await;
            }
        }
    }

    /// Reads the last `lines`, or all, and delivers what the cursor has not passed yet; `false` where it broke off.
    async fn read(&mut self, lines: Option<u64>, delivers: bool) -> Result<bool, Error> {
        // To begin where the log ends, its last line has to be known.
        let request = self.request(false, lines.map(|lines| lines.max(1)));
        let mut entries = self.engine.logs(&self.id, Some(request)).map_err(failed).boxed();
        self.cursor.begin();
        while let Some(output) = entries.try_next().await? {
            let entry = Entry::of(&output);
            match self.cursor.take(entry) {
                Action::Skip => {}
                Action::Stop => return Ok(false),
                Action::Deliver if delivers => {
                    let shown = if self.options.timestamps { 0 } else { entry.time.len() };
                    let part = output.into_bytes().slice(shown..);
                    // Without a reader nobody polls this.
                    let _ = self.sender.send(Ok(part)).await;
                }
                Action::Deliver => {}
            }
        }
        Ok(true)
    }

    fn request(&self, follow: bool, lines: Option<u64>) -> LogsOptions {
        LogsOptions { timestamps: true, ..logs_request(LogOptions { follow, tail_lines: lines, ..self.options }) }
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
                Action::Deliver => delivered.push(text.clone()),
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
    fn a_clock_that_steps_back_holds_nothing_up() {
        let mut cursor = Cursor::default();
        let log = lines(&["8 a", "9 b", "1 c", "2 d"]);
        assert_eq!(read(&mut cursor, &log), (log[..2].to_vec(), false));
        assert_eq!(read(&mut cursor, &log), (log[2..].to_vec(), true));
    }

    proptest! {
        /// The log grows and is rotated between reads, and now and then during one, which then sees the newest file
        /// twice. Every line is delivered once, in order.
        #[test]
        fn nothing_is_repeated_and_nothing_is_missing(
            steps in proptest::collection::vec((0..6_usize, any::<bool>(), any::<bool>(), 1..9_usize), 1..60)
        ) {
            let (mut files, mut written, mut delivered) = (vec![Vec::new()], Vec::new(), Vec::new());
            let mut cursor = Cursor::default();
            for (grows, rotates, races, tail) in steps {
                let current: Vec<String> = files.last().cloned().unwrap_or_default();
                for _ in 0..grows {
                    let line = format!("{:04} x\n", written.len());
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
