"""Typed client of the control plane's HTTP API, and of the pods' own pages: all that drills know of the mesh.

Synchronous, thread-safe, quick to import; manifests are plain dictionaries as the API speaks them. MUST NOT import any
other part of `mesh`: the HTTP API is the whole contract.
"""

from mesh.client.client import MeshClient
from mesh.client.errors import ApiError, Cause, FaultLost, MeshError, MeshNotRunning
from mesh.client.faults import Fault
from mesh.client.kinds import KINDS, Kind, find_kind
from mesh.client.prometheus import Metrics, Sample, parse_metrics
from mesh.client.types import (
    POD_FAULT_CONDITION,
    Applied,
    ApplyResult,
    Certificate,
    Credentials,
    Manifest,
    MeshFile,
    ObjectList,
    Pod,
    ProxyStatus,
    Token,
    TypeStatus,
)
from mesh.client.watch import Event, Watch

__all__ = [
    "KINDS",
    "POD_FAULT_CONDITION",
    "ApiError",
    "Applied",
    "ApplyResult",
    "Cause",
    "Certificate",
    "Credentials",
    "Event",
    "Fault",
    "FaultLost",
    "Kind",
    "Manifest",
    "MeshClient",
    "MeshError",
    "MeshFile",
    "MeshNotRunning",
    "Metrics",
    "ObjectList",
    "Pod",
    "ProxyStatus",
    "Sample",
    "Token",
    "TypeStatus",
    "Watch",
    "find_kind",
    "parse_metrics",
]
