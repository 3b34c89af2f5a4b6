"""Durations as Istio writes them: Go's form, `1h2m3s4ms`, in whole milliseconds."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAX_NANOSECONDS = 2**63 - 1
"""Of Go's time.Duration, about 292 years."""


def parse_duration(text: str) -> timedelta:
    """`1h2m3s4ms`, `1.5s`, `0`. Raises ValueError, saying why, for anything else and for parts of a millisecond."""
    if text == "0":
        return timedelta()
    if text.startswith("-"):
        raise ValueError(f'the duration "{text}" must not be negative')
    parts = list(_PART.finditer(text))
    if not parts or "".join(part.group() for part in parts) != text:
        raise ValueError(f'"{text}" is not a duration; write it like 1h2m3s4ms')
    total = sum((Decimal(part[1]) * _NANOSECONDS[part[2]] for part in parts), Decimal())
    if total > _MAX_NANOSECONDS:
        raise ValueError(f'the duration "{text}" is too long')
    if total % 1_000_000:
        raise ValueError(f'the duration "{text}" is finer than a millisecond')
    return timedelta(milliseconds=int(total // 1_000_000))


def format_duration(duration: timedelta) -> str:
    """The shortest form that `parse_duration` reads back: `1h30m`, `2s`, `250ms`, `0s`."""
    milliseconds = duration // timedelta(milliseconds=1)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
