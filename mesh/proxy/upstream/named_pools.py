"""The connections of a host whose TLS names the host that a request is for (`auto_sni`, `auto_san_validation`).

Requests for different names must not share a connection, so each name has a pool. Clients choose the names: pools that
have nothing left are forgotten when there are many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from mesh.proxy.http.rescue import Overflow
from mesh.proxy.http.route import without_port
from mesh.proxy.tls.transport_socket import ServerName
from mesh.proxy.upstream.discovery.dns import is_address

if TYPE_CHECKING:
    from mesh.proxy.http.codec import Requester
    from mesh.proxy.upstream.http_options import AutoName

MANY = 1024


class HostPool(Protocol):
    """A pool of any protocol."""

    def request(self, caller: Requester) -> None: ...

    def cancel(self, caller: Requester) -> None: ...

    def close(self) -> None: ...

    @property
    def pending(self) -> int: ...

    @property
    def connections(self) -> int: ...


class NamedPools:
    """All pools of one host and priority. `make` makes one for a server name."""

    __slots__ = ("_auto", "_make", "_pools")

    def __init__(self, auto: AutoName, make: Callable[[ServerName], HostPool]) -> None:
        self._auto = auto
        self._make = make
        self._pools: dict[ServerName, HostPool] = {}

    def request(self, caller: Requester) -> None:
        """Give the caller a stream, now or later (`upstream_ready`). Raises Overflow."""
        name = self._name(caller)
        pool = self._pools.get(name)
        if pool is None:
            self._forget_empty()
            pool = self._pools[name] = self._make(name)
        pool.request(caller)

    def cancel(self, caller: Requester) -> None:
        for pool in self._pools.values():
            pool.cancel(caller)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    @property
    def pending(self) -> int:
        return sum(pool.pending for pool in self._pools.values())

    @property
    def connections(self) -> int:
        return sum(pool.connections for pool in self._pools.values())

    def _name(self, caller: Requester) -> ServerName:
        auto, head = self._auto, caller.head
        value = head.get(auto.header) if auto.header is not None else None
        host = without_port(value or head.authority).decode("latin-1").removeprefix("[").removesuffix("]")
        sni = host if auto.sets_sni and not is_address(host) else ""
        return ServerName(sni, host if auto.checks_san else "")

    def _forget_empty(self) -> None:
        if len(self._pools) < MANY:
            return
        self._pools = {name: pool for name, pool in self._pools.items() if pool.connections or pool.pending}
        if len(self._pools) >= MANY:
            raise Overflow
