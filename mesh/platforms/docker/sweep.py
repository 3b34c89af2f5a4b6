"""What a mesh left behind in the engine, found by its labels and removed."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mesh.platforms.base import PlatformError
from mesh.platforms.docker.engine import Engine, EngineError
from mesh.platforms.docker.ownership import CONTAINER, INFRA, Ownership

_POLL_S = 0.05
_PATIENCE_S = 30.0
_LEAVING = (403, 404, 409)


def chosen(listed: Sequence[Mapping[str, Any]], own: Ownership) -> list[str]:
    """The ids that are this mesh's, the owners of namespaces last: others are joined to them. Pure."""
    mine = [each for each in listed if own.covers(each.get("Labels"))]
    mine.sort(key=lambda each: each["Labels"].get(CONTAINER) == INFRA)
    return [str(each["Id"]) for each in mine]


def sweep(engine: Engine, own: Ownership) -> int:
    """Removes all containers, volumes and networks of the mesh; how many there were. Returns when they are gone.

    Raises PlatformError when something stays.
    """
    deadline = time.monotonic() + _PATIENCE_S
    found: set[str] = set()
    while left := _containers(engine, own):
        found.update(left)
        for each in left:
            engine.remove(each)
        _wait(deadline, f"containers {', '.join(each[:12] for each in left)}")
    for volume in _volumes(engine, own):
        found.add(volume)
        engine.remove_volume(volume)
    while networks := _networks(engine, own):
        found.update(networks)
        for each in networks:
            _let_go(engine, each)
            _remove_network(engine, each)
        _wait(deadline, f"networks {', '.join(each[:12] for each in networks)}")
    return len(found)


def _containers(engine: Engine, own: Ownership) -> list[str]:
    return chosen(engine.do(engine.api.containers, all=True, filters=own.filters), own)


def _networks(engine: Engine, own: Ownership) -> list[str]:
    return chosen(engine.do(engine.api.networks, filters=own.filters), own)


def _volumes(engine: Engine, own: Ownership) -> list[str]:
    listed = engine.do(engine.api.volumes, filters=own.filters)["Volumes"] or ()
    return [str(each["Name"]) for each in listed if own.covers(each.get("Labels"))]


def _let_go(engine: Engine, network: str) -> None:
    """Others' containers that joined the network leave it, and run on: it could not be removed else."""
    for joined in _joined(engine, network):
        try:
            engine.do(engine.api.disconnect_container_from_network, joined, network, force=True)
        except EngineError:
            # Another sweep, the reaper's or that of `down`, may have been faster, which the engine calls a failure.
            if joined in _joined(engine, network):
                raise


def _joined(engine: Engine, network: str) -> list[str]:
    """The ids of the containers in the network, of which there are none when it is gone."""
    try:
        return list(engine.do(engine.api.inspect_network, network)["Containers"])
    except EngineError as error:
        if error.status not in _LEAVING:
            raise
        return []


def _remove_network(engine: Engine, network: str) -> None:
    try:
        engine.do(engine.api.remove_network, network)
    except EngineError as error:
        # It still has an endpoint of a container that is on its way out: the next round finds it free.
        if error.status not in _LEAVING:
            raise


def _wait(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise PlatformError(f"{what} are still there {_PATIENCE_S:g} s after they were to be removed")
    time.sleep(_POLL_S)
