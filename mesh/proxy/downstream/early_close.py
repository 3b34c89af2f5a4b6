"""Clients that go while nobody reads from them (Envoy's detection of an early close while reading is disabled).

A paused transport hears neither end nor reset. So while a connection is blocked, the sweep asks the kernel once a
second what has become of it; without that a request could hold its upstream until its idle timeout.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_EVERY_S = 1.0
_TCP_INFO = getattr(socket, "TCP_INFO", None)  # Linux; elsewhere idle timeouts have to do
_GONE = frozenset((7, 8))  # TCP_CLOSE after a reset, TCP_CLOSE_WAIT after the client's end: the first byte of tcp_info


class EarlyClose:
    """Joins the sweep of idle connections while reading is paused, and calls `gone` once."""

    __slots__ = ("_gone", "_transport", "deadline")

    def __init__(self, transport: asyncio.Transport, now: float, gone: Callable[[], None]) -> None:
        self._transport = transport
        self._gone = gone
        self.deadline = now + _EVERY_S

    def deadline_passed(self, now: float) -> None:
        self.deadline = now + _EVERY_S
        if has_ended(self._transport):
            self._gone()


def has_ended(transport: asyncio.Transport) -> bool:
    """Whether the other side has ended or reset the connection."""
    connection = transport.get_extra_info("socket")
    if _TCP_INFO is None or connection is None or transport.is_closing():
        return False
    return connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] in _GONE
