//! How the lists, maps and structs of the built-in kinds merge: for strategic merge patches and for server-side apply
//! (kubernetes contract, 3.3). A list that is not here is atomic and replaced; a map that is not here is granular.

use super::types::{PatchRule, Topology};

/// Server-side apply.
enum Owned {
    Keys(&'static [&'static str]),
    Set,
    Atomic,
}

/// Strategic merge.
enum Patched {
    By(&'static str),
    /// ... and the patch names the keys it keeps.
    ByRetaining(&'static str),
    /// A list of scalars: the union.
    Union,
    /// A struct whose patch names the keys it keeps.
    Retaining,
    Replace,
}

use Owned::{Atomic, Keys, Set};
use Patched::{By, ByRetaining, Replace, Retaining, Union};

type Row = (&'static str, &'static str, Owned, Patched);

/// Type (by the end of its definition's name), field, and the two treatments.
const ROWS: &[Row] = &[
    ("meta.v1.ObjectMeta", "ownerReferences", Keys(&["uid"]), By("uid")),
    ("meta.v1.ObjectMeta", "finalizers", Set, Union),
    ("core.v1.PodSpec", "containers", Keys(&["name"]), By("name")),
    ("core.v1.PodSpec", "initContainers", Keys(&["name"]), By("name")),
    ("core.v1.PodSpec", "ephemeralContainers", Keys(&["name"]), By("name")),
    ("core.v1.PodSpec", "volumes", Keys(&["name"]), ByRetaining("name")),
    ("core.v1.PodSpec", "imagePullSecrets", Keys(&["name"]), By("name")),
    ("core.v1.PodSpec", "hostAliases", Keys(&["ip"]), By("ip")),
    ("core.v1.PodSpec", "resourceClaims", Keys(&["name"]), ByRetaining("name")),
    ("core.v1.PodSpec", "schedulingGates", Keys(&["name"]), By("name")),
    ("core.v1.PodSpec", "nodeSelector", Atomic, Replace),
    ("core.v1.PodSpec", "topologySpreadConstraints", Keys(&["topologyKey", "whenUnsatisfiable"]), By("topologyKey")),
    ("core.v1.Container", "env", Keys(&["name"]), By("name")),
    ("core.v1.Container", "ports", Keys(&["containerPort", "protocol"]), By("containerPort")),
    ("core.v1.Container", "volumeMounts", Keys(&["mountPath"]), By("mountPath")),
    ("core.v1.Container", "volumeDevices", Keys(&["devicePath"]), By("devicePath")),
    ("core.v1.EphemeralContainer", "env", Keys(&["name"]), By("name")),
    ("core.v1.EphemeralContainer", "ports", Keys(&["containerPort", "protocol"]), By("containerPort")),
    ("core.v1.EphemeralContainer", "volumeMounts", Keys(&["mountPath"]), By("mountPath")),
    ("core.v1.EphemeralContainer", "volumeDevices", Keys(&["devicePath"]), By("devicePath")),
    ("core.v1.ResourceRequirements", "claims", Keys(&["name"]), Replace),
    ("core.v1.PodStatus", "conditions", Keys(&["type"]), By("type")),
    ("core.v1.PodStatus", "podIPs", Keys(&["ip"]), By("ip")),
    ("core.v1.PodStatus", "hostIPs", Atomic, By("ip")),
    ("core.v1.PodStatus", "resourceClaimStatuses", Keys(&["name"]), ByRetaining("name")),
    ("core.v1.ContainerStatus", "volumeMounts", Keys(&["mountPath"]), By("mountPath")),
    ("core.v1.ContainerStatus", "allocatedResourcesStatus", Keys(&["name"]), By("name")),
    ("core.v1.ResourceStatus", "resources", Keys(&["resourceID"]), Replace),
    ("core.v1.ContainerRestartRuleOnExitCodes", "values", Set, Replace),
    ("core.v1.ServiceSpec", "ports", Keys(&["port", "protocol"]), By("port")),
    ("core.v1.ServiceSpec", "selector", Atomic, Replace),
    ("core.v1.ServiceStatus", "conditions", Keys(&["type"]), By("type")),
    ("core.v1.ServiceAccount", "secrets", Keys(&["name"]), By("name")),
    ("core.v1.NamespaceStatus", "conditions", Keys(&["type"]), By("type")),
    ("core.v1.NodeSpec", "podCIDRs", Set, Union),
    ("core.v1.NodeStatus", "conditions", Keys(&["type"]), By("type")),
    ("core.v1.NodeStatus", "addresses", Keys(&["type"]), By("type")),
    ("core.v1.PersistentVolumeClaimStatus", "conditions", Keys(&["type"]), By("type")),
    ("core.v1.ReplicationControllerSpec", "selector", Atomic, Replace),
    ("core.v1.ReplicationControllerStatus", "conditions", Keys(&["type"]), By("type")),
    ("core.v1.ComponentStatus", "conditions", Keys(&["type"]), By("type")),
    ("apps.v1.DeploymentSpec", "strategy", Keys(&[]), Retaining),
    ("apps.v1.DeploymentStatus", "conditions", Keys(&["type"]), By("type")),
    ("apps.v1.ReplicaSetStatus", "conditions", Keys(&["type"]), By("type")),
    ("apps.v1.DaemonSetStatus", "conditions", Keys(&["type"]), By("type")),
    ("apps.v1.StatefulSetStatus", "conditions", Keys(&["type"]), By("type")),
    ("batch.v1.JobStatus", "conditions", Atomic, By("type")),
    ("batch.v1.UncountedTerminatedPods", "succeeded", Set, Replace),
    ("batch.v1.UncountedTerminatedPods", "failed", Set, Replace),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "values", Set, Replace),
    ("networking.v1.ServiceCIDRStatus", "conditions", Keys(&["type"]), By("type")),
    ("node.v1.Scheduling", "nodeSelector", Atomic, Replace),
    ("autoscaling.v2.HorizontalPodAutoscalerStatus", "conditions", Keys(&["type"]), By("type")),
    ("policy.v1.PodDisruptionBudgetStatus", "conditions", Keys(&["type"]), By("type")),
    ("policy.v1.PodDisruptionBudgetSpec", "selector", Atomic, Replace),
    ("discovery.v1.Endpoint", "addresses", Set, Replace),
    ("storage.v1.CSINodeSpec", "drivers", Keys(&["name"]), By("name")),
    ("storage.v1.CSIDriverSpec", "volumeLifecycleModes", Set, Replace),
    ("certificates.v1.CertificateSigningRequestStatus", "conditions", Keys(&["type"]), Replace),
    ("admissionregistration.v1.MutatingWebhookConfiguration", "webhooks", Keys(&["name"]), By("name")),
    ("admissionregistration.v1.ValidatingWebhookConfiguration", "webhooks", Keys(&["name"]), By("name")),
    ("admissionregistration.v1.MutatingWebhook", "matchConditions", Keys(&["name"]), By("name")),
    ("admissionregistration.v1.ValidatingWebhook", "matchConditions", Keys(&["name"]), By("name")),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", "matchConditions", Keys(&["name"]), By("name")),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", "variables", Keys(&["name"]), By("name")),
    ("admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", "validationActions", Set, Replace),
    ("admissionregistration.v1.ValidatingAdmissionPolicyStatus", "conditions", Keys(&["type"]), Replace),
    ("apiextensions.v1.CustomResourceDefinitionStatus", "conditions", Keys(&["type"]), Replace),
    ("apiextensions.v1.JSONSchemaProps", "x-kubernetes-validations", Keys(&["rule"]), By("rule")),
    ("apiregistration.v1.APIServiceStatus", "conditions", Keys(&["type"]), By("type")),
    ("flowcontrol.v1.FlowSchemaStatus", "conditions", Keys(&["type"]), By("type")),
    ("flowcontrol.v1.PriorityLevelConfigurationStatus", "conditions", Keys(&["type"]), By("type")),
    ("flowcontrol.v1.ResourcePolicyRule", "apiGroups", Set, Replace),
    ("flowcontrol.v1.ResourcePolicyRule", "namespaces", Set, Replace),
    ("flowcontrol.v1.ResourcePolicyRule", "resources", Set, Replace),
    ("flowcontrol.v1.ResourcePolicyRule", "verbs", Set, Replace),
    ("flowcontrol.v1.NonResourcePolicyRule", "nonResourceURLs", Set, Replace),
    ("flowcontrol.v1.NonResourcePolicyRule", "verbs", Set, Replace),
    ("resource.v1.ResourceClaimStatus", "reservedFor", Keys(&["uid"]), By("uid")),
    ("resource.v1.ResourceClaimStatus", "devices", Keys(&["device", "driver", "pool", "shareID"]), Replace),
    ("resource.v1.AllocatedDeviceStatus", "conditions", Keys(&["type"]), Replace),
];

