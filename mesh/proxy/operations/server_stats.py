"""The `server.*` gauges, and what this process uses of memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from mesh.proxy.observe.stats import Sample
from mesh.proxy.operations.status import ServerState, Status
from mesh.proxy.tls.x509 import certificates

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: `resident` in physical memory, `data` allocated (heap and stack)."""

    resident: int
    data: int


def memory() -> Memory:
    """Of this process; zeros where the system does not say (proc(5), statm)."""
    try:
        numbers = [int(word) * _PAGE for word in Path("/proc/self/statm").read_text(encoding="ascii").split()]
    except OSError:
        return Memory(0, 0)
    return Memory(numbers[1], numbers[5])


def of(status: Status, concurrency: int, secrets: Iterable[Secret]) -> list[Sample]:
    """Envoy's `server.*` gauges at this moment."""
    used = memory()
    gauges = {
        "live": int(status.shown is ServerState.LIVE),
        "state": status.shown.value,
        "uptime": status.uptime_s,
        "concurrency": concurrency,
        "days_until_first_cert_expiring": _days_left(secrets),
        "memory_allocated": used.data,
        "memory_heap_size": used.data,
        "memory_physical_size": used.resident,
        "hot_restart_epoch": 0,  # there is no hot restart, so no parent either
        "parent_connections": 0,
    }
    # A field that is not known is refused, never counted.
    counters = {"static_unknown_fields": 0, "dynamic_unknown_fields": 0}
    return [
        Sample(f"server.{name}", f"server.{name}", (), kind, value)
        for kind, values in (("gauge", gauges), ("counter", counters))
        for name, value in values.items()
    ]


def _days_left(secrets: Iterable[Secret]) -> int:
    """Whole days until the first certificate of `secrets` expires; Envoy's largest number if there is none."""
    ends = [
        each.not_after
        for secret in secrets
        for each in certificates(secret.tls_certificate.certificate_chain.inline_bytes)
    ]
    return max(0, (min(ends) - datetime.now(UTC)).days) if ends else 2**32 - 1
