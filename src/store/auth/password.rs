//! Passwords: kept as bcrypt hashes. Hashing takes long on purpose, so it runs on threads where nothing else waits for
//! it, a few at a time: everybody who reaches a port can send passwords.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::Version;

use crate::actor::Gate;
use crate::store::Error;
use crate::store::bounds::Bounds;
use crate::world::World;

/// The cost when none is given; etcd's.
pub const COST_DEFAULT: u32 = 10;
/// The costs that bcrypt knows.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// bcrypt reads no further.
const BYTES_MAX: usize = 72;

/// The cost to hash with: the default where bcrypt knows no such cost.
pub fn cost(given: u32) -> u32 {
    if COSTS.contains(&given) { given } else { COST_DEFAULT }
}

/// Passwords that are hashed at once. Each takes a whole processor.
const HASHED_MAX: usize = 2;
/// Passwords that are hashed or wait for it: about as many as can be hashed before clients give up.
const ASKED_MAX: usize = 64;

/// Hashes passwords. Clones share the bound.
#[derive(Clone)]
pub struct Passwords {
    world: World,
    bounds: Arc<Bounds>,
    asked: Gate,
    turns: Gate,
}

impl Passwords {
    pub fn new(world: &World, bounds: Arc<Bounds>) -> Passwords {
        let (asked, turns) = (Gate::new(ASKED_MAX), Gate::new(HASHED_MAX));
        Passwords { world: world.clone(), bounds, asked, turns }
    }

    /// `password`, hashed, as commands carry it.
    pub async fn hash(&self, password: String, cost: u32) -> Result<String, Error> {
        if password.len() > BYTES_MAX {
            return Err(Error::PasswordTooLong);
        }
        let mut salt = [0; 16];
        self.world.random.fill(&mut salt);
        let hashed = self.in_turn(move || bcrypt::hash_with_salt(password, cost, salt)).await?;
        let hashed = hashed.expect("the cost was checked at start, and any password has a hash");
        Ok(STANDARD.encode(hashed.format_for_version(Version::TwoA)))
    }

    /// Whether `password` is what `hash` was made of.
    pub async fn match_hash(&self, password: String, hash: bytes::Bytes) -> Result<bool, Error> {
        let Ok(hash) = String::from_utf8(hash.into()) else { return Ok(false) };
        // An error is a hash that nothing matches: that of no password.
        self.in_turn(move || bcrypt::verify(password, &hash).unwrap_or(false)).await
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let asked = self.asked.enter().map_err(|_| {
            self.bounds.passwords_refused.inc();
            Error::TooManyRequests
        })?;
        let turn = self.turns.wait().await;
        // When the caller goes away, the work goes on and counts until it is done.
        let done = self.world.spawner.blocking(move || (work(), turn, asked)).await;
        Ok(done.0)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::world::MemoryDisk;

    fn passwords() -> Passwords {
        Passwords::new(&World::simulated(1, MemoryDisk::new()), Arc::default())
    }

    #[tokio::test]
    async fn a_hash_matches_its_password_alone() {
        let passwords = passwords();
        let hash = passwords.hash("correct horse".into(), 4).await.unwrap();
        let hash: bytes::Bytes = STANDARD.decode(hash).unwrap().into();
        assert!(hash.starts_with(b"$2a$04$"));
        assert_eq!(passwords.match_hash("correct horse".into(), hash.clone()).await, Ok(true));
        assert_eq!(passwords.match_hash("correct hors".into(), hash).await, Ok(false));
        // As golang.org/x/crypto/bcrypt makes it.
        let go = "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga";
        assert_eq!(passwords.match_hash("allmine".into(), go.into()).await, Ok(true));
        assert_eq!(passwords.match_hash(String::new(), "".into()).await, Ok(false));
    }

    #[tokio::test]
    async fn what_bcrypt_would_cut_is_refused() {
        let passwords = passwords();
        assert!(passwords.hash("x".repeat(72), 4).await.is_ok());
        assert_eq!(passwords.hash("x".repeat(73), 4).await, Err(Error::PasswordTooLong));
        assert_eq!((cost(3), cost(4), cost(31), cost(32)), (10, 4, 31, 10));
    }

    #[tokio::test]
    async fn a_few_are_hashed_at_once_some_wait_and_the_others_are_refused() {
        let passwords = passwords();
        let turns = [passwords.turns.wait().await, passwords.turns.wait().await];
        let mut waiting: Vec<_> = (0..ASKED_MAX).map(|_| Box::pin(passwords.hash("x".into(), 4))).collect();
        assert!(waiting.iter_mut().all(|hashing| hashing.now_or_never().is_none()));
        assert_eq!(passwords.hash("x".into(), 4).await, Err(Error::TooManyRequests));
        assert_eq!(passwords.bounds.passwords_refused.get(), 1);
        drop(turns);
        assert!(futures::future::join_all(waiting).await.into_iter().all(|hashed| hashed.is_ok()));
        assert!(passwords.hash("x".into(), 4).await.is_ok());
    }
}
