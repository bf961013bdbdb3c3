//! Passwords: kept as bcrypt hashes. Hashing takes long on purpose, so it runs where it keeps nobody waiting.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::Version;

use crate::store::Error;
use crate::world::World;

/// The cost when none is given; etcd's.
pub const COST_DEFAULT: u32 = 10;
/// What bcrypt can do.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// bcrypt reads no further.
const BYTES_MAX: usize = 72;

/// The cost to hash with: the default where bcrypt knows no such cost.
pub fn cost(given: u32) -> u32 {
    if COSTS.contains(&given) { given } else { COST_DEFAULT }
}

/// `password`, hashed, as commands carry it.
pub async fn hash(world: &World, password: String, cost: u32) -> Result<String, Error> {
    if password.len() > BYTES_MAX {
        return Err(Error::PasswordTooLong);
    }
    let mut salt = [0; 16];
    world.random.fill(&mut salt);
    let hashed = world.spawner.blocking(move || bcrypt::hash_with_salt(password, cost, salt)).await;
    let hashed = hashed.expect("the cost was checked at start, and any password has a hash");
    Ok(STANDARD.encode(hashed.format_for_version(Version::TwoA)))
}

/// Whether `password` is what `hash` was made of.
pub async fn matches(world: &World, password: String, hash: bytes::Bytes) -> bool {
    let Ok(hash) = String::from_utf8(hash.into()) else { return false };
    // An error is a hash that nothing matches: that of no password.
    world.spawner.blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::MemoryDisk;

    #[tokio::test]
    async fn a_hash_matches_its_password_alone() {
        let world = World::simulated(1, MemoryDisk::default());
        let hash = hash(&world, "correct horse".into(), 4).await.unwrap();
        let hash: bytes::Bytes = STANDARD.decode(hash).unwrap().into();
        assert!(hash.starts_with(b"$2a$04$"));
        assert!(matches(&world, "correct horse".into(), hash.clone()).await);
        assert!(!matches(&world, "correct hors".into(), hash).await);
        // As golang.org/x/crypto/bcrypt makes it.
        let go = "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga";
        assert!(matches(&world, "allmine".into(), go.into()).await);
        assert!(!matches(&world, String::new(), "".into()).await);
    }

    #[tokio::test]
    async fn what_bcrypt_would_cut_is_refused() {
        let world = World::simulated(1, MemoryDisk::default());
        assert!(hash(&world, "x".repeat(72), 4).await.is_ok());
        assert_eq!(hash(&world, "x".repeat(73), 4).await, Err(Error::PasswordTooLong));
        assert_eq!((cost(3), cost(4), cost(31), cost(32)), (10, 4, 31, 10));
    }
}
