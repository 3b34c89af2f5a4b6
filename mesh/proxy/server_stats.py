"""The `server.*` gauges, and what this process uses of memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mesh.proxy.stats import Sample
from mesh.proxy.status import ServerState, Status

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


def version() -> str:
    """`meshdrill/<version>`."""
    # Imported here: it costs 2 MiB, and only one page shows the version.
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as installed  # noqa: PLC0415

    try:
        return f"meshdrill/{installed('meshdrill')}"
    except PackageNotFoundError:  # run from a source tree
        return "meshdrill/unknown"


def of(status: Status, concurrency: int) -> list[Sample]:
    """Envoy's `server.*` gauges at this moment."""
    used = memory()
    gauges = {
        "live": int(status.shown is ServerState.LIVE),
        "state": status.shown.value,
        "uptime": status.uptime_s,
        "concurrency": concurrency,
        "memory_allocated": used.data,
        "memory_heap_size": used.data,
        "memory_physical_size": used.resident,
    }
    return [Sample(f"server.{name}", f"server.{name}", (), "gauge", value) for name, value in gauges.items()]
