//! A wall clock of its own for a member: libfaketime stands between it and the C library. The machine's clock and every
//! monotonic clock stay as they are.

use std::path::{Path, PathBuf};

/// Where distributions put it.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];

/// A clock that can be set.
#[derive(Debug)]
pub struct Clock {
    library: &'static str,
    /// How far it is ahead, in seconds, as text.
    offset: PathBuf,
}

impl Clock {
    /// `None` where libfaketime is not installed.
    pub fn find(dir: &Path, name: &str) -> anyhow::Result<Option<Clock>> {
        let Some(library) = LIBRARIES.into_iter().find(|library| Path::new(library).exists()) else { return Ok(None) };
        let clock = Clock { library, offset: dir.join(format!("{name}.clock")) };
        clock.set(0.0)?;
        Ok(Some(clock))
    }

    /// What a process needs to go by it.
    pub fn environment(&self) -> [(&'static str, String); 6] {
        [
            ("LD_PRELOAD", self.library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // Each process by itself, and files keep their own times.
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// Lets it be `ahead_s` seconds ahead of the machine's; behind, if negative.
    pub fn set(&self, ahead_s: f64) -> anyhow::Result<()> {
        // Replaced at once: it is read at every look at the clock.
        let next = self.offset.with_extension("clock.next");
        std::fs::write(&next, format!("{ahead_s:+.3}\n"))?;
        std::fs::rename(&next, &self.offset)?;
        Ok(())
    }
}
