"""What can go wrong around a drill, as opposed to an assertion that does not hold (that is a verdict)."""

from __future__ import annotations


class ChaosError(Exception):
    """Base of this package's errors; its text is fit to show to a user."""


class BadDrill(ChaosError):
    """A drill file that cannot be run: every problem with file, line and path, one a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CannotMeasure(ChaosError):
    """The mesh did not reach the state that a check needs in order to measure anything."""
