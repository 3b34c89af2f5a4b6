"""What is wrong with a file or an object: one `Problem` each, with file, line and path, and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Path = tuple[str | int, ...]
"""Keys and list indices from an object's root, in YAML's own spelling."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def format_path(path: Path) -> str:
    """`('spec', 'http', 0, 'route')` -> `spec.http[0].route`; keys that hold dots are quoted: `labels["a.b/c"]`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _PLAIN_KEY.fullmatch(step):
            parts.append(f".{step}" if parts else step)
        else:
            parts.append(f'["{step}"]')
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an object was read.

    `lines` maps paths from the document's root to 1-based lines; `root` is the object's place in the document.
    """

    file: str = ""
    lines: Mapping[Path, int] = field(default_factory=dict, repr=False, compare=False)
    root: Path = ()

    def line(self, path: Path = ()) -> int | None:
        """The line of a field, or of the nearest thing around it; None where the object came from no text."""
        absolute = self.root + path
        for length in range(len(absolute), -1, -1):
            if (line := self.lines.get(absolute[:length])) is not None:
                return line
        return None

    def location(self, path: Path = ()) -> str:
        """`file.yaml:12`, `file.yaml`, `line 12` or nothing, as far as known."""
        line = self.line(path)
        if line is None:
            return self.file
        return f"{self.file}:{line}" if self.file else f"line {line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason to refuse. `resource` is `Kind namespace/name` as far as it could be read."""

    message: str
    path: str = ""
    file: str = ""
    line: int | None = None
    resource: str = ""

    def __str__(self) -> str:
        where = (
            f"{self.file}:{self.line}"
            if self.file and self.line
            else self.file or (f"line {self.line}" if self.line else "")
        )
        return ": ".join(part for part in (where, self.resource, self.path, self.message) if part)


class ConfigError(Exception):
    """Base of all errors of this package."""


class InvalidError(ConfigError):
    """Input was refused; `problems` holds every reason, in the order of the input."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ProblemList:
    """Collects the problems of one object while it is decoded or validated.

    `around` holds the field names of the maps being decoded, the innermost last: a field that stands one level too deep
    is told from one that does not exist.
    """

    def __init__(self, source: Source, resource: str = "") -> None:
        self.source = source
        self.resource = resource
        self.around: list[Collection[str]] = []
        self._found: list[Problem] = []

    def add(self, path: Path, message: str) -> None:
        self._found.append(Problem(message, format_path(path), self.source.file, self.source.line(path), self.resource))

    def extend(self, problems: Iterable[Problem]) -> None:
        self._found.extend(problems)

    def __len__(self) -> int:
        return len(self._found)

    def all(self) -> tuple[Problem, ...]:
        return tuple(self._found)
