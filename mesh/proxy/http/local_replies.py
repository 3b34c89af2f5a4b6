"""How replies of our own are worded (`local_reply_config`): mappers that change them, and the format of their body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.proxy.http.route import HeaderEdit
    from mesh.proxy.http.stream import Stream


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """A SubstitutionFormatString and the content type of what it makes."""

    render: Callable[[Any], str]
    content_type: bytes


@dataclass(frozen=True, slots=True)
class Mapper:
    """A ResponseMapper: which replies, and what becomes of them. None keeps what there is."""

    passes: Callable[[Any], bool]
    status: int | None
    body: bytes | None
    edit: HeaderEdit | None
    body_format: BodyFormat | None


class LocalReplies:
    """The first mapper that a reply passes changes it; then its body is formatted."""

    __slots__ = ("_body_format", "_mappers")

    def __init__(self, mappers: tuple[Mapper, ...], body_format: BodyFormat | None) -> None:
        self._mappers = mappers
        self._body_format = body_format

    def rewrite(self, stream: Stream, status: int, body: bytes) -> tuple[int, bytes, bytes, HeaderEdit | None]:
        """Status, body, content type, and the edit of the head."""
        body_format, edit = self._body_format, None
        stream.status = status
        for mapper in self._mappers:
            if mapper.passes(stream):
                stream.status = status = mapper.status or status
                body = body if mapper.body is None else mapper.body
                body_format = mapper.body_format or body_format
                edit = mapper.edit
                break
        if body_format is None:
            return status, body, b"text/plain", edit
        stream.local_body = body.decode("utf-8", "surrogateescape")
        return status, body_format.render(stream).encode("utf-8", "surrogateescape"), body_format.content_type, edit
