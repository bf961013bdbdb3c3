//! The orderly end of a node: one token that every actor watches and every listener stops at.

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Begins once, for all clones.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Begins the shutdown of everything that holds this token, or one below it.
    pub fn begin(&self) {
        self.0.cancel();
    }

    pub fn begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves once the shutdown has begun.
    pub fn wait(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }

    /// A token that ends with this one, or earlier by itself.
    pub fn below(&self) -> Shutdown {
        Shutdown(self.0.child_token())
    }
}
