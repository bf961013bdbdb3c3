//! The answer to a patch that is well formed and does not fit the object.

use crate::kube::status::{Cause, Details, Status};

/// 422, with `why` as its cause.
pub(super) fn unfit(why: String) -> Status {
    let cause = Cause { reason: "UnexpectedServerResponse".into(), message: why, field: String::new() };
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
        .with_details(Details { causes: vec![cause], ..Details::default() })
}
