//! The threads of a simulated world. They are threads of the operating system, of which one runs at a time: what comes
//! first is decided by whoever hands out the turns, never by the machine.
//!
//! ```text
//!   simulation ──run(n)──▶ SimThread: works up to its n-th yield point, or to its end
//!        ◀─────────────────────┘
//! ```
//!
//! Yield points are all operations on files, and taking a [`Lock`](super::Lock). What lies between two of them happens
//! at once.

#![allow(clippy::disallowed_methods, reason = "the one place that starts the threads of a simulation")]

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A thread of a simulated process. One that is dropped before its end never runs again, as after the end of its
/// process: nothing of it is undone, and what it holds stays held.
#[derive(Debug)]
pub struct SimThread<T> {
    turns: Turns,
    outcome: Arc<Mutex<Option<std::thread::Result<T>>>>,
}

/// How turns pass between a thread and those who let it run. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct State {
    turn: Turn,
    /// Yield points that were passed.
    passed: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It runs, and stops at this yield point, counted from here.
    Running(u32),
    Waiting,
    Ended,
}

thread_local! {
    /// The simulated thread that this one is.
    static CURRENT: RefCell<Option<Turns>> = const { RefCell::new(None) };
}

/// Where a simulated thread may have to wait for others. Nothing anywhere else.
pub(super) fn yield_point() {
    if let Some(turns) = current() {
        turns.pass_yield_point();
    }
}

/// The simulated thread that calls.
pub(super) fn current() -> Option<Turns> {
    // After the thread's own values are gone it passes no more yield points.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + 'static> SimThread<T> {
    /// A thread that will do `work`, in the runtime that is current here. It does not run yet.
    pub fn new(work: impl FnOnce() -> T + Send + 'static) -> SimThread<T> {
        let turns = Turns(Arc::new((Mutex::new(State { turn: Turn::Waiting, passed: 0 }), Condvar::new())));
        let outcome = Arc::new(Mutex::new(None));
        let (own, told) = (turns.clone(), outcome.clone());
        let runtime = tokio::runtime::Handle::try_current().ok();
        std::thread::spawn(move || {
            own.wait_for_turn();
            CURRENT.set(Some(own.clone()));
            // Clocks of the simulation are found through it.
            let entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            let done = catch_unwind(AssertUnwindSafe(work));
            drop(entered);
            CURRENT.set(None);
            *lock(&told) = Some(done);
            own.end();
        });
        SimThread { turns, outcome }
    }

    /// Lets it run until it has passed `yield_points` of them, or has ended; says whether it goes on.
    pub fn run(&self, yield_points: u32) -> bool {
        self.turns.run(yield_points)
    }

    /// How many yield points it has passed.
    pub fn passed(&self) -> u64 {
        lock(&self.turns.0.0).passed
    }

    /// Lets it run to its end and gives what came of it; a panic goes on here.
    pub fn join(self) -> T {
        while self.run(u32::MAX) {}
        self.outcome().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What came of a thread that has ended.
    pub(super) fn outcome(self) -> Result<T, Box<dyn Any + Send>> {
        lock(&self.outcome).take().expect("it has ended, and this is asked once")
    }
}

impl Turns {
    /// See [`SimThread::run`].
    pub(super) fn run(&self, yield_points: u32) -> bool {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        assert!(!matches!(state.turn, Turn::Running(_)), "deadlock: a thread waits for one that waits for it");
        if state.turn == Turn::Ended {
            return false;
        }
        state.turn = Turn::Running(yield_points.max(1));
        changed.notify_all();
        while matches!(state.turn, Turn::Running(_)) {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.turn != Turn::Ended
    }

    fn pass_yield_point(&self) {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        state.passed += 1;
        let Turn::Running(left) = state.turn else { unreachable!("only the thread that runs is here") };
        if left > 1 {
            state.turn = Turn::Running(left - 1);
            return;
        }
        state.turn = Turn::Waiting;
        changed.notify_all();
        drop(state);
        self.wait_for_turn();
    }

    fn wait_for_turn(&self) {
        let (state, changed) = &*self.0;
        let mut state = lock(state);
        while state.turn == Turn::Waiting {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self) {
        let (state, changed) = &*self.0;
        lock(state).turn = Turn::Ended;
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::world::disk::{Access, Open};
    use crate::world::{Disk, Lock, MemoryDisk};

    #[test]
    fn a_thread_stops_at_its_yield_points_and_goes_on_where_it_stopped() {
        let disk = Disk::memory(MemoryDisk::new());
        let writing = disk.clone();
        let thread = SimThread::new(move || {
            let file = writing.open(Path::new("/a"), Open::CreateNew).unwrap();
            file.write_all_at(b"a", 0).unwrap();
            7
        });
        assert!(thread.run(1) && !disk.exists(Path::new("/a")), "it stops before the file is made");
        assert!(thread.run(1) && disk.read(Path::new("/a")).unwrap().is_empty(), "it stops before the file is written");
        assert_eq!(thread.passed(), 2);
        assert!(!thread.run(1) && !thread.run(1), "there is nothing more to do");
        assert_eq!(thread.join(), 7);
        assert_eq!(disk.read(Path::new("/a")).unwrap(), b"a");
    }

    #[test]
    fn whoever_waits_for_a_lock_lets_its_holder_run_and_counts_as_its_wait() {
        let (disk, shared) = (Disk::memory(MemoryDisk::new()), Arc::new(Lock::new(0)));
        let (writing, counting) = (disk.clone(), shared.clone());
        let thread = SimThread::new(move || {
            let mut count = counting.lock();
            writing.replace(Path::new("/a"), b"a", Access::Owner).unwrap();
            *count += 1;
        });
        assert!(thread.run(2), "it holds the lock and is about to write");
        assert_eq!((*shared.lock(), thread.passed() > 2), (1, true));
        thread.join();
    }

    #[test]
    fn a_thread_that_is_dropped_never_runs_again() {
        let disk = Disk::memory(MemoryDisk::new());
        let writing = disk.clone();
        let thread = SimThread::new(move || writing.replace(Path::new("/a"), b"a", Access::Owner));
        assert!(thread.run(1));
        drop(thread);
        assert!(!disk.exists(Path::new("/a")));
    }

    #[test]
    fn a_panic_goes_on_where_the_thread_is_joined() {
        let thread = SimThread::new(|| panic!("as told"));
        let panic = catch_unwind(AssertUnwindSafe(|| thread.join())).map(|(): ()| ()).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as told"));
    }
}
