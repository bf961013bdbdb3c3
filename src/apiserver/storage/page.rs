//! Continue tokens: where the next page of a list begins, and at which revision.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::kube::status::Status;
use crate::world::Revision;

/// The place after a page. Clients hand it back as they got it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continue {
    v: String,
    /// -1 goes on in the newest state, which need not fit what came before.
    rv: i64,
    /// The first key of the next page, without the resource's prefix.
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    pub fn at(revision: Revision, start: String) -> Continue {
        Continue { v: VERSION.to_owned(), rv: revision.0, start }
    }

    /// The same place in the newest state.
    pub fn inconsistent(&self) -> Continue {
        Continue { rv: -1, ..self.clone() }
    }

    /// `None` means the newest.
    pub fn revision(&self) -> Option<Revision> {
        (self.rv > 0).then_some(Revision(self.rv))
    }

    pub fn start(&self) -> &str {
        &self.start
    }

    pub fn to_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("strings and numbers serialize"))
    }

    pub fn parse(token: &str) -> Result<Continue, Status> {
        let refuse = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refuse("it is not base64"))?;
        let parsed: Continue = serde_json::from_slice(&bytes).map_err(|_| refuse("it is not one of ours"))?;
        if parsed.v != VERSION || parsed.rv == 0 || parsed.rv < -1 || parsed.start.is_empty() {
            return Err(refuse("it is not one of ours"));
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_way_through_a_client() {
        let place = Continue::at(Revision(12), "ns/name\0".to_owned());
        assert_eq!(Continue::parse(&place.to_token()).unwrap(), place);
        let loose = Continue::parse(&place.inconsistent().to_token()).unwrap();
        assert_eq!((loose.revision(), loose.start()), (None, "ns/name\0"));
    }

    #[test]
    fn other_tokens_are_refused() {
        for token in ["%", "e30", "eyJ2IjoieCIsInJ2IjoxLCJzdGFydCI6ImEifQ"] {
            assert_eq!(Continue::parse(token).unwrap_err().code, 400, "{token}");
        }
    }
}
