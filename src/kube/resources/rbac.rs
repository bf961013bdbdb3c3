//! `rbac.authorization.k8s.io/v1`: roles and their bindings.

use k8s_openapi::api::rbac::v1;

use super::resource::Resource;
use crate::kube::defaults::other;
use crate::kube::names;
use crate::kube::printing::config;
use crate::kube::validation::rbac;

pub(super) fn resources() -> Vec<Resource> {
    let all = [
        Resource::of::<v1::Role>().checked_by(rbac::role).printed_by(config::name_and_creation()),
        Resource::of::<v1::RoleBinding>()
            .checked_by(rbac::role_binding)
            .update_checked_by(rbac::binding_update)
            .defaulted_by(other::role_binding)
            .printed_by(config::role_binding()),
        Resource::of::<v1::ClusterRole>().checked_by(rbac::cluster_role).printed_by(config::name_and_creation()),
        Resource::of::<v1::ClusterRoleBinding>()
            .checked_by(rbac::cluster_role_binding)
            .update_checked_by(rbac::binding_update)
            .defaulted_by(other::role_binding)
            .printed_by(config::role_binding()),
    ];
    all.into_iter().map(|resource| resource.named_by(names::path_segment).create_on_update()).collect()
}
