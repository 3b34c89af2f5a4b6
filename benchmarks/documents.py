"""The part of a document that a benchmark writes: what stands between its two markers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path


def write_between(document: Path, name: str, table: str, note: str) -> None:
    """The table, and the note with today's date, between `<!-- benchmark:NAME -->` and its end. Raises ValueError."""
    begin, end = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
    head, _, rest = document.read_text().partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise ValueError(f"{document} has no {begin} ... {end} to write between")
    document.write_text(f"{head}{begin}\n\n{table}\n\n{datetime.now(UTC):%Y-%m-%d}. {note}\n\n{end}{tail}")


def markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
