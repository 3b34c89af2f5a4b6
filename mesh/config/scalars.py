"""Decoders of single values, and how errors name what they found.

A decoder takes (value, path, problems) and returns the typed value, or INVALID after adding a problem.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from mesh.config.durations import parse_duration
from mesh.config.problems import Path, ProblemList


class _Invalid:
    """The type of INVALID."""


INVALID = _Invalid()

Decoder = Callable[[Any, Path, ProblemList], Any]

MAX_INT = 2**32 - 1
MIN_INT = -(2**31)


def refuse(value: Any, wanted: str, path: Path, problems: ProblemList) -> _Invalid:
    problems.add(path, f"must be {wanted}, not {describe(value)}")
    return INVALID


def describe(value: Any) -> str:
    """A value as an error message names it."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
        case list():
            return "a list"
    return "a map"


def string(value: Any, path: Path, problems: ProblemList) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        problems.add(path, f"must be a string, not {describe(value)}; put it in quotes")
        return INVALID
    return refuse(value, "a string", path, problems)


def boolean(value: Any, path: Path, problems: ProblemList) -> Any:
    return value if isinstance(value, bool) else refuse(value, "true or false", path, problems)


def integer(value: Any, path: Path, problems: ProblemList) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return refuse(value, "a whole number", path, problems)
    if not MIN_INT <= value <= MAX_INT:
        return refuse(value, f"between {MIN_INT} and {MAX_INT}", path, problems)
    return value


def wide_integer(value: Any, path: Path, problems: ProblemList) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole else refuse(value, "a whole number", path, problems)


def number(value: Any, path: Path, problems: ProblemList) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return refuse(value, "a number", path, problems)
    return float(value)


def duration(value: Any, path: Path, problems: ProblemList) -> Any:
    if not isinstance(value, str):
        return refuse(value, "a duration such as 10s or 1h2m3s4ms", path, problems)
    try:
        return parse_duration(value)
    except ValueError as error:
        problems.add(path, str(error))
        return INVALID


def timestamp(value: Any, path: Path, problems: ProblemList) -> Any:
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            parsed = None
        if parsed is not None and parsed.tzinfo is not None:
            return parsed
    return refuse(value, "an RFC 3339 time such as 2026-01-31T12:00:00Z", path, problems)


def anything(value: Any, path: Path, problems: ProblemList) -> Any:
    return value


def int_or_string(value: Any, path: Path, problems: ProblemList) -> Any:
    return value if isinstance(value, str) else integer(value, path, problems)


def quantity(value: Any, path: Path, problems: ProblemList) -> Any:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return value
    return refuse(value, "a quantity such as 500m or 64Mi", path, problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "route"?`, or nothing when no known word is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f'; did you mean "{by_lower[near[0]]}"?' if near else ""


SCALARS: dict[Any, Decoder] = {
    str: string,
    bool: boolean,
    int: integer,
    float: number,
    timedelta: duration,
    datetime: timestamp,
    Any: anything,
}


KNOWN_SCALARS: dict[str, Decoder] = {
    "str": string,
    "bool": boolean,
    "int": wide_integer,
    "time": timestamp,
    "quantity": quantity,
    "int-or-string": int_or_string,
    "any": anything,
}
