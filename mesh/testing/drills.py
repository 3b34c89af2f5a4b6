"""What a run of drills found."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Checked:
    """The end of one assertion. `evidence` are its figures."""

    drill: str
    phase: str
    check: str
    outcome: Outcome
    detail: str
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DrillRun:
    """`output` is what the command showed, as text. `folder` has `report.html`, `junit.xml` and `journal.json`."""

    exit_code: int
    output: str
    folder: Path

    @property
    def passed(self) -> bool:
        """Whether every assertion held, and every fault is undone. A run of nothing but skipped drills is none."""
        return self.exit_code == 0

    @property
    def checks(self) -> tuple[Checked, ...]:
        """In the order in which they were judged."""
        journal = json.loads((self.folder / "journal.json").read_text())
        return tuple(
            Checked(
                drill["experiment"]["name"],
                phase["name"],
                each["name"],
                Outcome(each["outcome"]),
                each["detail"],
                each["evidence"],
            )
            for drill in journal
            for phase in drill["run"]
            for each in phase["checks"]
        )

    def __str__(self) -> str:
        return self.output
