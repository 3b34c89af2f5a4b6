"""What a check returns: an outcome with its evidence, and pictures that show it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Outcome(enum.Enum):
    """How an assertion ended. Only HELD and SKIPPED leave the exit code at zero."""

    HELD = "held"
    VIOLATED = "violated"
    TOO_FEW = "too few requests to tell"
    NOT_MEASURED = "not measured"
    SKIPPED = "skipped"

    @property
    def passes(self) -> bool:
        """Whether a run with this outcome may still end well."""
        return self in (Outcome.HELD, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Shares:
    """Picture: the configured share of each version, the observed one, and its interval (0 to 1)."""

    title: str
    rows: Sequence[tuple[str, float, float, tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Scatter:
    """Picture: one dot a request. Points are (seconds since the epoch, milliseconds, series); bands are shaded spans
    (from, to, label)."""

    title: str
    points: Sequence[tuple[float, float, str]]
    bands: Sequence[tuple[float, float, str]] = ()


Picture = Shares | Scatter


@dataclass(frozen=True, slots=True)
class Verdict:
    """One assertion's end. `evidence` are figures fit for a journal: counts, p-values, statuses.

    `seconds` is how long it took to measure.
    """

    check: str
    outcome: Outcome
    detail: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    seconds: float = 0.0


def judge(
    check: str, problems: Sequence[str], held: str, evidence: Mapping[str, object], *pictures: Picture
) -> Verdict:
    """HELD with the text `held` where there are no problems, else VIOLATED with all of them."""
    if problems:
        return Verdict(check, Outcome.VIOLATED, "; ".join(problems), evidence, pictures)
    return Verdict(check, Outcome.HELD, held, evidence, pictures)
