"""Kubernetes' PodSpec as far as a pod needs it, Pod with its status, and Deployment.

Fields of the real API that no platform of ours carries out are listed in `mesh.api.known`: they are accepted and kept
in the raw document, and absent here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, ClassVar, Literal, TypeAlias

from mesh.api.fields import IntOrString, Opaque, Quantity, Schema, spelt
from mesh.api.meta import LabelSelector, ObjectMeta, Resource
from mesh.api.security_context import PodSecurityContext, SecurityContext

Volume: TypeAlias = Annotated[Opaque, Schema("Volume")]
ContainerState: TypeAlias = Annotated[Opaque, Schema("ContainerState")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRef:
    """A field of the pod as an environment value, such as `status.podIP` or `metadata.labels['app']`."""

    field_path: str
    api_version: str = "v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRef:
    """A key of a ConfigMap or Secret of the pod's namespace."""

    key: str
    name: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVarSource:
    ONEOFS: ClassVar[tuple[tuple[str, ...], ...]] = (("field_ref", "config_map_key_ref", "secret_key_ref"),)

    field_ref: FieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFromRef:
    name: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFromSource:
    ONEOFS: ClassVar[tuple[tuple[str, ...], ...]] = (("config_map_ref", "secret_ref"),)

    prefix: str = ""
    config_map_ref: EnvFromRef | None = None
    secret_ref: EnvFromRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    container_port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    host_port: int | None = None
    host_ip: str = spelt("hostIP")


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeader:
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPGetAction:
    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPSocketAction:
    port: IntOrString
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecAction:
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPCAction:
    port: int
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Seconds and counts with Kubernetes' own defaults; exactly one handler is set."""

    ONEOFS: ClassVar[tuple[tuple[str, ...], ...]] = (("http_get", "tcp_socket", "exec", "grpc"),)

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepAction:
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleHandler:
    ONEOFS: ClassVar[tuple[tuple[str, ...], ...]] = (("http_get", "tcp_socket", "exec", "sleep"),)

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    sleep: SleepAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequirements:
    limits: Mapping[str, Quantity] = field(default_factory=dict)
    requests: Mapping[str, Quantity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""
    sub_path_expr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """`command` and `args` replace the image's entry point and arguments."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    security_context: SecurityContext = field(default_factory=SecurityContext)
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: Literal["Always", "OnFailure", "Never"] | None = None
    resources: ResourceRequirements = field(default_factory=ResourceRequirements)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    security_context: PodSecurityContext = field(default_factory=PodSecurityContext)
    service_account_name: str = "default"
    termination_grace_period_seconds: int = 30
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"

    @property
    def all_containers(self) -> tuple[Container, ...]:
        """In the order in which they start."""
        return (*self.init_containers, *self.containers)

    @property
    def serving_containers(self) -> tuple[Container, ...]:
        """Those that run as long as the pod does, sidecars among the init containers (`restartPolicy: Always`) too."""
        return (*self.containers, *(own for own in self.init_containers if own.restart_policy == "Always"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PodCondition:
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """`state` and `last_state` hold one of `waiting`, `running`, `terminated`, as Kubernetes writes them."""

    name: str
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    image: str = ""
    state: ContainerState = field(default_factory=dict)
    last_state: ContainerState = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] = "Pending"
    pod_ip: str = spelt("podIP")
    host_ip: str = spelt("hostIP")
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    start_time: datetime | None = None
    reason: str = ""
    message: str = ""

    @property
    def ready(self) -> bool:
        """Whether the condition `Ready` is `True`: only then is the pod an endpoint of its Services."""
        return any(condition.type == "Ready" and condition.status == "True" for condition in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod(Resource):
    KIND: ClassVar[str] = "Pod"

    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplateSpec:
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    selector: LabelSelector
    template: PodTemplateSpec
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(Resource):
    KIND: ClassVar[str] = "Deployment"

    spec: DeploymentSpec
    status: Annotated[Opaque, Schema("DeploymentStatus")] = field(default_factory=dict)