/// Structs that are owned as one value.
const ATOMIC_STRUCTS: &[&str] = &[
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "core.v1.LocalObjectReference",
    "core.v1.ObjectReference",
    "core.v1.TypedLocalObjectReference",
    "core.v1.SecretReference",
    "core.v1.ConfigMapKeySelector",
    "core.v1.SecretKeySelector",
    "core.v1.FileKeySelector",
    "core.v1.ObjectFieldSelector",
    "core.v1.ResourceFieldSelector",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ScopeSelector",
    "core.v1.TopologySelectorTerm",
    "core.v1.EndpointAddress",
    "core.v1.EndpointPort",
    "discovery.v1.EndpointPort",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
    "autoscaling.v1.CrossVersionObjectReference",
    "admissionregistration.v1.MatchResources",
    "admissionregistration.v1.NamedRuleWithOperations",
    "admissionregistration.v1.ParamKind",
    "admissionregistration.v1.ParamRef",
    "admissionregistration.v1.Variable",
];

/// `core.v1.Pod` of `io.k8s.api.core.v1.Pod`: the last three parts.
fn short(definition: &str) -> &str {
    match definition.rmatch_indices('.').nth(2) {
        Some((place, _)) => &definition[place + 1..],
        None => definition,
    }
}

pub(super) fn is_atomic_struct(definition: &str) -> bool {
    ATOMIC_STRUCTS.contains(&short(definition))
}

