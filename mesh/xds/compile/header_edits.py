"""Header operations of routes and destinations as Envoy's header options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption

from mesh.api.virtual_service import HeaderOperations, Headers

_AUTHORITY: Final = frozenset({":authority", "host"})
_SET: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_ADD: Final = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """What to add and remove; `authority` replaces the Host, which Envoy does not let header options touch."""

    request_add: tuple[HeaderValueOption, ...] = ()
    request_remove: tuple[str, ...] = ()
    response_add: tuple[HeaderValueOption, ...] = ()
    response_remove: tuple[str, ...] = ()
    authority: str = ""


def header_edits(headers: Headers | None) -> HeaderEdits:
    """Sets come before additions, each in the order of names."""
    if headers is None:
        return HeaderEdits()
    request = headers.request or HeaderOperations()
    response = headers.response or HeaderOperations()
    authority = next((value for name, value in request.set.items() if name.lower() in _AUTHORITY), "")
    return HeaderEdits(_options(request), tuple(request.remove), _options(response), tuple(response.remove), authority)


def _options(operations: HeaderOperations) -> tuple[HeaderValueOption, ...]:
    return (*_values(operations.set, _SET), *_values(operations.add, _ADD))


def _values(values: Mapping[str, str], action: int) -> tuple[HeaderValueOption, ...]:
    return tuple(
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=action)
        for name, value in sorted(values.items())
        if name.lower() not in _AUTHORITY
    )
