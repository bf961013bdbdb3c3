//! What a user can do about an error of the store.

use tonic::Code;

use crate::store::error::Error;

/// What was tried with which store.
#[derive(Debug)]
pub(super) struct Operation {
    pub endpoints: String,
    pub effect: Effect,
    /// Whether it is reached over TLS.
    pub secure: bool,
    /// Whether it is shown a certificate.
    pub certificate: bool,
}

/// What a command does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing, or the second time nothing more.
    Reads,
    Writes,
    Compacts,
}

/// One sentence about `error` and what to do next, where a user can do something.
pub(super) fn advice(error: &Error, operation: &Operation) -> Option<String> {
    let at = &operation.endpoints;
    let sentence = match error {
        Error::Other { code, message } => return of_transport(*code, message, operation),
        Error::NoLeader => {
            "the store has no leader: check that most of its members run (`chorus status`), then try again".to_owned()
        }
        error if error.is_unknown_outcome() => late(operation.effect),
        Error::Compacted if operation.effect == Effect::Compacts => "that revision is compacted already".to_owned(),
        Error::Compacted => "that revision is compacted: ask for a newer one, or leave --rev out".to_owned(),
        Error::LeaseNotFound => "that lease has expired or was revoked: grant a new one".to_owned(),
        Error::UserEmpty => format!("the store at {at} asks for a user: give --user NAME:PASSWORD"),
        Error::AuthFailed => {
            format!("the store at {at} knows no such user with that password: give another --user NAME:PASSWORD")
        }
        _ => return None,
    };
    Some(sentence)
}

fn late(effect: Effect) -> String {
    match effect {
        Effect::Writes => "no answer came in time, and the write may have happened: read before you write again",
        Effect::Reads | Effect::Compacts => {
            "no answer came in time: check that most of the store's members run (`chorus status`), then try again"
        }
    }
    .to_owned()
}

/// Of errors that no store sends: those of the connection, and answers of something else. Libraries tell them by their
/// texts.
fn of_transport(code: i32, message: &str, operation: &Operation) -> Option<String> {
    let at = &operation.endpoints;
    let says = |signs: &[&str]| signs.iter().any(|sign| message.contains(sign));
    if says(&["x509: certificate signed by unknown authority"]) {
        return Some(format!(
            "the certificate of the store at {at} is of an authority that is not trusted here: name the authority with \
             --cacert"
        ));
    }
    if says(&["CertificateRequired", "certificate required", "BadCertificate", "bad certificate", "UnknownCA"]) {
        return Some(match operation.certificate {
            false => format!("the store at {at} asks for a client certificate: give --cert and --key"),
            true => format!("the store at {at} does not trust the client certificate: give another --cert and --key"),
        });
    }
    if says(&["invalid compression flag", "mapped from HTTP status", "unknown service", "frame with invalid size"]) {
        return Some(format!("what answers at {at} is not an etcd store: name the right address with --endpoints"));
    }
    if operation.secure && !operation.certificate && says(&["transport error", "operation was canceled", "http2 error"])
    {
        return Some(format!(
            "the store at {at} ended the connection: if it asks for a client certificate, give --cert and --key"
        ));
    }
    if message.ends_with("http2 error") {
        return Some(format!(
            "what answers at {at} is not an etcd store, or one that expects https: check --endpoints"
        ));
    }
    match Code::from(code) {
        Code::DeadlineExceeded => Some(late(operation.effect)),
        Code::Unavailable => Some(format!(
            "no store answers at {at} ({message}): start one with `chorus up`, or name the right address with \
             --endpoints"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_to_do_next() {
        let (reads, writes) = (Effect::Reads, Effect::Writes);
        let other = |code: Code, message: &str| Error::Other { code: code as i32, message: message.to_owned() };
        let unknown = |message: &str| other(Code::Unknown, message);
        for (error, effect, secure, certificate, expected) in [
            (Error::Timeout, reads, false, false, "no answer came in time: check"),
            (Error::Timeout, writes, false, false, "the write may have happened: read before"),
            (other(Code::DeadlineExceeded, "late"), writes, false, false, "the write may have happened"),
            (Error::Compacted, reads, false, false, "leave --rev out"),
            (Error::UserEmpty, reads, false, false, "give --user NAME:PASSWORD"),
            (other(Code::Unavailable, "refused"), reads, false, false, "no store answers at a:1 (refused): start one"),
            (
                other(Code::Unavailable, "tls: x509: certificate signed by unknown authority"),
                reads,
                true,
                false,
                "with --cacert",
            ),
            (unknown("received fatal alert: CertificateRequired"), reads, true, false, "asks for a client certificate"),
            (unknown("received fatal alert: UnknownCA"), reads, true, true, "does not trust the client certificate"),
            (
                other(Code::Cancelled, "operation was canceled"),
                reads,
                true,
                false,
                "if it asks for a client certificate",
            ),
            (other(Code::Internal, "invalid compression flag: 123"), reads, true, false, "is not an etcd store: name"),
            (other(Code::Internal, "h2 protocol error: http2 error"), reads, false, false, "one that expects https"),
        ] {
            let operation = Operation { endpoints: "a:1".to_owned(), effect, secure, certificate };
            let sentence = advice(&error, &operation).unwrap();
            assert!(sentence.contains(expected), "{error:?}: {sentence}");
        }
        let operation =
            Operation { endpoints: "a:1".to_owned(), effect: Effect::Compacts, secure: false, certificate: false };
        assert!(!advice(&Error::Compacted, &operation).unwrap().contains("--rev"));
        assert_eq!(advice(&Error::NoSpace, &operation), None);
    }
}
