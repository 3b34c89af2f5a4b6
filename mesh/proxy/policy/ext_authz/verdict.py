"""What an authorization service answers, over whichever protocol it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from mesh.proxy.http.request_head import put_host
from mesh.proxy.http1.head import Head, RequestHead
from mesh.proxy.http1.names import HOP

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream

OK, DENIED, ERROR = "ok", "denied", "error"
SET, APPEND, JOIN, ADD_IF_ABSENT, OVERWRITE_IF_PRESENT = range(5)

Edit = tuple[bytes, bytes, int]
_NOT_SET = HOP | {b"host", b"content-length"}


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


def edit_request(head: RequestHead, edits: tuple[Edit, ...]) -> None:
    """As `edit`, where the path, the method and the host may be changed too. How the body is framed is not for the
    service to say, and no other pseudo header is anything to us.
    """
    edit(head, tuple(each for each in edits if each[0][:1] != b":" and each[0] not in _NOT_SET))
    for name, value, _ in edits:
        if name == b":path":
            head.target = value
        elif name == b":method":
            head.method = value
        elif name in (b":authority", b"host"):
            put_host(head, value)


@dataclass(frozen=True, slots=True)
class QueryEdit:
    """Query parameters to set, each in the place of all of its name, and names to remove after that."""

    sets: tuple[tuple[bytes, bytes], ...]
    removals: frozenset[bytes]

    def apply(self, target: bytes) -> bytes:
        """The target with its parameters in the order of their names, as Envoy keeps them."""
        path, _, query = target.partition(b"?")
        pairs = [pair.partition(b"=")[::2] for pair in query.split(b"&")] if query else []
        for name, value in self.sets:
            pairs = [*(pair for pair in pairs if pair[0] != name), (name, value)]
        kept = sorted((pair for pair in pairs if pair[0] not in self.removals), key=itemgetter(0))
        return b"%b?%b" % (path, b"&".join(b"%b=%b" % pair for pair in kept)) if kept else path


@dataclass(frozen=True, slots=True)
class Verdict:
    """`upstream`, `removed` and `query` change the request that goes on, `client` the response; `status` and `body`
    answer one that does not. `unsound` says what the request cannot be given, and so why it cannot go on.
    """

    kind: str
    upstream: tuple[Edit, ...] = ()
    removed: frozenset[bytes] = frozenset()
    client: tuple[Edit, ...] = ()
    status: int = 0
    body: bytes = b""
    metadata: dict[str, Any] = field(default_factory=dict)
    query: QueryEdit | None = None
    unsound: str = ""


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
