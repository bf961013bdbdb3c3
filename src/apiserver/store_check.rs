//! Whether the store answers, for probes: a linearizable read, which needs a majority of the members. Its result holds
//! for a while, and probes at the same time share one read, so that they cannot load the store.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::world::{Clock, Instant};

/// As upstream's `--etcd-readycheck-timeout`.
const READ_MAX: Duration = Duration::from_secs(2);
const HOLDS_FOR: Duration = Duration::from_secs(1);

/// The result of the latest read, and when it was known.
#[derive(Default)]
pub struct StoreCheck(Mutex<Option<(Instant, bool)>>);

impl StoreCheck {
    /// Whether the store answers; `read` is made unless a result is known.
    pub async fn passes<T, E>(&self, clock: &Clock, read: impl Future<Output = Result<T, E>>) -> bool {
        let mut latest = self.0.lock().await;
        if let Some((at, passed)) = *latest
            && clock.now() < at + HOLDS_FOR
        {
            return passed;
        }
        let passed = matches!(clock.timeout(READ_MAX, read).await, Ok(Ok(_)));
        *latest = Some((clock.now(), passed));
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::world::{MemoryDisk, World};

    #[tokio::test(start_paused = true)]
    async fn a_result_holds_for_a_second_and_silence_is_a_failure() {
        let clock = World::simulated(1, MemoryDisk::new()).clock;
        let check = StoreCheck::default();
        assert!(check.passes(&clock, ready(Ok::<(), ()>(()))).await);
        assert!(check.passes(&clock, ready(Err::<(), ()>(()))).await, "the store is not asked again at once");
        clock.sleep(HOLDS_FOR).await;
        assert!(!check.passes(&clock, pending::<Result<(), ()>>()).await);
        clock.sleep(HOLDS_FOR).await;
        assert!(check.passes(&clock, ready(Ok::<(), ()>(()))).await);
    }
}
