"""LocalReplyConfig to LocalReplies."""

from __future__ import annotations

from typing import Any

from mesh.proxy.compile import access_log, log_filters
from mesh.proxy.compile.headers import header_edit
from mesh.proxy.compile.values import value_or
from mesh.proxy.fields import OPAQUE, Place
from mesh.proxy.http.local_replies import BodyFormat, LocalReplies, Mapper
from mesh.proxy.tls.secrets import SecretError, content

_H = "envoy.extensions.filters.network.http_connection_manager.v3."
SUPPORTED = {
    _H + "LocalReplyConfig": frozenset(("mappers", "body_format")),
    _H + "ResponseMapper": frozenset(("filter", "status_code", "body", "body_format_override", "headers_to_add")),
    "envoy.config.core.v3.SubstitutionFormatString": OPAQUE,  # checked with its own table
    "envoy.config.core.v3.DataSource": frozenset(("filename", "inline_string", "inline_bytes", "environment_variable")),
    "envoy.config.core.v3.HeaderValueOption": frozenset(("header", "append_action", "append", "keep_empty_value")),
    "envoy.config.core.v3.HeaderValue": frozenset(("key", "value", "raw_value")),
    **log_filters.SUPPORTED,
}


def compile_local_replies(config: Any, place: Place) -> LocalReplies:
    """Of a LocalReplyConfig whose fields have been checked. Raises Refused."""
    mappers = tuple(_mapper(each, place.at(f"mappers[{index}]")) for index, each in enumerate(config.mappers))
    own = _format(config.body_format, place.at("body_format")) if config.HasField("body_format") else None
    return LocalReplies(mappers, own)


def _mapper(config: Any, place: Place) -> Mapper:
    body = None
    if config.HasField("body"):
        try:
            body = content(config.body)
        except SecretError as error:
            raise place.refuse(str(error), "body") from error
    override = None
    if config.HasField("body_format_override"):
        override = _format(config.body_format_override, place.at("body_format_override"))
    return Mapper(
        log_filters.passes(config.filter, place.at("filter"), tcp=False),
        value_or(config, "status_code", None),
        body,
        header_edit([(config.headers_to_add, (), place)]),
        override,
    )


def _format(form: Any, place: Place) -> BodyFormat:
    is_json = form.WhichOneof("format") == "json_format"
    kind = form.content_type.encode() or (b"application/json" if is_json else b"text/plain")
    return BodyFormat(access_log.renderer(form, place), kind)
