//! `authorization.k8s.io/v1` and `authentication.k8s.io/v1`: questions, answered on create and never stored.

use k8s_openapi::api::{authentication, authorization};

use super::resource::Resource;

pub(super) fn resources() -> Vec<Resource> {
    let all = [
        Resource::of::<authorization::v1::SubjectAccessReview>(),
        Resource::of::<authorization::v1::SelfSubjectAccessReview>(),
        Resource::of::<authorization::v1::SelfSubjectRulesReview>(),
        Resource::of::<authorization::v1::LocalSubjectAccessReview>(),
        Resource::of::<authentication::v1::TokenReview>(),
        Resource::of::<authentication::v1::SelfSubjectReview>(),
    ];
    all.into_iter().map(Resource::virtual_kind).collect()
}
