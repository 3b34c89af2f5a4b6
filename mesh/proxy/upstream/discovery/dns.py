"""STRICT_DNS and LOGICAL_DNS: names looked up again and again, by the system's resolver."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from mesh.proxy.observe.upstream_counters import ClusterStats
from mesh.proxy.upstream.endpoint import Assignment, Endpoint


class Family(IntEnum):
    """`Cluster.DnsLookupFamily`: which addresses of a name are wanted."""

    AUTO = 0  # IPv6, or IPv4 where there is none
    V4_ONLY = 1
    V6_ONLY = 2
    V4_PREFERRED = 3
    ALL = 4

    def choose(self, addresses: list[str]) -> list[str]:
        """The wanted ones, in their order and without repetition."""
        four = [each for each in dict.fromkeys(addresses) if ":" not in each]
        six = [each for each in dict.fromkeys(addresses) if ":" in each]
        if self is Family.ALL:
            return list(dict.fromkeys(addresses))
        if self in (Family.V4_ONLY, Family.V6_ONLY):
            return four if self is Family.V4_ONLY else six
        return (six or four) if self is Family.AUTO else (four or six)


def is_address(text: str) -> bool:
    """Whether there is nothing to look up."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """Times in seconds. `is_logical`: one host, whose address is whatever its name now has."""

    is_logical: bool = False
    family: Family = Family.AUTO
    refresh: float = 5.0
    jitter: float = 0.0
    failure_base: float = 5.0
    failure_longest: float = 5.0


@dataclass(slots=True)
class _Name:
    """One endpoint with a name, and what was found for it."""

    endpoint: Endpoint
    found: tuple[Endpoint, ...] = ()
    task: asyncio.Task[None] | None = None
    failures: int = 0
    resolved: asyncio.Event = field(default_factory=asyncio.Event)


class Resolver:
    """Looks up every endpoint of `assignment` on its own; `found` gets all endpoints whenever some changed."""

    __slots__ = ("_assignment", "_config", "_found", "_loop", "_names", "_stats")

    def __init__(
        self,
        config: DnsConfig,
        assignment: Assignment,
        stats: ClusterStats,
        loop: asyncio.AbstractEventLoop,
        found: Callable[[Assignment], None],
    ) -> None:
        self._config = config
        self._assignment = assignment
        self._stats = stats
        self._loop = loop
        self._found = found
        self._names = [_Name(endpoint) for endpoint in assignment.endpoints]

    def start(self, spawn: Callable[..., asyncio.Task[None]]) -> None:
        """Look everything up now, and again when its time has come."""
        for name in self._names:
            name.task = spawn(self._resolve_for_ever(name))

    @property
    def is_resolved(self) -> bool:
        """Whether every name has been looked up once."""
        return all(name.resolved.is_set() for name in self._names)

    async def wait_resolved(self) -> None:
        """Until every name has been looked up once, with whatever outcome."""
        for name in self._names:
            await name.resolved.wait()

    def close(self) -> None:
        for name in self._names:
            name.resolved.set()
            if name.task is not None:
                name.task.cancel()

    async def _resolve_for_ever(self, name: _Name) -> None:
        config = self._config
        while True:
            self._stats.update_attempt += 1
            try:
                self._take(name, await self._look_up(name.endpoint))
            except OSError:
                # What is known stays: a resolver that is down must not empty the cluster.
                self._stats.update_failure += 1
                pause = random.random() * min(config.failure_base * 2**name.failures, config.failure_longest)
                name.failures = min(name.failures + 1, 30)
                pause = max(pause, 0.001)
            else:
                pause = config.refresh + random.random() * config.jitter
            name.resolved.set()
            await asyncio.sleep(pause)

    async def _look_up(self, named: Endpoint) -> list[str]:
        if is_address(named.ip):
            return [named.ip]
        found = await self._loop.getaddrinfo(named.ip, named.port, type=socket.SOCK_STREAM)
        return self._config.family.choose([str(address[4][0]) for address in found])

    def _take(self, name: _Name, addresses: list[str]) -> None:
        self._stats.update_success += 1
        name.failures = 0
        if not addresses:
            self._stats.update_empty += 1
        named = name.endpoint
        # Envoy shows the name as the host's, unless the configuration names it.
        whole = replace(named, hostname=named.hostname or named.ip)
        if self._config.is_logical and addresses:
            found: tuple[Endpoint, ...] = (replace(whole, ip=addresses[0], other_ips=tuple(addresses[1:])),)
        else:
            found = tuple(replace(whole, ip=address) for address in addresses)
        if found == name.found and name.resolved.is_set():
            self._stats.update_no_rebuild += 1
            return
        name.found = found
        everything = tuple(endpoint for each in self._names for endpoint in each.found)
        self._found(Assignment(everything, self._assignment.rules))
