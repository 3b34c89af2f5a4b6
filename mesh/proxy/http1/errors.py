"""Why bytes are not taken for HTTP/1.1, with the status and Envoy's response code detail that answer them."""

from __future__ import annotations


class MalformedError(Exception):
    """Bytes that are not the HTTP/1.1 they should be. `details` is Envoy's response code detail."""

    status = 400

    def __init__(self, details: str) -> None:
        super().__init__(details)
        self.details = details


class HeadTooLargeError(MalformedError):
    """The head is over the limit, in bytes or in headers."""

    status = 431


class VersionRefusedError(MalformedError):
    """A version other than 1.1: Envoy refuses 1.0 unless told otherwise."""

    status = 426


class CodingRefusedError(MalformedError):
    """A transfer coding other than chunked."""

    status = 501


class NotRoutableError(MalformedError):
    """Well-formed, but without a host or with a path that cannot be routed. Envoy's reply has no body."""


class PathRefusedError(NotRoutableError):
    """An absolute target whose host is followed by no path, but by a query."""

    status = 404
