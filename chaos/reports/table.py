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
INDENT = " " * 6


def render(record: DrillRecord, *, width: int, colour: bool) -> str:
    """One drill's verdicts, phase by phase; `width` in columns, colours by ANSI sequences."""
    word, shade = ("PASSED", "32") if record.passed else ("FAILED", "31")
    lines = [f"{_paint(word, shade, colour)}  {record.drill.spec.title}  ({record.duration:.1f} s)"]
    for phase in record.phases:
        lines.append(f"  {phase.name}")
        for verdict in phase.verdicts:
            lines += _row(verdict, width, colour)
    return "\n".join(lines)


def _row(verdict: Verdict, width: int, colour: bool) -> list[str]:
    mark, shade = MARKS[verdict.outcome]
    detail = verdict.detail if verdict.outcome.passes else f"{verdict.outcome.value}: {verdict.detail}"
    return [
        f"    {_paint(mark, shade, colour)} {verdict.check}",
        *textwrap.wrap(detail, max(40, width), initial_indent=INDENT, subsequent_indent=INDENT, max_lines=6),
    ]


def closing(records: Sequence[DrillRecord]) -> str:
    """One line that sums up a run."""
    counts = summary(list(records))
    failed = [record.drill.name for record in records if not record.passed]
    parts = [f"{count} {outcome.value}" for outcome, count in counts.items() if count]
    verdict = "all drills passed" if not failed else f"failed: {', '.join(failed)}"
    return f"{len(records)} drills, {', '.join(parts) or 'nothing judged'}: {verdict}"


def _paint(text: str, shade: str, colour: bool) -> str:
    return f"\x1b[{shade}m{text}\x1b[0m" if colour else text
