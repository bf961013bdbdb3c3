//! Admission: bounds how many requests are under way behind a mailbox.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets at most a fixed number of requests in at once. Clones share the bound.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

/// A request that was let in; dropping it makes room for another.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// The gate is full. Nothing was started: the caller may say so to its client, who may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are under way")]
pub struct Full;

impl Gate {
    pub fn new(requests_max: usize) -> Gate {
        Gate(Arc::new(Semaphore::new(requests_max)))
    }

    /// Waits for its turn: for those whose number is bounded already.
    pub async fn wait(&self) -> Permit {
        let permit = self.0.clone().acquire_owned().await;
        Permit { _permit: permit.expect("a gate is never closed") }
    }

    pub fn enter(&self) -> Result<Permit, Full> {
        self.0.clone().try_acquire_owned().map(|permit| Permit { _permit: permit }).map_err(|_| Full)
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
        drop(first);
        gate.enter().unwrap();
    }
}
