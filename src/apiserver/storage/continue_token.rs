//! Continue tokens: where the next page of a list begins, at which revision, and of which list.
//!
//! A client may return a token that it received, or make one up. Its start is therefore read relative to the keys that
//! the request was authorized for, and a token that was made for other keys is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::kube::status::Status;
use crate::world::Revision;

/// Where the next page of a list begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinueToken {
    v: String,
    /// -1: the list goes on in the newest state, which may be inconsistent with the pages before.
    rv: i64,
    /// The first key of the next page, without the prefix of the list's keys.
    start: String,
    /// The prefix of the list's keys.
    prefix: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl ContinueToken {
    /// The token of the page that begins at `start`, in the list of all keys below `prefix`.
    pub fn at(revision: Revision, prefix: &str, start: String) -> ContinueToken {
        ContinueToken { v: VERSION.to_owned(), rv: revision.0, start, prefix: prefix.to_owned() }
    }

    /// The token that goes on at the same key in the newest state.
    pub fn inconsistent(&self) -> ContinueToken {
        ContinueToken { rv: -1, ..self.clone() }
    }

    /// `None` means the newest.
    pub fn revision(&self) -> Option<Revision> {
        (self.rv > 0).then_some(Revision(self.rv))
    }

    /// The first key of the page, without the prefix that the token was parsed for.
    pub fn start(&self) -> &str {
        &self.start
    }

    pub fn to_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("strings and numbers serialize"))
    }

    /// Parses the token of a list of the keys below `prefix`; 400 for any other token.
    pub fn parse(token: &str, prefix: &str) -> Result<ContinueToken, Status> {
        let refuse =
            |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse("it is not base64"))?;
        let parsed: ContinueToken =
            serde_json::from_slice(&bytes).map_err(|_| refuse("it is not one of this cluster's"))?;
        if parsed.v != VERSION || parsed.rv == 0 || parsed.rv < -1 || parsed.start.is_empty() {
            return Err(refuse("it is not one of this cluster's"));
        }
        if parsed.prefix != prefix {
            return Err(refuse("it was made for another list"));
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/registry/secrets/zz/";

    #[test]
    fn tokens_survive_the_way_through_a_client() {
        let token = ContinueToken::at(Revision(12), PREFIX, "name\0".to_owned());
        assert_eq!(ContinueToken::parse(&token.to_token(), PREFIX).unwrap(), token);
        let loose = ContinueToken::parse(&token.inconsistent().to_token(), PREFIX).unwrap();
        assert_eq!((loose.revision(), loose.start()), (None, "name\0"));
    }

    #[test]
    fn other_tokens_are_refused() {
        let made_up = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let of = |prefix: &str| ContinueToken::at(Revision(1), prefix, "a\0".to_owned()).to_token();
        for token in [
            "%".to_owned(),
            made_up("{}"),
            made_up(r#"{"v":"x","rv":1,"start":"a","prefix":"/registry/secrets/zz/"}"#),
            made_up(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"na/"}"#),
            of("/registry/secrets/na/"),
            of("/registry/secrets/"),
            of("/registry/configmaps/zz/"),
        ] {
            assert_eq!(ContinueToken::parse(&token, PREFIX).unwrap_err().code, 400, "{token}");
        }
    }
}
