//! The store's errors as statuses of the API.

use crate::kube::status::Status;
use crate::store::error::Error;

/// The status for an error of the store. After 503 and 429 the write did not happen; after 504 it may have happened.
pub fn refusal(error: &Error) -> Status {
    match error {
        Error::NoLeader | Error::LeaderChanged | Error::Stopped | Error::NotLeader => {
            Status::service_unavailable(format!("the store does not answer: {error}")).retry_after(1)
        }
        Error::TooManyRequests => Status::too_many_requests(1),
        Error::Timeout | Error::TimeoutLeaderFailure | Error::TimeoutConnectionLost => Status::timeout(error),
        Error::Compacted => Status::expired("The resourceVersion for the provided watch or list is too old."),
        Error::RequestTooLarge => {
            Status::new(413, "RequestEntityTooLarge", "the object is too large for the store (limit 1.5 MiB)")
        }
        // gRPC UNAVAILABLE: the connection failed before an answer.
        Error::Other { code: 14, .. } => {
            Status::service_unavailable(format!("the store does not answer: {error}")).retry_after(1)
        }
        other => Status::internal_error(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_told_apart() {
        let table = [
            (Error::NoLeader, 503),
            (Error::Stopped, 503),
            (Error::TooManyRequests, 429),
            (Error::Timeout, 504),
            (Error::TimeoutConnectionLost, 504),
            (Error::Compacted, 410),
            (Error::RequestTooLarge, 413),
            (Error::NoSpace, 500),
        ];
        for (error, code) in table {
            assert_eq!(refusal(&error).code, code, "{error}");
        }
    }
}
