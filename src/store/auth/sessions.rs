//! The simple tokens of this member: made when an `Authenticate` is applied, on every member alike, and kept in memory
//! only. Each use prolongs a token's life on the member that it was used with.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::world::{Clock, Instant, Random};

/// A change of tokens that a command makes.
#[derive(Clone, PartialEq, Eq)]
pub enum Session {
    /// `user` has one more token.
    Begun { user: String, token: String },
    /// The tokens of `user` are gone.
    Ended { user: String },
    /// Every token is gone.
    AllEnded,
}

/// Without the token.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Session::Begun { user, .. } => write!(f, "Begun({user:?})"),
            Session::Ended { user } => write!(f, "Ended({user:?})"),
            Session::AllEnded => f.write_str("AllEnded"),
        }
    }
}

/// Letters in a token, before the point and the index of the entry that made it.
const LETTERS: usize = 16;

/// How often expired tokens are removed, when new ones are made.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The tokens of one member.
#[derive(Debug)]
pub struct Sessions {
    clock: Clock,
    ttl: Duration,
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    by_token: BTreeMap<String, Token>,
    swept: Option<Instant>,
}

/// Without the tokens.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.by_token.len())
    }
}

struct Token {
    user: String,
    ends: Instant,
}

impl Sessions {
    pub fn new(clock: Clock, ttl: Duration) -> Sessions {
        Sessions { clock, ttl, tokens: Mutex::default() }
    }

    /// Does what commands did, in order.
    pub fn follow(&self, sessions: Vec<Session>) {
        if sessions.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut tokens = self.lock();
        for session in sessions {
            match session {
                Session::Begun { user, token } => tokens.begin(user, token, now, self.ttl),
                Session::Ended { user } => tokens.by_token.retain(|_, token| token.user != user),
                Session::AllEnded => tokens.by_token.clear(),
            }
        }
    }

    /// Drops all tokens: another state is installed, which may not have the entries that made them.
    pub fn forget(&self) {
        self.lock().by_token.clear();
    }

    /// The user of a token, whose life this prolongs.
    pub fn find(&self, token: &str) -> Option<String> {
        let now = self.clock.now();
        let mut tokens = self.lock();
        let found = tokens.by_token.get_mut(token).filter(|found| now < found.ends)?;
        found.ends = now + self.ttl;
        Some(found.user.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    fn begin(&mut self, user: String, token: String, now: Instant, ttl: Duration) {
        if self.swept.is_none_or(|swept| swept + SWEEP_INTERVAL <= now) {
            self.by_token.retain(|_, token| now < token.ends);
            self.swept = Some(now);
        }
        self.by_token.insert(token, Token { user, ends: now + ttl });
    }
}

/// The letters of a new token.
pub fn letters(random: &Random) -> String {
    const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let draw = |_| char::from(ALPHABET[random.within(0..ALPHABET.len() as u64) as usize]);
    (0..LETTERS).map(draw).collect()
}

/// A whole token: its letters and the index of the entry that made it.
pub fn token(letters: &str, index: u64) -> String {
    format!("{letters}.{index}")
}

/// The index of the entry that made `token`, if it has the shape of one.
pub fn index_of(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    index.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(user: &str, token: &str) -> Session {
        Session::Begun { user: user.into(), token: token.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_lives_while_it_is_used() {
        let clock = Clock::simulated();
        let sessions = Sessions::new(clock.clone(), Duration::from_secs(10));
        sessions.follow(vec![begun("alice", "a.1"), begun("alice", "a.2"), begun("bob", "b.3")]);
        for _ in 0..3 {
            clock.sleep(Duration::from_secs(9)).await;
            assert_eq!(sessions.find("a.1").as_deref(), Some("alice"));
        }
        assert_eq!(sessions.find("b.3"), None);
        assert_eq!(sessions.find("c.4"), None);
        sessions.follow(vec![begun("bob", "b.5")]);
        assert_eq!(sessions.lock().by_token.len(), 2, "what is over is swept");
        sessions.follow(vec![Session::Ended { user: "alice".into() }]);
        assert_eq!((sessions.find("a.1"), sessions.find("b.5").as_deref()), (None, Some("bob")));
        sessions.follow(vec![Session::AllEnded]);
        assert_eq!(sessions.find("b.5"), None);
    }

    #[test]
    fn a_token_tells_the_entry_that_made_it() {
        let letters = letters(&Random::from_seed(1));
        assert_eq!(letters.len(), LETTERS);
        assert!(letters.bytes().all(|letter| letter.is_ascii_alphabetic()));
        assert_eq!(index_of(&token(&letters, 42)), Some(42));
        for malformed in ["", "abc", "abc.", "abc.x", "abc.1.2", "abc.-1"] {
            assert_eq!(index_of(malformed), None, "{malformed}");
        }
    }
}
