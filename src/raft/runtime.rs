//! The runtime under openraft: tokio, with randomness from the node's own generator.
//!
//! openraft draws its election timeouts from a function without arguments, so the generator travels in a task-local:
//! [`scope`] sets it, and every task that openraft spawns inherits it.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};

use crate::world::Random;

tokio::task_local! {
    static RANDOM: Random;
}

/// Runs `future`, and all that openraft spawns in it, with randomness from `random`.
pub(super) fn scope<F: Future>(random: Random, future: F) -> impl Future<Output = F::Output> {
    RANDOM.scope(random, future)
}

/// tokio with a generator a node.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

type Seeded = DeterministicRng<TokioRuntime>;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Seeded as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match RANDOM.try_with(Clone::clone) {
            Ok(random) => TokioRuntime::spawn(RANDOM.scope(random, future)),
            Err(_) => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        let seed = RANDOM.with(Random::u64);
        Seeded::scope(seed, async { Seeded::thread_rng() })
            .now_or_never()
            .expect("a future without an await is ready at once")
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_inherit_the_generator_of_their_scope() {
        let draw = |seed| {
            scope(Random::from_seed(seed), async { Runtime::spawn(async { Runtime::new_seed() }).await.unwrap() })
        };
        assert_eq!(draw(7).await, draw(7).await);
        assert_ne!(draw(7).await, draw(8).await);
    }

    impl Runtime {
        fn new_seed() -> u64 {
            openraft::Config { election_timeout_min: 1, election_timeout_max: u64::MAX, ..Default::default() }
                .new_rand_election_timeout::<Runtime>()
        }
    }
}
