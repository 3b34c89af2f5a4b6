"""Who a workload is, in Istio's terms, and where that is read from: node metadata, peer headers, endpoint metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Istio's labels of one side of a request. Compared by identity: each is made once and kept."""

    name: str = UNKNOWN
    namespace: str = UNKNOWN
    canonical_service: str = UNKNOWN
    canonical_revision: str = UNKNOWN
    app: str = UNKNOWN
    version: str = UNKNOWN
    cluster: str = UNKNOWN
    principal: str = UNKNOWN


NOBODY = Workload()


def of_metadata(metadata: Struct) -> Workload:
    """The workload that node metadata (or a peer's) describes."""
    values: dict[str, Any] = {}
    for key in ("WORKLOAD_NAME", "NAME", "NAMESPACE", "CLUSTER_ID", "SERVICE_ACCOUNT", "MESH_ID"):
        if key in metadata:
            values[key] = metadata[key]
    labels = dict(metadata["LABELS"]) if "LABELS" in metadata else {}
    name = values.get("WORKLOAD_NAME") or UNKNOWN
    app, version = labels.get("app", UNKNOWN), labels.get("version", UNKNOWN)
    namespace = values.get("NAMESPACE", UNKNOWN)
    return Workload(
        name=name,
        namespace=namespace,
        canonical_service=labels.get("service.istio.io/canonical-name") or labels.get("app") or name,
        canonical_revision=labels.get("service.istio.io/canonical-revision") or labels.get("version") or "latest",
        app=app,
        version=version,
        cluster=values.get("CLUSTER_ID", UNKNOWN),
        principal=_principal(values, namespace),
    )


def of_endpoint(text: str) -> Workload:
    """The workload of endpoint metadata `istio.workload`: `workload;namespace;canonical name;revision;cluster`."""
    parts = [*text.split(";"), "", "", "", "", ""]
    name, namespace, canonical, revision, cluster = (part or UNKNOWN for part in parts[:5])
    return Workload(name, namespace, canonical, revision, canonical, revision, cluster)


def _principal(values: dict[str, Any], namespace: str) -> str:
    account = values.get("SERVICE_ACCOUNT")
    trust_domain = values.get("MESH_ID", "cluster.local")
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}" if account else UNKNOWN
