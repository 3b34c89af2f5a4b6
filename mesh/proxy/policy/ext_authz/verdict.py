"""What an authorization service answers, over whichever protocol it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mesh.proxy.http1.head import Head

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

OK, DENIED, ERROR = "ok", "denied", "error"
SET, APPEND, JOIN, ADD_IF_ABSENT, OVERWRITE_IF_PRESENT = range(5)

Edit = tuple[bytes, bytes, int]


def edit(head: Head, edits: tuple[Edit, ...]) -> None:
    """Change headers; names are in lower case."""
    for name, value, action in edits:
        before = head.get(name)
        if action == APPEND and before is not None:
            head.add(name, value)
        elif action == JOIN and before is not None:
            head.set(name, b"%b,%b" % (before, value))
        elif (action == ADD_IF_ABSENT and before is not None) or (action == OVERWRITE_IF_PRESENT and before is None):
            continue
        else:
            head.set(name, value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`upstream` and `removed` change the request that goes on, `client` the response; `status` and `body` answer one
    that does not.
    """

    kind: str
    upstream: tuple[Edit, ...] = ()
    removed: frozenset[bytes] = frozenset()
    client: tuple[Edit, ...] = ()
    status: int = 0
    body: bytes = b""
    metadata: dict[str, Any] = field(default_factory=dict)
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about: the request and what of its body goes along. `is_partial` is None if bodies do not."""

    stream: Stream
    body: bytes = b""
    is_partial: bool | None = None
    extensions: tuple[tuple[str, str], ...] = ()


class Service(Protocol):
    """An authorization service. `ask` starts a check and answers how to give it up; `done` is told at most once."""

    def ask(self, question: Question, done: Callable[[Verdict], None]) -> Callable[[], None]: ...
