//! Where the pages of a notebook are kept.

use std::io;

/// Where pages are kept. Each call that changes something is durable when it returns.
pub(super) trait Pages: Send + Sync {
    fn put(&self, key: &str, page: &[u8]) -> io::Result<()>;
    fn remove(&self, key: &str) -> io::Result<()>;
    /// All pages, by key.
    fn all(&self) -> io::Result<Vec<(String, Vec<u8>)>>;
}
