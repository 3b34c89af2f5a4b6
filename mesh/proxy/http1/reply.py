"""Status lines, dates, and what is answered to what is no request, as Envoy words them."""

from __future__ import annotations

import time
from http import HTTPStatus

from mesh.proxy.http1.errors import MalformedError, NotRoutableError

REASONS: dict[int, bytes] = {int(status): status.phrase.encode() for status in HTTPStatus}
REASONS |= {413: b"Payload Too Large", 414: b"URI Too Long", 416: b"Range Not Satisfiable"}
for _unknown in (103, 418, 425, 451):  # Envoy has no words for these
    REASONS.pop(_unknown, None)

STATUS_LINES: dict[int, bytes] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Unknown")) for status in range(100, 1000)
}


class Clock:
    """The Date header, made once a second."""

    __slots__ = ("_date", "_line", "_until")

    def __init__(self) -> None:
        self._until = 0.0
        self._date = b""
        self._line = b""

    def date(self, now: float) -> bytes:
        """The current IMF-fixdate; `now` is monotonic seconds."""
        if now >= self._until:
            wall = time.time()
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(wall)).encode()
            self._line = b"date: %b" % self._date
            self._until = now + 1 - wall % 1
        return self._date

    def line(self, now: float) -> bytes:
        """The whole header line."""
        if now >= self._until:
            self.date(now)
        return self._line


def refusal(error: MalformedError) -> tuple[bytes, str]:
    """The body and the response flag with which Envoy answers what is no request."""
    if isinstance(error, NotRoutableError):
        return b"", ""
    return REASONS[error.status], "DPE"
