//! Wall time as Kubernetes writes it. Data only: deadlines of calls are monotonic.

use jiff::{SignedDuration, Timestamp};

use crate::world::Clock;

/// The wall clock's time.
pub fn now(clock: &Clock) -> Timestamp {
    let since_epoch = SignedDuration::try_from(clock.unix()).expect("the clock stands before the year 292 billion");
    Timestamp::from_duration(since_epoch).expect("the clock stands before the year 9999")
}
