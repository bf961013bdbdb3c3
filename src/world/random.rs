//! Randomness from one seeded generator a node. Key material does not come from here: TLS and token keys are drawn by
//! their libraries from the operating system.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// A shared, seeded generator.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

impl Random {
    pub fn from_os() -> Random {
        Random(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    pub fn from_seed(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn u64(&self) -> u64 {
        self.with(|rng| rng.next_u64())
    }

    pub fn fill(&self, bytes: &mut [u8]) {
        self.with(|rng| rng.fill_bytes(bytes));
    }

    /// A number in `range`, which must not be empty.
    pub fn within(&self, range: Range<u64>) -> u64 {
        self.with(|rng| rng.random_range(range))
    }

    /// A duration in `range`, which must not be empty.
    pub fn duration(&self, range: Range<Duration>) -> Duration {
        self.with(|rng| rng.random_range(range))
    }

    /// A version 4 UUID.
    pub fn uuid(&self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}
