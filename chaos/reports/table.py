"""The verdicts as a table on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from chaos.journal import DrillRecord, summary
from chaos.verdict import Outcome, Verdict

MARKS = {
    Outcome.HELD: ("✔", "32"),
    Outcome.VIOLATED: ("✘", "31"),
    Outcome.TOO_FEW: ("?", "33"),
    Outcome.NOT_MEASURED: ("?", "33"),
    Outcome.SKIPPED: ("-", "90"),
}
RESULTS = {"passed": "32", "failed": "31", "skipped": "33"}
INDENT = " " * 6


def render(record: DrillRecord, *, width: int, colour: bool) -> str:
    """One drill's verdicts, phase by phase; `width` in columns, colours by ANSI sequences."""
    result = _paint(record.result.upper(), RESULTS[record.result], colour)
    lines = [f"{result}  {record.drill.spec.title}  ({record.duration:.1f} s)"]
    for phase in record.phases:
        lines.append(f"  {_plain(phase.name)}")
        lines += [f"    under {_plain(fault)}" for fault in phase.faults]
        for verdict in phase.verdicts:
            lines += _row(verdict, width, colour)
    return "\n".join(lines)


def _row(verdict: Verdict, width: int, colour: bool) -> list[str]:
    mark, shade = MARKS[verdict.outcome]
    detail = verdict.detail if verdict.outcome.passes else f"{verdict.outcome.value}: {verdict.detail}"
    return [
        f"    {_paint(mark, shade, colour)} {_plain(verdict.check)}",
        *textwrap.wrap(_plain(detail), max(40, width), initial_indent=INDENT, subsequent_indent=INDENT, max_lines=6),
    ]


def closing(records: Sequence[DrillRecord]) -> str:
    """One line that sums up a run."""
    parts = [f"{count} {outcome.value}" for outcome, count in summary(records).items() if count]
    results = {result: [record.drill.name for record in records if record.result == result] for result in RESULTS}
    told = [f"{result}: {', '.join(names)}" for result, names in results.items() if names and result != "passed"]
    verdict = "; ".join(told) or "all drills passed"
    drills = "1 drill" if len(records) == 1 else f"{len(records)} drills"
    return f"{drills}, {', '.join(parts) or 'nothing judged'}: {verdict}"


def _plain(text: str) -> str:
    """Response bodies and logs may hold what a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def _paint(text: str, shade: str, colour: bool) -> str:
    return f"\x1b[{shade}m{text}\x1b[0m" if colour else text
