//! Writes on their way: marshalled, proposed, and waited for until this member applies them.

use std::sync::Arc;
use std::time::Duration;

use chorus_proto::etcdserverpb as pb;
use prost::Message;

use super::auth;
use super::auth::permit::Author;
use super::command::Answer;
use super::leadership::LeadElectedTime;
use super::member_state::MemberState;
use super::metrics::Kind;
use super::{Config, Error};
use crate::actor::Shutdown;
use crate::raft::{self, Refused};
use crate::world::{Clock, Instant, NodeId, Term, World};

/// Proposes commands and waits for their outcome. Cheap to clone.
#[derive(Clone)]
pub struct Proposals(Arc<Inner>);

struct Inner {
    clock: Clock,
    node: NodeId,
    timeout: Duration,
    election_timeout: Duration,
    request_bytes_max: usize,
    raft: raft::Handle,
    member: Arc<MemberState>,
    lead_elected: LeadElectedTime,
    shutdown: Shutdown,
}

/// A proposal that a client waits for, until this is dropped.
struct Registered<'a>(&'a MemberState, u64);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.waiting.forget(self.1);
    }
}

impl Proposals {
    pub fn new(
        world: &World,
        config: &Config,
        raft: raft::Handle,
        member: Arc<MemberState>,
        lead_elected: LeadElectedTime,
        shutdown: Shutdown,
    ) -> Proposals {
        Proposals(Arc::new(Inner {
            clock: world.clock.clone(),
            node: config.node,
            timeout: config.request_timeout(),
            election_timeout: config.election_timeout,
            request_bytes_max: config.limits.request_bytes_max,
            raft,
            member,
            lead_elected,
            shutdown,
        }))
    }

    /// This member.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    pub fn raft(&self) -> &raft::Handle {
        &self.0.raft
    }

    pub fn member(&self) -> &Arc<MemberState> {
        &self.0.member
    }

    /// Proposes `command` in the process's own name. An error of the state machine, or that the command was refused,
    /// means that it did not happen; after a timeout it may have.
    pub async fn propose(&self, command: pb::InternalRaftRequest) -> Result<Answer, Error> {
        self.propose_as(&Author::Process, command).await
    }

    /// The same as the leader of `term`: see [`propose_in`](raft::Handle::propose_in).
    pub async fn propose_in(&self, term: Term, command: pb::InternalRaftRequest) -> Result<Answer, Error> {
        self.sign_and_propose(&Author::Process, Some(term), command).await
    }

    /// The same in the name of `author`.
    pub async fn propose_as(&self, author: &Author, command: pb::InternalRaftRequest) -> Result<Answer, Error> {
        self.sign_and_propose(author, None, command).await
    }

    async fn sign_and_propose(
        &self,
        author: &Author,
        term: Option<Term>,
        mut command: pb::InternalRaftRequest,
    ) -> Result<Answer, Error> {
        loop {
            let header = self.signature(author);
            let outcome = self.propose_signed(term, &mut command, header.clone()).await;
            // Users changed while the command was on its way: the process signs again.
            let outdated = matches!(outcome, Err(Error::UserEmpty | Error::AuthOldRevision));
            if !(outdated && *author == Author::Process && self.signature(author) != header) {
                return outcome;
            }
        }
    }

    /// The part of a header that names the author in the log. The process signs as root once authentication is enabled.
    fn signature(&self, author: &Author) -> pb::RequestHeader {
        let member = &self.0.member;
        let (username, auth_revision) = match author {
            Author::User(identity) => (identity.user.clone(), identity.revision),
            Author::Process if member.authenticates() => (auth::ROOT.to_owned(), member.view().state.auth.revision),
            Author::Process | Author::Nobody => Default::default(),
        };
        pb::RequestHeader { username, auth_revision, ..Default::default() }
    }

    /// Under a fresh request ID.
    async fn propose_signed(
        &self,
        term: Option<Term>,
        command: &mut pb::InternalRaftRequest,
        header: pb::RequestHeader,
    ) -> Result<Answer, Error> {
        let (inner, metrics) = (&*self.0, &self.0.member.metrics);
        let started = inner.clock.now();
        let kind = Kind::of(command);
        let (id, outcome) = inner.member.waiting.register()?;
        let _registered = Registered(&inner.member, id);
        let pb::RequestHeader { username, auth_revision, .. } = header;
        command.header = Some(pb::RequestHeader { username, auth_revision, ..inner.member.waiting.header(id) });
        if command.encoded_len() > inner.request_bytes_max {
            return Err(Error::RequestTooLarge);
        }
        let member = inner.member.clone();
        let refused = Box::new(move |refused: Refused| member.waiting.answer(id, Err(refused.into())));
        let marshalled = command.encode_to_vec().into();
        match term {
            Some(term) => inner.raft.propose_in(term, marshalled, refused),
            None => inner.raft.propose(marshalled, refused),
        }
        let pending = metrics.pending(kind, started);
        tokio::select! {
            outcome = outcome => {
                pending.answered();
                outcome.unwrap_or(Err(Error::Stopped))
            }
            () = inner.clock.sleep_until(started + inner.timeout) => Err(self.timed_out(started)),
            () = inner.shutdown.wait() => Err(Error::Stopped),
        }
    }

    /// A request that began shortly before the present leader was elected most likely failed with the previous leader;
    /// one during which this member lost the leader, or as the leader its quorum, with the connection.
    fn timed_out(&self, started: Instant) -> Error {
        match self.0.lead_elected.get() {
            Some(elected) if started < elected && elected < started + 2 * self.0.election_timeout => {
                Error::TimeoutLeaderFailure
            }
            _ if !self.0.raft.connected_since(started) => Error::TimeoutConnectionLost,
            _ => Error::Timeout,
        }
    }
}
