//! Questions between the stores of two members, past the log: hashes to compare, and the lease calls that only the
//! leader can answer.

use std::time::Duration;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::disk::codec;
use crate::raft;
use crate::world::NodeId;

/// A question. New ones go to the end: members of two releases may talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    HashKv { revision: i64 },
    KeepAlive { id: i64 },
    TimeToLive { id: i64, keys: bool },
}

/// The answer as bytes: a marshalled message, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Message(#[serde(with = "serde_bytes")] Vec<u8>),
    Refused { code: i32, text: String },
}

/// Asks `member`, and gives its answer or the error that it gave.
pub async fn ask<A: Message + Default>(
    raft: &raft::Handle,
    member: NodeId,
    question: Question,
    limit: Duration,
) -> Result<A, Error> {
    let asked = codec::encode(&question).map_err(|error| unreadable(&error))?;
    let reply = raft.ask(member, asked.into(), limit).await?;
    match codec::decode(&reply).map_err(|error| unreadable(&error))? {
        Reply::Message(message) => A::decode(&message[..]).map_err(|error| unreadable(&error)),
        Reply::Refused { code, text } => Err(Error::from_wire(code, &text)),
    }
}

/// Decodes a question.
pub fn open(asked: &[u8]) -> Result<Question, Error> {
    codec::decode(asked).map_err(|error| unreadable(&error))
}

/// An answer on its way back. One that is too large for a message between members is refused.
pub fn reply<A: Message>(answer: Result<A, Error>) -> Vec<u8> {
    match answer
        .and_then(|message| codec::encode(&Reply::Message(message.encode_to_vec())).map_err(|error| unreadable(&error)))
    {
        Ok(reply) => reply,
        Err(error) => refuse(&error),
    }
}

/// Says why there is no answer.
pub fn refuse(error: &Error) -> Vec<u8> {
    let (code, text) = error.to_wire();
    let reply = Reply::Refused { code, text: text.to_owned() };
    codec::encode(&reply).expect("an error is far below the limit of a record")
}

fn unreadable(error: &impl std::fmt::Display) -> Error {
    Error::Other { code: tonic::Code::Internal as i32, message: format!("etcdserver: between members: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_refusals_come_back_as_they_went() {
        for question in [Question::HashKv { revision: 7 }, Question::TimeToLive { id: -1, keys: true }] {
            assert_eq!(open(&codec::encode(&question).unwrap()).unwrap(), question);
        }
        assert!(open(b"nonsense").is_err());
        let refused = refuse(&Error::Compacted);
        let Ok(Reply::Refused { code, text }) = codec::decode(&refused) else { panic!("{refused:?}") };
        assert_eq!(Error::from_wire(code, &text), Error::Compacted);
    }
}
