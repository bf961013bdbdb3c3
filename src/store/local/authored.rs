//! Reads and commands in an author's name: reads are checked against the author's permissions, commands carry the
//! author.

use std::sync::Arc;

use chorus_proto::etcdserverpb as pb;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::Local;
use crate::store::auth::password::Passwords;
use crate::store::auth::permit::Author;
use crate::store::auth::sessions::Sessions;
use crate::store::command::Answer;
use crate::store::metrics::Kind;
use crate::store::view::View;
use crate::store::{Config, Error, checks};
use crate::world::World;

impl Local {
    /// The same store in the name of `author`.
    pub(in crate::store) fn written_by(self, author: Author) -> Local {
        Local(self.0, author)
    }

    pub(in crate::store) fn author(&self) -> &Author {
        &self.1
    }

    pub(in crate::store) fn view(&self) -> Arc<View> {
        self.0.member.view()
    }

    pub(in crate::store) fn sessions(&self) -> &Sessions {
        &self.0.member.sessions
    }

    pub(in crate::store) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(in crate::store) fn world(&self) -> &World {
        &self.0.world
    }

    pub(in crate::store) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(in crate::store) async fn propose(&self, command: pb::InternalRaftRequest) -> Result<Answer, Error> {
        self.0.proposals.propose_as(&self.1, command).await
    }

    pub(in crate::store) fn check_txn(&self, request: &pb::TxnRequest) -> Result<(), Error> {
        checks::txn(request, self.0.config.limits.txn_ops_max)
    }

    /// Runs a read-only transaction, which was checked, on what this member has applied.
    pub(in crate::store) async fn txn_now(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        let metrics = &self.0.member.metrics;
        let started = metrics.clock.now();
        let large = self.0.member.view().is_large_txn(&request);
        let author = self.1.clone();
        let read = move |view: &View| {
            view.permit_txn(&author, &request)?;
            view.txn(request.clone())
        };
        let answer = self.read(large, read).await;
        metrics.requested(Kind::ReadonlyTxn, answer.is_ok(), started);
        let (mut answer, ops) = answer?;
        metrics.read(&ops);
        self.sign(&mut answer.header);
        Ok(answer)
    }

    /// A watch stream. Each request may come with a reason to refuse it.
    pub(in crate::store) async fn watch_judged(
        &self,
        requests: BoxStream<'static, (pb::WatchRequest, Option<Error>)>,
    ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Error>>, Error> {
        let responses = self.0.watches.open(requests).await?;
        let local = self.clone();
        let signed = responses.map(move |response| {
            response.map(|mut response| {
                local.sign(&mut response.header);
                response
            })
        });
        Ok(signed.boxed())
    }
}
