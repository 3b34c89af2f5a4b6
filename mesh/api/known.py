"""Fields of the real Kubernetes API that no part of ours reads: accepted, checked by name and type, kept as written.

A manifest that a cluster accepts is accepted here, and a misspelt field is refused as a strict cluster refuses it. Each
entry is a type of k8s.io/api (core/v1, apps/v1, meta/v1, as of Kubernetes 1.34) and its fields as `name:type`, where a
bare name is a string; `int`, `bool`, `time`, `quantity`, `int-or-string` and `any` are scalars, other words are types
of this table or dataclasses of this package, `[]` makes a list and `{}` a map by name. For the types that are
dataclasses here, the fields listed are the ones the dataclass leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_FIELDS = {
    # metadata
    "ObjectMeta": "generateName selfLink deletionTimestamp:time deletionGracePeriodSeconds:int finalizers:str[] "
    "ownerReferences:OwnerReference[] managedFields:any[]",
    "OwnerReference": "apiVersion kind name uid controller:bool blockOwnerDeletion:bool",
    # core kinds
    "NamespaceSpec": "finalizers:str[]",
    "NamespaceStatus": "phase conditions:any[]",
    "ServiceSpec": "clusterIPs:str[] externalIPs:str[] sessionAffinity loadBalancerIP loadBalancerSourceRanges:str[] "
    "externalName externalTrafficPolicy healthCheckNodePort:int publishNotReadyAddresses:bool "
    "sessionAffinityConfig:SessionAffinityConfig ipFamilies:str[] ipFamilyPolicy allocateLoadBalancerNodePorts:bool "
    "loadBalancerClass internalTrafficPolicy trafficDistribution",
    "SessionAffinityConfig": "clientIP:ClientIPConfig",
    "ClientIPConfig": "timeoutSeconds:int",
    "ServiceStatus": "loadBalancer:any conditions:any[]",
    "ServiceAccount": "secrets:ObjectRef[] imagePullSecrets:LocalRef[] automountServiceAccountToken:bool",
    "ObjectRef": "apiVersion kind name namespace uid resourceVersion fieldPath",
    "LocalRef": "name",
    # Deployment
    "DeploymentSpec": "strategy:DeploymentStrategy minReadySeconds:int revisionHistoryLimit:int paused:bool "
    "progressDeadlineSeconds:int",
    "DeploymentStrategy": "type rollingUpdate:RollingUpdateDeployment",
    "RollingUpdateDeployment": "maxUnavailable:int-or-string maxSurge:int-or-string",
    "DeploymentStatus": "observedGeneration:int replicas:int updatedReplicas:int readyReplicas:int "
    "availableReplicas:int unavailableReplicas:int terminatingReplicas:int conditions:any[] collisionCount:int",
    # pods
    "PodSpec": "activeDeadlineSeconds:int affinity:Affinity automountServiceAccountToken:bool dnsConfig:PodDNSConfig "
    "dnsPolicy enableServiceLinks:bool ephemeralContainers:any[] hostAliases:HostAlias[] hostIPC:bool "
    "hostNetwork:bool hostPID:bool hostUsers:bool hostname hostnameOverride imagePullSecrets:LocalRef[] nodeName "
    "nodeSelector:str{} os:PodOS overhead:quantity{} preemptionPolicy priority:int priorityClassName "
    "readinessGates:PodReadinessGate[] resourceClaims:PodResourceClaim[] resources:PodResources runtimeClassName "
    "schedulerName schedulingGates:LocalRef[] serviceAccount "
    "setHostnameAsFQDN:bool shareProcessNamespace:bool subdomain tolerations:Toleration[] "
    "topologySpreadConstraints:TopologySpreadConstraint[] workloadRef:any",
    "PodOS": "name",
    "PodResources": "limits:quantity{} requests:quantity{} claims:ResourceClaim[]",
    "PodReadinessGate": "conditionType",
    "PodResourceClaim": "name resourceClaimName resourceClaimTemplateName",
    "HostAlias": "ip hostnames:str[]",
    "PodDNSConfig": "nameservers:str[] searches:str[] options:PodDNSConfigOption[]",
    "PodDNSConfigOption": "name value",
    "Toleration": "key operator value effect tolerationSeconds:int",
    "TopologySpreadConstraint": "maxSkew:int topologyKey whenUnsatisfiable labelSelector:LabelSelector "
    "minDomains:int nodeAffinityPolicy nodeTaintsPolicy matchLabelKeys:str[]",
    "Affinity": "nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity",
    "NodeAffinity": "requiredDuringSchedulingIgnoredDuringExecution:NodeSelector "
    "preferredDuringSchedulingIgnoredDuringExecution:PreferredSchedulingTerm[]",
    "NodeSelector": "nodeSelectorTerms:NodeSelectorTerm[]",
    "NodeSelectorTerm": "matchExpressions:LabelSelectorRequirement[] matchFields:LabelSelectorRequirement[]",
    "PreferredSchedulingTerm": "weight:int preference:NodeSelectorTerm",
    "PodAffinity": "requiredDuringSchedulingIgnoredDuringExecution:PodAffinityTerm[] "
    "preferredDuringSchedulingIgnoredDuringExecution:WeightedPodAffinityTerm[]",
    "PodAffinityTerm": "labelSelector:LabelSelector namespaces:str[] topologyKey namespaceSelector:LabelSelector "
    "matchLabelKeys:str[] mismatchLabelKeys:str[]",
    "WeightedPodAffinityTerm": "weight:int podAffinityTerm:PodAffinityTerm",
    "PodSecurityContext": "seLinuxOptions:SELinuxOptions windowsOptions:WindowsOptions "
    "supplementalGroupsPolicy sysctls:NameValue[] "
    "fsGroupChangePolicy seccompProfile:SecurityProfile appArmorProfile:SecurityProfile seLinuxChangePolicy",
    "SELinuxOptions": "user role type level",
    "WindowsOptions": "gmsaCredentialSpecName gmsaCredentialSpec runAsUserName hostProcess:bool",
    "SecurityProfile": "type localhostProfile",
    "NameValue": "name value",
    # containers
    "Container": "resizePolicy:ContainerResizePolicy[] restartPolicyRules:any[] "
    "stdin:bool stdinOnce:bool terminationMessagePath terminationMessagePolicy "
    "tty:bool volumeDevices:VolumeDevice[]",
    "ContainerResizePolicy": "resourceName restartPolicy",
    "SecurityContext": "allowPrivilegeEscalation:bool appArmorProfile:SecurityProfile procMount "
    "seLinuxOptions:SELinuxOptions seccompProfile:SecurityProfile windowsOptions:WindowsOptions",
    "VolumeDevice": "name devicePath",
    "VolumeMount": "recursiveReadOnly mountPropagation",
    "ResourceRequirements": "claims:ResourceClaim[]",
    "ResourceClaim": "name request",
    "EnvVarSource": "resourceFieldRef:ResourceFieldSelector fileKeyRef:FileKeySelector",
    "ResourceFieldSelector": "containerName resource divisor:quantity",
    "FileKeySelector": "volumeName path key optional:bool",
    "Lifecycle": "stopSignal",
    # volumes
    "Volume": "name awsElasticBlockStore:any azureDisk:any azureFile:any cephfs:any cinder:any "
    "configMap:ConfigMapVolume csi:CSIVolume downwardAPI:DownwardAPIVolume emptyDir:EmptyDirVolume "
    "ephemeral:EphemeralVolume fc:any flexVolume:any flocker:any gcePersistentDisk:any gitRepo:any glusterfs:any "
    "hostPath:HostPathVolume image:ImageVolume iscsi:any nfs:NFSVolume persistentVolumeClaim:ClaimVolume "
    "photonPersistentDisk:any portworxVolume:any projected:ProjectedVolume quobyte:any rbd:any scaleIO:any "
    "secret:SecretVolume storageos:any vsphereVolume:any",
    "ConfigMapVolume": "name items:KeyToPath[] defaultMode:int optional:bool",
    "SecretVolume": "secretName items:KeyToPath[] defaultMode:int optional:bool",
    "KeyToPath": "key path mode:int",
    "CSIVolume": "driver readOnly:bool fsType volumeAttributes:str{} nodePublishSecretRef:LocalRef",
    "DownwardAPIVolume": "items:DownwardAPIFile[] defaultMode:int",
    "DownwardAPIFile": "path fieldRef:FieldRef resourceFieldRef:ResourceFieldSelector mode:int",
    "EmptyDirVolume": "medium sizeLimit:quantity",
    "EphemeralVolume": "volumeClaimTemplate:any",
    "HostPathVolume": "path type",
    "ImageVolume": "reference pullPolicy",
    "NFSVolume": "server path readOnly:bool",
    "ClaimVolume": "claimName readOnly:bool",
    "ProjectedVolume": "sources:VolumeProjection[] defaultMode:int",
    "VolumeProjection": "clusterTrustBundle:any configMap:ConfigMapVolume downwardAPI:DownwardAPIVolume "
    "podCertificate:any secret:SecretProjection serviceAccountToken:TokenProjection",
    "SecretProjection": "name items:KeyToPath[] optional:bool",
    "TokenProjection": "audience expirationSeconds:int path",
    # status
    "PodStatus": "observedGeneration:int nominatedNodeName hostIPs:any[] podIPs:any[] qosClass "
    "ephemeralContainerStatuses:any[] resize resourceClaimStatuses:any[] extendedResourceClaimStatus:any "
    "allocatedResources:any resources:any",
    "PodCondition": "lastProbeTime:time observedGeneration:int",
    "ContainerStatus": "imageID containerID allocatedResources:quantity{} resources:any volumeMounts:any[] user:any "
    "allocatedResourcesStatus:any[] stopSignal",
    "ContainerState": "waiting:ContainerStateWaiting running:ContainerStateRunning terminated:ContainerStateTerminated",
    "ContainerStateWaiting": "reason message",
    "ContainerStateRunning": "startedAt:time",
    "ContainerStateTerminated": "exitCode:int signal:int reason message startedAt:time finishedAt:time containerID",
    # Istio's status, the same for all its kinds
    "IstioStatus": "conditions:any[] validationMessages:any[] observedGeneration:int-or-string",
}


def _parse(text: str) -> Mapping[str, str]:
    return MappingProxyType({name: kind or "str" for name, _, kind in (word.partition(":") for word in text.split())})


KNOWN: Mapping[str, Mapping[str, str]] = MappingProxyType({name: _parse(text) for name, text in _FIELDS.items()})
"""Type name to field name to type expression."""
