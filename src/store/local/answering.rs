//! Answers to the questions of other members.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;

use super::{Inner, Local};
use crate::store::Error;
use crate::store::auth::permit::Author;
use crate::store::questions::{self, Question};
use crate::world::failpoints::failpoint;

impl Local {
    /// From here on this member answers the questions of others.
    pub(super) fn answer_others(&self) {
        // The replica, which keeps the answerer, must not keep the store alive.
        let store: Weak<Inner> = Arc::downgrade(&self.0);
        self.0.raft.answer_with(Box::new(move |asked: Bytes| {
            let store = store.upgrade().map(|inner| Local(inner, Author::Process));
            async move {
                let answer = match store {
                    Some(store) => store.answer(&asked).await,
                    None => questions::refuse(&Error::Stopped),
                };
                Bytes::from(answer)
            }
            .boxed()
        }));
    }

    async fn answer(&self, asked: &[u8]) -> Vec<u8> {
        match questions::open(asked) {
            Ok(Question::HashKv { revision }) => questions::reply(self.hash_history(revision).await),
            Ok(Question::KeepAlive { id }) => {
                failpoint!("beforeServeHTTPLeaseRenew");
                questions::reply(self.0.leases.keep_alive_here(id).await)
            }
            Ok(Question::TimeToLive { id, keys }) => {
                failpoint!("beforeLookupWhenForwardLeaseTimeToLive");
                questions::reply(self.0.leases.time_to_live_here(id, keys).await)
            }
            Err(error) => questions::refuse(&error),
        }
    }
}
