//! `authorization.k8s.io/v1` and `authentication.k8s.io/v1`: questions, answered on create and never stored.

use super::resource::Resource;

pub(super) fn resources() -> Vec<Resource> {
    let authorization = "io.k8s.api.authorization.v1";
    let authentication = "io.k8s.api.authentication.v1";
    let review = |kind: &str, plural: &str| Resource::cluster("authorization.k8s.io/v1", kind, plural, authorization);
    let identity =
        |kind: &str, plural: &str| Resource::cluster("authentication.k8s.io/v1", kind, plural, authentication);
    let all = [
        review("SubjectAccessReview", "subjectaccessreviews"),
        review("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
        review("SelfSubjectRulesReview", "selfsubjectrulesreviews"),
        Resource::namespaced(
            "authorization.k8s.io/v1",
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
            authorization,
        ),
        identity("TokenReview", "tokenreviews"),
        identity("SelfSubjectReview", "selfsubjectreviews"),
    ];
    all.into_iter().map(Resource::virtual_kind).collect()
}
