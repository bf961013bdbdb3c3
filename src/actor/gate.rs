//! Admission: bounds how many requests are under way behind a mailbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::world::Instant;
use crate::world::roster::{Backlog, Measure};

/// Lets at most a fixed number of requests in at once. Clones share the bound.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests_max: usize,
    free: Arc<Semaphore>,
    /// How long the last request that left was under way.
    last_us: AtomicU64,
}

/// Lets one request in; dropping it makes room for another.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    entered: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let under_way = u64::try_from(self.entered.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.gate.0.last_us.store(under_way, Ordering::Relaxed);
    }
}

/// The gate is full. Nothing was started: tell the client to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are under way")]
pub struct Full;

impl Gate {
    pub fn new(requests_max: usize) -> Gate {
        let free = Arc::new(Semaphore::new(requests_max));
        Gate(Arc::new(Inner { requests_max, free, last_us: AtomicU64::default() }))
    }

    /// Waits for a permit: for callers whose number is bounded already.
    pub async fn wait(&self) -> Permit {
        let permit = self.0.free.clone().acquire_owned().await.expect("a gate is never closed");
        Permit { gate: self.clone(), entered: Instant::now(), _permit: permit }
    }

    pub fn enter(&self) -> Result<Permit, Full> {
        let permit = self.0.free.clone().try_acquire_owned().map_err(|_| Full)?;
        Ok(Permit { gate: self.clone(), entered: Instant::now(), _permit: permit })
    }

    /// Measures how many requests are under way, and how long the last one was.
    pub fn measure(&self) -> Measure {
        let inner = self.0.clone();
        Arc::new(move || Backlog {
            waiting: inner.requests_max.saturating_sub(inner.free.available_permits()),
            limit: inner.requests_max,
            age: Duration::from_micros(inner.last_us.load(Ordering::Relaxed)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_refuses_until_a_permit_is_dropped() {
        let gate = Gate::new(1);
        let first = gate.enter().unwrap();
        assert_eq!(gate.enter().unwrap_err(), Full);
        assert_eq!((gate.measure()().waiting, gate.measure()().limit), (1, 1));
        drop(first);
        assert_eq!(gate.measure()().waiting, 0);
        gate.enter().unwrap();
    }
}
