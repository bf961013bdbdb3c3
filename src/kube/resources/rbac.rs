//! `rbac.authorization.k8s.io/v1`: roles and who has them.

use super::resource::Resource;
use crate::kube::names;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const PACKAGE: &str = "io.k8s.api.rbac.v1";

pub(super) fn resources() -> Vec<Resource> {
    let all = [
        Resource::namespaced(API_VERSION, "Role", "roles", PACKAGE),
        Resource::namespaced(API_VERSION, "RoleBinding", "rolebindings", PACKAGE),
        Resource::cluster(API_VERSION, "ClusterRole", "clusterroles", PACKAGE),
        Resource::cluster(API_VERSION, "ClusterRoleBinding", "clusterrolebindings", PACKAGE),
    ];
    all.into_iter().map(|resource| resource.named_by(names::path_segment).create_on_update()).collect()
}
