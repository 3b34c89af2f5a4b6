"""Tables for the terminal. Pure."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_STEPS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns padded to their widest cell, three spaces apart, nothing after the last one."""
    cells = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "\n".join(lines)


def age(since: str | None, now: datetime) -> str:
    """Kubernetes' short form of the time since an RFC 3339 timestamp: `42s`, `5m`, `3h`, `2d`."""
    if not since:
        return "<unknown>"
    seconds = max(0, int((now - datetime.fromisoformat(since.replace("Z", "+00:00"))).total_seconds()))
    size, letter = next((step for step in _STEPS if seconds >= step[0]), _STEPS[-1])
    return f"{seconds // size}{letter}"


def dumped(value: Any, output: str) -> str:
    """The value as JSON or YAML."""
    if output == "json":
        return json.dumps(value, indent=2)
    import yaml  # noqa: PLC0415 - only for those who ask for it

    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    assert isinstance(text, str)
    return text.rstrip()
