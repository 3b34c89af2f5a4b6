"""Which requests are traced: sampling by the request id, and what the id says of decisions made before us.

As Envoy's `uuid` extension has it: the id's first digits place a request in a sample, so that every sidecar on the way
draws alike, and its 15th letter keeps the decision.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.http.stream import Stream
    from mesh.proxy.http1.head import RequestHead

PARTS = 10_000
_LENGTH = 36
_LETTER = 14


class Reason(Enum):
    """Why a request is traced; the value is its letter in the request id."""

    NOT_TRACEABLE = b"4"
    SAMPLING = b"9"
    SERVICE_FORCED = b"a"
    CLIENT_FORCED = b"b"


_BY_LETTER = {reason.value[0]: reason for reason in Reason}
_NOT_TRACEABLE = Reason.NOT_TRACEABLE  # an enumeration's members are slower to get at


@dataclass(frozen=True, slots=True)
class Sampling:
    """Of 10,000 requests so many: of those with `x-client-trace-id`, of all, and of what these two chose."""

    client: int = PARTS
    random: int = PARTS
    overall: int = PARTS


@dataclass(frozen=True, slots=True)
class RequestIds:
    """`UuidRequestIdConfig`."""

    packs_reason: bool = True
    decides_sampling: bool = True

    def decide(self, stream: Stream, sampling: Sampling) -> Reason:
        """Whether to trace the request, written into its id too."""
        if not self.decides_sampling:
            return Reason.SAMPLING
        head = stream.head
        request_id = head.marked.get(b"x-request-id", b"")
        try:
            place = int(request_id[:8], 16) % PARTS
        except ValueError:
            return _NOT_TRACEABLE
        is_uuid = len(request_id) == _LENGTH
        before = _BY_LETTER.get(request_id[_LETTER], _NOT_TRACEABLE) if is_uuid else _NOT_TRACEABLE
        reason = _drawn(head, sampling, place) if before is _NOT_TRACEABLE else before
        if reason is not _NOT_TRACEABLE and place >= sampling.overall:
            reason = _NOT_TRACEABLE
        if reason is not before and is_uuid and self.packs_reason:
            _rewrite(head, request_id, request_id[:_LETTER] + reason.value + request_id[_LETTER + 1 :])
        return reason


def _drawn(head: RequestHead, sampling: Sampling, place: int) -> Reason:
    marked = head.marked
    if b"x-client-trace-id" in marked and _chance(sampling.client):
        return Reason.CLIENT_FORCED
    if b"x-envoy-force-trace" in marked:
        return Reason.SERVICE_FORCED
    return Reason.SAMPLING if place < sampling.random else _NOT_TRACEABLE


def _chance(share: int) -> bool:
    return share >= PARTS or random.random() * PARTS < share


def _rewrite(head: RequestHead, before: bytes, after: bytes) -> None:
    line = b"x-request-id: %b" % before
    if head.lines and head.lines[-1] == line:  # it is ours, added a moment ago
        head.lines[-1] = b"x-request-id: %b" % after
        head.marked[b"x-request-id"] = after
    else:
        head.set(b"x-request-id", after)
