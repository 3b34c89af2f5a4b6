"""What the API's answers are turned into, where their shape matters. Manifests stay plain dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mesh.client.errors import MeshError, MeshNotRunning

HOST_PORTS_ANNOTATION = "meshdrill.dev/host-ports"
"""Of a Pod that the host cannot reach by its own address: which address of the host leads to which port, as JSON."""

POD_FAULT_CONDITION = "fault.meshdrill.dev"
"""A pod's condition of type `fault.meshdrill.dev/<name>` tells whether the PodFault of that name is in force.

Its message begins with the fault's uid and a colon; where it is not in force, why follows."""

Manifest = dict[str, Any]
"""A Kubernetes object as JSON has it: apiVersion, kind, metadata, spec, status."""


@dataclass(frozen=True, slots=True)
class MeshFile:
    """`mesh.json`: how to reach a running mesh.

    `lacking` says of each capability that its platform has not, why.
    """

    name: str
    api: str
    token_file: Path
    root_cert: Path
    gateway: str
    engine: str
    platform: str
    node_pid: int
    lacking: Mapping[str, str]

    @classmethod
    def read(cls, state: Path) -> MeshFile:
        """The mesh whose state folder is `state`. Raises MeshNotRunning when there is none, or its file is damaged."""
        path = state / "mesh.json"
        try:
            fields = json.loads(path.read_text())
            return cls(
                name=fields["name"],
                api=fields["api"],
                token_file=state / fields["token_file"],
                root_cert=state / fields["root_cert"],
                gateway=fields["gateway"],
                engine=fields["engine"],
                platform=fields["platform"],
                node_pid=fields["node_pid"],
                lacking=dict(fields["lacking"]),
            )
        except FileNotFoundError as error:
            raise MeshNotRunning(f"no mesh is running in {state}: start one with `meshdrill up`") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MeshNotRunning(
                f"{path} cannot be read ({error}): run `meshdrill down`, then `meshdrill up`"
            ) from error


@dataclass(frozen=True, slots=True)
class ObjectList:
    """The objects of a list, and the resourceVersion from which a watch goes on."""

    items: list[Manifest]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One object of a transaction: what happened to it (created, configured, unchanged) and how it is now."""

    action: str
    object: Manifest


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What a transaction did; `resource_version` is what `wait_synced` waits for."""

    resource_version: str
    items: list[Applied]


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One xDS type at one proxy. `sent` and `acked` are version strings, `error` the text of the last NACK.

    `state` is istioctl's word: SYNCED, STALE, NACK, NOT SENT.
    """

    type: str
    state: str
    sent: str
    acked: str
    error: str


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """A connected proxy: `id` is `<pod>.<namespace>`, `node_id` the whole node id it came with."""

    id: str
    node_id: str
    address: str
    types: tuple[TypeStatus, ...]

    @property
    def is_synced(self) -> bool:
        return all(status.state in {"SYNCED", "NOT SENT"} for status in self.types)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as the node reports it; `manifest` is the whole object."""

    name: str
    namespace: str
    uid: str
    ip: str
    phase: str
    ready: bool
    labels: Mapping[str, str]
    service_account: str
    workload: str
    manifest: Manifest

    def reach(self, port: int) -> tuple[str, int]:
        """Where this host reaches a port of the pod: where its platform says, else at the pod's own address.

        Raises MeshError when neither is known.
        """
        annotations = self.manifest["metadata"].get("annotations") or {}
        ports = json.loads(annotations.get(HOST_PORTS_ANNOTATION, "{}"))
        if not ports:
            return self.ip, port
        if str(port) not in ports:
            raise MeshError(
                f"port {port} of pod {self.name} cannot be reached from this host; there are {sorted(ports)}"
            )
        host, _, number = ports[str(port)].rpartition(":")
        return host, int(number)

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Pod:
        metadata, spec, status = manifest["metadata"], manifest.get("spec", {}), manifest.get("status", {})
        conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
        owners = [owner["name"] for owner in metadata.get("ownerReferences", ())]
        return cls(
            name=metadata["name"],
            namespace=metadata["namespace"],
            uid=metadata.get("uid", ""),
            ip=status.get("podIP", ""),
            phase=status.get("phase", "Pending"),
            ready=conditions.get("Ready") == "True" and "deletionTimestamp" not in metadata,
            labels=metadata.get("labels", {}),
            service_account=spec.get("serviceAccountName", "default"),
            workload=owners[0] if owners else metadata["name"],
            manifest=manifest,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A pod's token for the CA. `repr` does not show it."""

    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Token(..., expires_at={self.expires_at.isoformat()})"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the CA signed: the chain (PEM, leaf first, without the root), the root (PEM), the leaf's end (aware)."""

    chain: tuple[str, ...]
    root: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key with its certificate, all PEM. `repr` does not show the key."""

    key: str
    chain: str
    root: str
    not_after: datetime

    def __repr__(self) -> str:
        return f"Credentials(..., not_after={self.not_after.isoformat()})"
