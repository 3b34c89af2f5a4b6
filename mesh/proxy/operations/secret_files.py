"""Keeps the configuration's secrets as the SDS files have them: one poll for all, live for new connections."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from mesh.proxy import logs
from mesh.proxy.observe.stats import Stats
from mesh.proxy.operations import operation_stats
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.references import SECRET, Reference
from mesh.proxy.resources import Refused
from mesh.proxy.tls import secrets
from mesh.proxy.tls.secrets import SecretError

_LOG = logs.logger("secret")
_POLL_S = 0.5

Signature = tuple[int, int, int]


@dataclass(slots=True)
class _File:
    """One SDS file for one secret, and how it looked when it was read last."""

    path: Path
    reference: Reference
    seen: Signature | None = None


class SecretFiles:
    """Watches the file of every secret that the configuration refers to by `path_config_source`."""

    def __init__(self, configuration: Configuration, stats: Stats) -> None:
        self._configuration = configuration
        self._stats = stats
        self._files: dict[str, _File] = {}
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        configuration.watch(self._changed.set)

    async def run(self) -> None:
        """Poll until cancelled; at once when the configuration refers to new files."""
        while True:
            await self.refresh()
            self._changed.clear()
            if self._unread():
                continue
            try:
                await asyncio.wait_for(self._changed.wait(), _POLL_S)
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Read what is new or has been replaced since it was read last."""
        async with self._turn:
            await self._refresh()

    async def _refresh(self) -> None:
        self._files = {
            reference.name: self._files.get(reference.name) or _File(Path(path), reference)
            for reference in self._configuration.wanted.values()
            if reference.kind == SECRET and (path := path_of(reference.source))
        }
        loaded: dict[str, tuple[Secret, str]] = {}
        for name, file in self._files.items():
            now = signature(file.path)
            if now != file.seen:
                file.seen = now
                if (secret := self._load(file)) is not None:
                    loaded[name] = secret
        await self._apply(loaded)

    def _unread(self) -> bool:
        wanted = self._configuration.wanted.values()
        return any(
            reference.kind == SECRET and path_of(reference.source) and reference.name not in self._files
            for reference in wanted
        )

    def _load(self, file: _File) -> tuple[Secret, str] | None:
        stats = operation_stats.of_reference(self._stats, file.reference)
        stats.update_attempt += 1
        try:
            return secrets.read(file.path, file.reference.name)
        except SecretError as error:
            stats.update_failure += 1
            _LOG.warning("secret %s: %s; what was loaded before stays", file.reference.name, error)
            return None

    async def _apply(self, loaded: dict[str, tuple[Secret, str]]) -> None:
        for name, (secret, version) in loaded.items():
            stats = operation_stats.of_reference(self._stats, self._files[name].reference)
            try:
                await self._configuration.merge(SECRET, {name: secret}, version)
            except Refused as error:
                stats.update_rejected += 1
                _LOG.warning("secret %s is refused, what was loaded before stays: %s", name, error)
            else:
                stats.succeeded(version)
                _LOG.info("secret %s loaded from %s", name, self._files[name].path)


def path_of(source: ConfigSource) -> str:
    """The file that a ConfigSource names, empty if it names none."""
    return str(source.path_config_source.path or source.path)


def signature(path: Path) -> Signature:
    """What a rename or a write changes about a file; a missing file is (0, 0, 0)."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
