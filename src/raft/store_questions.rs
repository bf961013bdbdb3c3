//! Questions of one member's store to another's that do not go through the log. This room carries them as bytes and
//! does not know what they mean.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;

/// Answers the questions of other members.
pub type Answerer = Box<dyn Fn(Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// The answerer of this member, once there is one. Clones share it.
#[derive(Clone, Default)]
pub(super) struct StoreQuestions(Arc<OnceLock<Answerer>>);

impl StoreQuestions {
    /// Sets the answerer. The first one stays.
    pub fn answer_with(&self, answerer: Answerer) {
        let _ = self.0.set(answerer);
    }

    /// `None` while there is no answerer.
    pub async fn answer(&self, question: Bytes) -> Option<Bytes> {
        Some(self.0.get()?(question).await)
    }
}
