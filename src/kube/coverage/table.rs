//! Which component acts on which field. A field that is new in the schema is entered here, or a test fails; the fields
//! of [`By::Nobody`] may only become fewer, and README.md names them.

/// The component that acts on a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The API itself: admission, allocation, validation.
    Api,
    Scheduler,
    Controllers,
    Agent,
    /// It is accepted and stored, without effect.
    Nobody,
}

use By::{Agent, Api, Controllers, Nobody, Scheduler};

/// By struct: the component that acts on its fields. Nothing is listed below a field of [`By::Nobody`].
pub const FIELDS: &[(&str, By, &str)] = &[
    // workloads
    ("ReplicationControllerSpec", Controllers, "minReadySeconds replicas selector template"),
    ("ReplicaSetSpec", Controllers, "minReadySeconds replicas selector template"),
    (
        "DeploymentSpec",
        Controllers,
        "minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit selector strategy template",
    ),
    ("DeploymentStrategy", Controllers, "rollingUpdate type"),
    ("RollingUpdateDeployment", Controllers, "maxSurge maxUnavailable"),
    ("PodTemplateSpec", Controllers, "metadata spec"),
    ("ObjectMeta", Api, "*"),
    ("LabelSelector", Controllers, "*"),
    // services
    ("ServiceSpec", Api, "clusterIP clusterIPs ipFamilies ipFamilyPolicy type"),
    ("ServiceSpec", Controllers, "ports publishNotReadyAddresses selector"),
    (
        "ServiceSpec",
        Nobody,
        "allocateLoadBalancerNodePorts externalIPs externalName externalTrafficPolicy healthCheckNodePort \
         internalTrafficPolicy loadBalancerClass loadBalancerIP loadBalancerSourceRanges sessionAffinity \
         sessionAffinityConfig trafficDistribution",
    ),
    ("ServicePort", Api, "nodePort"),
    ("ServicePort", Controllers, "appProtocol name port protocol targetPort"),
    // pods
    (
        "PodSpec",
        Agent,
        "activeDeadlineSeconds containers dnsConfig dnsPolicy enableServiceLinks hostAliases hostIPC hostNetwork hostPID \
         hostname hostnameOverride imagePullSecrets initContainers readinessGates restartPolicy securityContext \
         setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds volumes",
    ),
    (
        "PodSpec",
        Scheduler,
        "affinity nodeName nodeSelector overhead preemptionPolicy priority schedulerName schedulingGates tolerations \
         topologySpreadConstraints",
    ),
    ("PodSpec", Api, "automountServiceAccountToken priorityClassName serviceAccount serviceAccountName"),
    ("PodSpec", Nobody, "ephemeralContainers hostUsers os resourceClaims resources runtimeClassName workloadRef"),
    ("HostAlias", Agent, "hostnames ip"),
    ("LocalObjectReference", Agent, "name"),
    ("PodDNSConfig", Agent, "nameservers options searches"),
    ("PodDNSConfigOption", Agent, "name value"),
    ("PodReadinessGate", Agent, "conditionType"),
    (
        "PodSecurityContext",
        Agent,
        "appArmorProfile fsGroup runAsGroup runAsNonRoot runAsUser seLinuxOptions seccompProfile supplementalGroups sysctls",
    ),
    // Of the volumes that there are, only new ones are given to the group: there is no policy for changing them.
    ("PodSecurityContext", Agent, "fsGroupChangePolicy"),
    ("PodSecurityContext", Nobody, "seLinuxChangePolicy supplementalGroupsPolicy windowsOptions"),
    ("Sysctl", Agent, "name value"),
    ("AppArmorProfile", Agent, "localhostProfile type"),
    ("SELinuxOptions", Agent, "level role type user"),
    ("SeccompProfile", Agent, "type"),
    ("SeccompProfile", Nobody, "localhostProfile"),
    // where pods go
    ("Affinity", Scheduler, "nodeAffinity podAffinity podAntiAffinity"),
    (
        "NodeAffinity",
        Scheduler,
        "preferredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution",
    ),
    ("NodeSelector", Scheduler, "nodeSelectorTerms"),
    ("NodeSelectorTerm", Scheduler, "matchExpressions matchFields"),
    ("NodeSelectorRequirement", Scheduler, "key operator values"),
    ("PreferredSchedulingTerm", Scheduler, "preference weight"),
    (
        "PodAffinity",
        Scheduler,
        "preferredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution",
    ),
    (
        "PodAntiAffinity",
        Scheduler,
        "preferredDuringSchedulingIgnoredDuringExecution requiredDuringSchedulingIgnoredDuringExecution",
    ),
    ("WeightedPodAffinityTerm", Scheduler, "podAffinityTerm weight"),
    ("PodAffinityTerm", Scheduler, "labelSelector namespaceSelector namespaces topologyKey"),
    ("PodAffinityTerm", Nobody, "matchLabelKeys mismatchLabelKeys"),
    ("PodSchedulingGate", Scheduler, "name"),
    ("Toleration", Scheduler, "effect key operator value"),
    ("Toleration", Controllers, "tolerationSeconds"),
    (
        "TopologySpreadConstraint",
        Scheduler,
        "labelSelector matchLabelKeys maxSkew minDomains nodeAffinityPolicy nodeTaintsPolicy topologyKey whenUnsatisfiable",
    ),
    // containers
    (
        "Container",
        Agent,
        "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resources \
         restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce terminationMessagePath \
         terminationMessagePolicy tty volumeMounts workingDir",
    ),
    ("Container", Nobody, "resizePolicy volumeDevices"),
    ("ContainerPort", Agent, "containerPort hostIP hostPort name protocol"),
    ("ContainerRestartRule", Agent, "action exitCodes"),
    ("ContainerRestartRuleOnExitCodes", Agent, "operator values"),
    ("EnvVar", Agent, "name value valueFrom"),
    ("EnvVarSource", Agent, "configMapKeyRef fieldRef resourceFieldRef secretKeyRef"),
    ("EnvVarSource", Nobody, "fileKeyRef"),
    ("EnvFromSource", Agent, "configMapRef prefix secretRef"),
    ("ConfigMapEnvSource", Agent, "name optional"),
    ("SecretEnvSource", Agent, "name optional"),
    ("ConfigMapKeySelector", Agent, "key name optional"),
    ("SecretKeySelector", Agent, "key name optional"),
    ("ObjectFieldSelector", Agent, "apiVersion fieldPath"),
    ("ResourceFieldSelector", Agent, "containerName divisor resource"),
    ("Lifecycle", Agent, "postStart preStop stopSignal"),
    ("LifecycleHandler", Agent, "exec httpGet sleep tcpSocket"),
    ("ExecAction", Agent, "command"),
    ("HTTPGetAction", Agent, "host httpHeaders path port scheme"),
    ("HTTPHeader", Agent, "name value"),
    ("SleepAction", Agent, "seconds"),
    ("TCPSocketAction", Agent, "host port"),
    ("GRPCAction", Agent, "port service"),
    (
        "Probe",
        Agent,
        "exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold tcpSocket \
         terminationGracePeriodSeconds timeoutSeconds",
    ),
    ("ResourceRequirements", Agent, "limits requests"),
    ("ResourceRequirements", Nobody, "claims"),
    (
        "SecurityContext",
        Agent,
        "allowPrivilegeEscalation appArmorProfile capabilities privileged procMount readOnlyRootFilesystem runAsGroup \
         runAsNonRoot runAsUser seLinuxOptions seccompProfile",
    ),
    ("SecurityContext", Nobody, "windowsOptions"),
    ("Capabilities", Agent, "add drop"),
    ("VolumeMount", Agent, "mountPath mountPropagation name readOnly subPath subPathExpr"),
    ("VolumeMount", Nobody, "recursiveReadOnly"),
    // volumes
    ("Volume", Agent, "configMap downwardAPI emptyDir hostPath name projected secret"),
    (
        "Volume",
        Nobody,
        "awsElasticBlockStore azureDisk azureFile cephfs cinder csi ephemeral fc flexVolume flocker gcePersistentDisk \
         gitRepo glusterfs image iscsi nfs persistentVolumeClaim photonPersistentDisk portworxVolume quobyte rbd scaleIO \
         storageos vsphereVolume",
    ),
    ("ConfigMapVolumeSource", Agent, "defaultMode items name optional"),
    ("SecretVolumeSource", Agent, "defaultMode items optional secretName"),
    ("KeyToPath", Agent, "key mode path"),
    ("DownwardAPIVolumeSource", Agent, "defaultMode items"),
    ("DownwardAPIVolumeFile", Agent, "fieldRef mode path resourceFieldRef"),
    ("EmptyDirVolumeSource", Agent, "medium"),
    // In memory it is held to.
    ("EmptyDirVolumeSource", Nobody, "sizeLimit"),
    ("HostPathVolumeSource", Agent, "path type"),
    ("ProjectedVolumeSource", Agent, "defaultMode sources"),
    ("VolumeProjection", Agent, "configMap downwardAPI secret serviceAccountToken"),
    ("VolumeProjection", Nobody, "clusterTrustBundle podCertificate"),
    ("ConfigMapProjection", Agent, "items name optional"),
    ("SecretProjection", Agent, "items name optional"),
    ("DownwardAPIProjection", Agent, "items"),
    ("ServiceAccountTokenProjection", Agent, "audience expirationSeconds path"),
];

/// Values of fields of [`By::Nobody`] that ask for what happens anyway.
pub const HARMLESS: &[(&str, &str, &str)] = &[
    ("PodSpec", "hostUsers", "true"),
    ("PodSpec", "os", r#"{"name":"linux"}"#),
    ("PodSecurityContext", "supplementalGroupsPolicy", "Merge"),
    ("VolumeMount", "recursiveReadOnly", "Disabled"),
    ("ServiceSpec", "allocateLoadBalancerNodePorts", "true"),
    ("ServiceSpec", "externalTrafficPolicy", "Cluster"),
    ("ServiceSpec", "internalTrafficPolicy", "Cluster"),
    ("ServiceSpec", "sessionAffinity", "None"),
];
