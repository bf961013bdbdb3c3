//! What the store of one member asks that of another, past the log: bytes there, bytes back. Nothing here knows what
//! they mean.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;

/// Answers the questions of other members.
pub type Answerer = Box<dyn Fn(Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// Who answers here, once somebody does. Clones share it.
#[derive(Clone, Default)]
pub(super) struct StoreQuestions(Arc<OnceLock<Answerer>>);

impl StoreQuestions {
    /// From here on questions are answered; the first one to say so does it.
    pub fn answer_with(&self, answerer: Answerer) {
        let _ = self.0.set(answerer);
    }

    /// `None` while nobody answers.
    pub async fn answer(&self, question: Bytes) -> Option<Bytes> {
        Some(self.0.get()?(question).await)
    }
}
