//! What an answer holds while it is sent: files that would otherwise be removed, memory, a place among the large reads.
//! A client that stops reading must not hold it for ever, and the stream of such a client cannot let go by itself,
//! because it is not polled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::Error;
use super::bounds::Bounds;
use crate::world::{Clock, World};

/// An answer lets go of what it holds when its client has taken nothing for this long.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Something that is kept until its stream ends or its client stops reading.
pub struct Held<T>(Arc<Progress<T>>);

/// How often it was taken, and where it is.
type Progress<T> = Mutex<(u64, State<T>)>;

enum State<T> {
    Waits(T),
    IsUsed,
    GivenUp,
}

fn lock<T>(progress: &Progress<T>) -> MutexGuard<'_, (u64, State<T>)> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> Held<T> {
    /// Looks after `held` from here on.
    pub fn new(world: &World, bounds: Arc<Bounds>, held: T) -> Held<T> {
        let progress = Arc::new(Mutex::new((0, State::Waits(held))));
        world.spawner.task(give_up_when_stalled(world.clock.clone(), bounds, Arc::downgrade(&progress)));
        Held(progress)
    }

    /// Takes it, for the next part of the answer.
    pub fn take(&self) -> Result<T, Error> {
        match std::mem::replace(&mut *lock(&self.0), (0, State::IsUsed)) {
            (_, State::Waits(held)) => Ok(held),
            _ => Err(Error::Timeout),
        }
    }

    /// Gives it back after `parts` parts.
    pub fn put_back(&self, parts: u64, held: T) {
        *lock(&self.0) = (parts, State::Waits(held));
    }
}

async fn give_up_when_stalled<T>(clock: Clock, bounds: Arc<Bounds>, progress: Weak<Progress<T>>) {
    let mut seen = None;
    loop {
        clock.sleep(STALL_LIMIT / 2).await;
        let Some(progress) = progress.upgrade() else { return };
        let mut state = lock(&progress);
        let waits = matches!(state.1, State::Waits(_)).then_some(state.0);
        // Ends after two looks in a row at the same part, so that each part has the whole time.
        let looks = seen.filter(|(parts, _)| Some(*parts) == waits).map_or(0, |(_, looks)| looks + 1);
        if looks == 2 {
            let _held = std::mem::replace(&mut state.1, State::GivenUp);
            drop(state);
            bounds.answers_ended.inc();
            tracing::warn!("ended a large answer: its client does not read it");
            return;
        }
        seen = waits.map(|parts| (parts, looks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_given_up_and_what_somebody_reads_is_not() {
        let (world, bounds) = (&World::simulated(1, MemoryDisk::new()), Arc::new(Bounds::default()));
        let kept = Arc::new(());
        let (read, stalled) =
            (Held::new(world, bounds.clone(), kept.clone()), Held::new(world, bounds.clone(), kept.clone()));
        for parts in 1..20 {
            world.clock.sleep(STALL_LIMIT * 2 / 3).await;
            let held = read.take().unwrap();
            read.put_back(parts, held);
        }
        assert_eq!(Arc::strong_count(&kept), 2);
        assert_eq!(stalled.take().map(drop), Err(Error::Timeout));
        assert_eq!(bounds.answers_ended.get(), 1);
        drop(read);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
