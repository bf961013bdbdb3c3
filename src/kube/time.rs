//! Wall time as objects carry it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use crate::world::Clock;

/// Now, to the nanosecond.
pub fn timestamp(clock: &Clock) -> Timestamp {
    let since_epoch = SignedDuration::try_from(clock.unix()).unwrap_or(SignedDuration::MAX);
    Timestamp::from_duration(since_epoch).expect("the clock stands before the year 9999")
}

/// Now, as most fields write it: to the second.
pub fn now(clock: &Clock) -> Time {
    Time(timestamp(clock))
}

/// Now, to the microsecond: leases.
pub fn micro_now(clock: &Clock) -> MicroTime {
    MicroTime(timestamp(clock))
}

/// How long ago `time` was; zero for the future.
pub fn since(clock: &Clock, time: Timestamp) -> Duration {
    timestamp(clock).duration_since(time).try_into().unwrap_or_default()
}