/// How `field` of the struct `definition` merges; `None` when the table says nothing.
pub(super) fn rules(definition: &str, field: &str) -> Option<(Topology, PatchRule)> {
    // The one reference to an object that is granular although its type is atomic.
    if (short(definition), field) == ("core.v1.PersistentVolumeSpec", "claimRef") {
        return Some((Topology::Granular, PatchRule::default()));
    }
    let (_, _, owned, patched) = ROWS.iter().find(|(type_, name, ..)| *name == field && *type_ == short(definition))?;
    let topology = match owned {
        Keys([]) => Topology::Granular,
        Keys(keys) => Topology::Map(keys.iter().map(|&key| key.to_owned()).collect()),
        Set => Topology::Set,
        Atomic => Topology::Atomic,
    };
    let rule = PatchRule::default();
    let by = |key: &&str| PatchRule { merges: true, merge_key: Some((*key).to_owned()), ..PatchRule::default() };
    let patch = match patched {
        By(key) => by(key),
        ByRetaining(key) => PatchRule { retains_keys: true, ..by(key) },
        Union => PatchRule { merges: true, ..rule },
        Retaining => PatchRule { retains_keys: true, ..rule },
        Replace if definition.ends_with("PodDisruptionBudgetSpec") => PatchRule { replaces: true, ..rule },
        Replace => rule,
    };
    Some((topology, patch))
}

#[cfg(test)]
mod tests {
    use super::super::Schemas;
    use super::*;

    #[test]
    fn every_row_of_a_known_type_names_a_field_it_has() {
        let schemas = Schemas::builtin();
        let mut known = 0;
        for (type_, field, ..) in ROWS {
            for (name, schema) in schemas.structs().filter(|(name, _)| short(name) == *type_) {
                assert!(schema.fields.contains_key(*field), "{name} has no field {field}");
                known += 1;
            }
        }
        assert!(known > 30, "only {known} rows are of known types");
    }
}
