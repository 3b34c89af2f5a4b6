"""What is known of a connection before its protocol starts (Envoy's ConnectionInfoProvider)."""

from __future__ import annotations

import asyncio
from typing import Any

Address = tuple[str, int]  # ip, port


class ConnectionInfo:
    """Addresses and what listener filters found out.

    `direct_remote` is the other end of the socket; `remote` differs from it where a PROXY header told another. `local`
    is where the client wanted to go: `is_local_restored` if a listener filter told so and not the socket.
    `cluster_name` stands over what a tcp_proxy is configured with. `metadata` is what network filters say of it.
    """

    __slots__ = (
        "__weakref__", "application_protocols", "cluster_name", "direct_remote", "is_local_restored", "local",
        "metadata", "remote", "server_name", "transport_protocol",
    )  # fmt: skip

    def __init__(self, remote: Address, local: Address) -> None:
        self.remote = self.direct_remote = remote
        self.local = local
        self.is_local_restored = False
        self.server_name = ""
        self.transport_protocol = ""
        self.cluster_name = ""
        self.metadata: dict[str, dict[str, Any]] = {}
        self.application_protocols: tuple[str, ...] = ()

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> ConnectionInfo:
        """By the socket alone. A socket that is disconnected already has no addresses."""
        remote = transport.get_extra_info("peername") or ("", 0)
        local = transport.get_extra_info("sockname") or ("", 0)
        return cls((remote[0], remote[1]), (local[0], local[1]))

    def restore_local(self, address: Address) -> None:
        """A listener filter knows where the client wanted to go."""
        self.local = address
        self.is_local_restored = True

    @property
    def direct_address(self) -> str:
        """`ip:port` of the other end of the socket."""
        return text_of(self.direct_remote)

    @property
    def original_destination(self) -> Address | None:
        """Where the client wanted to go, if a listener filter found it out."""
        return self.local if self.is_local_restored else None


def text_of(address: Address) -> str:
    """`ip:port`, as Envoy writes addresses: with brackets around IPv6."""
    ip, port = address
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
