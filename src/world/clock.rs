//! Time. Monotonic time and timers are tokio's, which a simulation pauses; wall time is data, read here only.

use std::future::Future;
use std::time::Duration;

pub use tokio::time::Instant;
pub use tokio::time::error::Elapsed;

/// Wall time at the start of every simulation: 2026-01-01T00:00:00Z.
const SIMULATED_EPOCH: Duration = Duration::from_secs(1_767_225_600);

/// A handle on time.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Real,
    Simulated { started: Option<Instant>, ahead: Duration },
}

impl Clock {
    pub fn real() -> Clock {
        Clock(Kind::Real)
    }

    pub fn simulated() -> Clock {
        let started = tokio::runtime::Handle::try_current().is_ok().then(Instant::now);
        Clock(Kind::Simulated { started, ahead: Duration::ZERO })
    }

    /// A simulated clock whose wall time is `ahead` of the others'; the real one cannot be set.
    pub fn ahead(self, ahead: Duration) -> Clock {
        match self.0 {
            Kind::Real => self,
            Kind::Simulated { started, .. } => Clock(Kind::Simulated { started, ahead }),
        }
    }

    /// Monotonic time, for measuring and for deadlines.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wall time since the Unix epoch. Data only: the leader stamps it, replicas never read it while applying.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn unix(&self) -> Duration {
        match &self.0 {
            Kind::Real => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .expect("the machine's clock stands after 1970"),
            Kind::Simulated { started, ahead } => {
                let inside = turmoil::in_simulation().then(turmoil::sim_elapsed).flatten();
                let elapsed = inside.or_else(|| started.map(|s| s.elapsed())).unwrap_or_default();
                SIMULATED_EPOCH + elapsed + *ahead
            }
        }
    }

    /// Sleeps for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Sleeps until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// Runs `future` for at most `limit`. [`Elapsed`] says nothing about whether its effect happened.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(limit, future).await
    }

    /// Runs `future` until `deadline` at most.
    pub async fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout_at(deadline, future).await
    }

    /// A ticker that skips the ticks it missed.
    pub fn interval(&self, period: Duration) -> tokio::time::Interval {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        interval
    }
}

/// A duration as Go writes it: `5m`, `1h30m`, `1.5s`.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [("5m", 300.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("250ms", 0.25), ("0", 0.0)] {
            assert_eq!(go_duration(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for wrong in ["", "5", "m", "5x", "-5m"] {
            assert_eq!(go_duration(wrong), None, "{wrong}");
        }
    }
}
