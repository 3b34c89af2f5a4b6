"""Discovery from files (`path_config_source`): clusters, load assignments, listeners and routes as files have them.

One poll looks after all of them. A file is a DiscoveryResponse in YAML or JSON, replaced by rename. Secrets, which must
not be quoted, have `secret_files`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse

from mesh.proxy import decode, logs
from mesh.proxy.decode import DecodeError
from mesh.proxy.observe.stats import Stats
from mesh.proxy.operations import operation_stats
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.operation_stats import SubscriptionStats
from mesh.proxy.operations.references import CLUSTER, ENDPOINT, LISTENER, ROUTE, Kind
from mesh.proxy.operations.secret_files import Signature, path_of, signature
from mesh.proxy.resources import Refused

_LOG = logs.logger("config")
_POLL_S = 0.5
LARGEST_FILE = 64 * 1024 * 1024
# In this order: what others refer to comes before them.
_MESSAGES: Mapping[Kind, Any] = {
    CLUSTER: Cluster,
    ENDPOINT: ClusterLoadAssignment,
    LISTENER: Listener,
    ROUTE: RouteConfiguration,
}


class FileError(Exception):
    """A file that cannot be used. `str()` names it and says why."""


@dataclass(slots=True)
class _File:
    """One subscription: all resources of a kind, or the one of a `name`; and how the file looked when read last."""

    path: Path
    kind: Kind
    name: str | None
    stats: SubscriptionStats
    seen: Signature | None = None


class ResourceFiles:
    """Watches the files that the bootstrap and the configuration itself refer to.

    `answered[kind]` is set once clusters or listeners have been read for the first time, accepted or not.
    """

    def __init__(self, dynamic: Bootstrap.DynamicResources, configuration: Configuration, stats: Stats) -> None:
        self.answered = {kind: asyncio.Event() for kind in (CLUSTER, LISTENER)}
        self._sources = {CLUSTER: path_of(dynamic.cds_config), LISTENER: path_of(dynamic.lds_config)}
        self._configuration = configuration
        self._stats = stats
        self._begun: set[Kind] = set()
        self._files: dict[tuple[Kind, str | None], _File] = {}
        self._changed = asyncio.Event()
        configuration.watch(self._changed.set)

    def begin(self, kind: Kind) -> None:
        """Read the clusters' or the listeners' file from now on."""
        self._begun.add(kind)
        self._changed.set()

    async def run(self) -> None:
        """Poll until cancelled; at once when the configuration refers to new files."""
        while True:
            self._changed.clear()
            self._find()
            for kind in _MESSAGES:
                for file in [each for each in self._files.values() if each.kind == kind]:
                    await self._refresh(file)
            try:
                await asyncio.wait_for(self._changed.wait(), _POLL_S if self._files else None)
            except TimeoutError:
                continue

    def _find(self) -> None:
        found: dict[tuple[Kind, str | None], tuple[str, SubscriptionStats]] = {}
        for kind in self._begun:
            if self._sources[kind]:
                found[kind, None] = self._sources[kind], operation_stats.of_manager(self._stats, kind)
        for reference in self._configuration.wanted.values():
            if reference.kind in (ENDPOINT, ROUTE) and (path := path_of(reference.source)):
                stats = operation_stats.of_reference(self._stats, reference)
                found[reference.kind, reference.name] = path, stats
        self._files = {
            key: known if (known := self._files.get(key)) is not None and known.path == Path(path)
            else _File(Path(path), *key, stats)
            for key, (path, stats) in found.items()
        }  # fmt: skip

    async def _refresh(self, file: _File) -> None:
        now = signature(file.path)
        if now == file.seen:
            return
        file.seen = now
        file.stats.update_attempt += 1
        try:
            messages, version = read(file.path, file.kind)
            await self._apply(file, messages, version)
        except FileError as error:
            file.stats.update_failure += 1
            _LOG.warning("%s; what was loaded before stays", error)
        except Refused as error:
            file.stats.update_rejected += 1
            _LOG.warning("%s is refused, what was loaded before stays: %s", file.path, error)
        else:
            file.stats.succeeded(version)
        if file.name is None:
            self.answered[file.kind].set()

    async def _apply(self, file: _File, messages: Mapping[str, Any], version: str) -> None:
        if file.name is None:
            await self._configuration.replace(file.kind, messages, version)
        elif file.name not in messages:
            raise FileError(f"{file.path}: holds no {_MESSAGES[file.kind].DESCRIPTOR.name} called {file.name!r}")
        else:
            await self._configuration.merge(file.kind, {file.name: messages[file.name]}, version)


def read(path: Path, kind: Kind) -> tuple[dict[str, Any], str]:
    """The resources of a file by name, and their version. Raises FileError."""
    response = DiscoveryResponse()
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise FileError(f"{path}: larger than {LARGEST_FILE} bytes")
        decode.parse(data.decode("utf-8"), response, str(path))
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 text") from error
    except DecodeError as error:
        raise FileError(str(error)) from error
    found: dict[str, Any] = {}
    for packed in response.resources:
        message = _MESSAGES[kind]()
        if not packed.Unpack(message):
            raise FileError(f"{path}: {packed.type_url} is not {message.DESCRIPTOR.full_name}")
        name = message.cluster_name if kind == ENDPOINT else message.name
        if name in found:
            raise FileError(f"{path}: {name!r} is there twice")
        found[name] = message
    return found, response.version_info
