//! Failpoints: steps at which a test lets a process stop, wait or fail, with etcd's own names at the same steps.
//!
//! They are compiled in by the feature `failpoints`; without it each place is nothing at all. What happens at one is
//! told by `GOFAIL_FAILPOINTS` when the process starts, and over HTTP at `GOFAIL_HTTP` from then on, both as etcd's
//! tests do it.
//!
//! - `terms`: what may happen at a failpoint, and its notation
//! - `registry`: all failpoints of this process, and what is to happen at each
//! - `http`: setting and asking over HTTP

#[cfg(feature = "failpoints")]
mod http;
#[cfg(feature = "failpoints")]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "etcd's tests read these lines")]
mod registry;
#[cfg(feature = "failpoints")]
mod terms;

#[cfg(feature = "failpoints")]
pub use http::begin;
#[cfg(feature = "failpoints")]
pub use registry::{block, known, returned, wait};

/// A step that a test may disturb.
///
/// - `failpoint!("name")`: a sleep blocks the thread; for places that may block
/// - `failpoint!("name", clock)`: a sleep is one of `clock`; for async places
/// - `failpoint!("name", |text| value)`: when the test says `return`, the function ends with `value`
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::world::failpoints::block(const { $crate::world::failpoints::known($name) });
    };
    ($name:literal, |$text:pat_param| $value:expr) => {
        #[cfg(feature = "failpoints")]
        if let Some($text) = $crate::world::failpoints::returned(const { $crate::world::failpoints::known($name) }) {
            return $value;
        }
    };
    ($name:literal, $clock:expr) => {
        #[cfg(feature = "failpoints")]
        $crate::world::failpoints::wait(const { $crate::world::failpoints::known($name) }, &$clock).await;
    };
}

pub(crate) use failpoint;
