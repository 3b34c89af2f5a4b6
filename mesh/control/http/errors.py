"""One table from what the other rooms raise to what the API answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mesh.api.kinds import UnknownKindError
from mesh.config.keys import AlreadyExistsError, ConflictError, GoneError, NotFoundError
from mesh.config.problems import InvalidError, Problem
from mesh.control.http.status import Cause, RequestError, invalid


def refused_manifests(problems: Sequence[Problem], prefix: str = "") -> list[Cause]:
    """`problems` as causes; `prefix` says which of several objects they are about."""
    return [Cause(_with_resource(problem), _field(prefix, problem.path)) for problem in problems]


def invalid_manifests(causes: Sequence[Cause]) -> RequestError:
    """The refusal of a body for every one of `causes`."""
    count = "a problem" if len(causes) == 1 else f"{len(causes)} problems"
    return invalid(f"the configuration has {count}", causes)


RESCUE: dict[type[Exception], Callable[[Any], RequestError]] = {
    UnknownKindError: lambda error: RequestError(404, "NotFound", str(error)),
    NotFoundError: lambda error: RequestError(404, "NotFound", str(error)),
    AlreadyExistsError: lambda error: RequestError(409, "AlreadyExists", str(error)),
    ConflictError: lambda error: RequestError(409, "Conflict", str(error)),
    GoneError: lambda error: RequestError(410, "Expired", str(error)),
    InvalidError: lambda error: invalid_manifests(refused_manifests(error.problems)),
}


def translate(error: Exception) -> RequestError | None:
    """`error` as a refusal; None when it is not the requester's doing."""
    for kind in type(error).__mro__:
        if kind in RESCUE:
            return RESCUE[kind](error)
    return None


def _with_resource(problem: Problem) -> str:
    return f"{problem.resource}: {problem.message}" if problem.resource else problem.message


def _field(prefix: str, path: str) -> str:
    return f"{prefix}.{path}" if prefix and path and not path.startswith("[") else prefix + path
