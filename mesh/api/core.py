"""Kubernetes kinds of the core group besides Pod: Namespace, Service, ServiceAccount, ConfigMap, Secret."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from mesh.api.fields import IntOrString, Opaque, Schema, spelt
from mesh.api.meta import Resource

TLS_TYPE = "kubernetes.io/tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace(Resource):
    KIND: ClassVar[str] = "Namespace"

    spec: Annotated[Opaque, Schema("NamespaceSpec")] = field(default_factory=dict)
    status: Annotated[Opaque, Schema("NamespaceStatus")] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """`target_port` None means the same number as `port`."""

    port: int
    name: str = ""
    target_port: IntOrString | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str | None = None
    node_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = spelt("clusterIP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Resource):
    KIND: ClassVar[str] = "Service"

    spec: ServiceSpec = field(default_factory=ServiceSpec)
    status: Annotated[Opaque, Schema("ServiceStatus")] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount(Resource):
    KIND: ClassVar[str] = "ServiceAccount"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap(Resource):
    KIND: ClassVar[str] = "ConfigMap"

    data: Mapping[str, str] = field(default_factory=dict)
    binary_data: Mapping[str, str] = field(default_factory=dict)
    immutable: bool = False

    @property
    def entries(self) -> Mapping[str, bytes]:
        """What it holds, text and other."""
        texts = {name: text.encode() for name, text in self.data.items()}
        return {**texts, **{name: b64decode(text) for name, text in self.binary_data.items()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret(Resource):
    """`data` is base64. Neither map is shown where a value is printed."""

    KIND: ClassVar[str] = "Secret"

    type: str = "Opaque"
    data: Mapping[str, str] = field(default_factory=dict, repr=False)
    string_data: Mapping[str, str] = field(default_factory=dict, repr=False)
    immutable: bool = False

    @property
    def entries(self) -> Mapping[str, bytes]:
        """What it holds. `stringData` counts before `data`, as in Kubernetes."""
        written = {name: text.encode() for name, text in self.string_data.items()}
        return {**{name: b64decode(text) for name, text in self.data.items()}, **written}
