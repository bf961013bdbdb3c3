//! The world outside: everything that makes two runs of the same program differ.
//!
//! ```text
//!            World (cheap to clone, concrete)
//!   ┌────────┬──────────┬───────────┬────────┬───────────┐
//!   clock    random     net         disk     spawner
//!   │        │          │           │        │
//!   real:    OS seed    TCP         files    actix arbiters (threads)
//!   simulated: turmoil  seeded      turmoil  memory, with what is not yet synced kept apart
//! ```
//!
//! No component reads a clock, draws a random number, opens a socket or a file, or starts a task in any other way;
//! `clippy.toml` bans the direct ways. The same code then runs in production and in a deterministic simulation.
//!
//! - [`clock`]: monotonic time, wall time, sleeping, deadlines
//! - [`random`]: seeded randomness
//! - [`net`]: listeners, connections, gRPC channels; [`tls`]: TLS over them
//! - [`disk`]: files and directories, with durability spelled out
//! - [`spawn`]: where actors and tasks run; [`Lane`]: the threads that actors share (`lane`)
//! - [`roster`]: those that last
//! - [`panics`]: what a panic ends
//! - [`threads`]: blocking work in a simulation; [`lock`]: what it may hold
//! - [`failpoints`]: steps that a test may disturb
//! - [`planted`]: mistakes that prove that checks bite; `names`: their names and those of failpoints are checked early
//! - [`process`]: processes of this machine, for the local launcher alone
//! - [`init`]: what the init system and its journal are told
//! - [`ids`]: the newtypes every room shares

pub mod clock;
pub mod disk;
pub mod failpoints;
pub mod ids;
pub mod init;
mod lane;
pub mod lock;
mod names;
pub mod net;
pub mod panics;
pub mod planted;
pub mod process;
pub mod random;
pub mod roster;
pub mod spawn;
pub mod threads;
pub mod tls;

pub use clock::{Clock, Elapsed, Instant};
pub use disk::{Disk, File, MemoryDisk};
pub use ids::{LeaseId, NodeId, Revision, Term};
pub use lane::Lane;
pub use lock::Lock;
pub use net::{Listener, Network, Stream};
pub use random::Random;
pub use roster::Roster;
pub use spawn::{DetachedExecutor, Spawner};

/// A handle on the world outside. Cheap to clone; every actor gets one at start.
#[derive(Clone, Debug)]
pub struct World {
    pub clock: Clock,
    pub random: Random,
    pub net: Network,
    pub disk: Disk,
    pub spawner: Spawner,
}

impl World {
    /// The real world. Call it inside an `actix::System` that drives a tokio runtime.
    pub fn real() -> World {
        World {
            clock: Clock::real(),
            random: Random::from_os(),
            net: Network::real(),
            disk: Disk::real(),
            spawner: Spawner::threads(),
        }
    }

    /// A simulated world: time is tokio's (paused) time, randomness comes from `seed`, files live in `disk`, the
    /// network is turmoil's, actors run on the calling thread's `LocalSet`, and blocking work takes turns with them that
    /// are drawn from `seed`, too.
    ///
    /// Everything but the network also works outside turmoil, in a test that drives a `LocalSet` itself.
    pub fn simulated(seed: u64, disk: MemoryDisk) -> World {
        World {
            clock: Clock::simulated(),
            random: Random::from_seed(seed),
            net: Network::simulated(),
            disk: Disk::memory(disk),
            spawner: Spawner::local(Random::from_seed(!seed)),
        }
    }
}
