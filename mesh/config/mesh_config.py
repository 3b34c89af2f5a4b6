"""MeshConfig out of the ConfigMap that Istio keeps it in."""

from __future__ import annotations

from typing import Final

from mesh.api.core import ConfigMap
from mesh.api.mesh_config import MeshConfig
from mesh.config.codec import decoder_of
from mesh.config.documents import read_documents
from mesh.config.problems import Path, Problem, ProblemList
from mesh.config.scalars import INVALID

ROOT_NAMESPACE: Final = "istio-system"
NAME: Final = "istio"
_KEY: Final = "mesh"
_NETWORKS, _NO_NETWORKS = "meshNetworks", "networks: {}"
_PATH: Final[Path] = ("data", _KEY)


def holds_mesh_config(resource: object) -> bool:
    """Whether this is the ConfigMap that says how the mesh as a whole behaves."""
    return isinstance(resource, ConfigMap) and (resource.namespace, resource.name) == (ROOT_NAMESPACE, NAME)


def read_mesh_config(config_map: ConfigMap, problems: ProblemList) -> MeshConfig:
    """What it says; the defaults, and why, if it cannot be read."""
    if config_map.data.get(_NETWORKS, _NO_NETWORKS).strip() != _NO_NETWORKS:
        problems.add(("data", _NETWORKS), "there is one network only: leave it out")
    documents, unreadable = read_documents(config_map.data.get(_KEY, ""))
    for problem in (*unreadable, *(found for document in documents for found in document.problems)):
        problems.add(_PATH, _located(problem))
    if len(documents) > 1:
        problems.add(_PATH, "must be one document")
    value = documents[0].value if documents else None
    found = decoder_of(MeshConfig)({} if value is None else value, _PATH, problems)
    return MeshConfig() if found is INVALID else found


def _located(problem: Problem) -> str:
    """Its line is counted from the first of the text within."""
    return f"line {problem.line} of it: {problem.message}" if problem.line else problem.message
