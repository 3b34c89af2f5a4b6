"""Access logs of a connection manager or tcp_proxy: format and file, as a step at the end of each stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from google.protobuf.json_format import MessageToDict

from mesh.proxy.access_log import LogFiles
from mesh.proxy.compile.substitution import compile_json, compile_text
from mesh.proxy.compile.values import unpack
from mesh.proxy.fields import OPAQUE, Place, check

SUPPORTED = {
    "envoy.config.accesslog.v3.AccessLog": frozenset(("name", "typed_config")),
    "envoy.extensions.access_loggers.file.v3.FileAccessLog": frozenset(("path", "format", "log_format", "json_format")),
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog": frozenset(("log_format",)),
    "envoy.config.core.v3.SubstitutionFormatString": frozenset(
        ("text_format", "json_format", "text_format_source", "omit_empty_values")
    ),
    "envoy.config.core.v3.DataSource": frozenset(("inline_string", "inline_bytes")),
    "google.protobuf.Struct": OPAQUE,
}

ENVOY_DEFAULT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)


def log_steps(
    logs: Iterable[Any], files: LogFiles, place: Place, *, tcp: bool = False
) -> tuple[Callable[[Any], None], ...]:
    """One step for each access log. Raises Refused."""
    return tuple(_step(log, files, place.at(f"access_log[{index}]"), tcp) for index, log in enumerate(logs))


def _step(log: Any, files: LogFiles, place: Place, tcp: bool) -> Callable[[Any], None]:
    check(log, SUPPORTED, place)
    inside = place.at("typed_config")
    if log.typed_config.Is(StdoutAccessLog.DESCRIPTOR):
        config, path = unpack(log.typed_config, StdoutAccessLog, inside), "/dev/stdout"
    else:
        config = unpack(log.typed_config, FileAccessLog, inside)
        path = config.path
    check(config, SUPPORTED, inside)
    render = _renderer(config, inside, tcp)
    try:
        write = files.open(path).write
    except OSError as error:
        raise inside.refuse(f"cannot open {path}: {error.strerror}", "path") from error
    return lambda subject: write(render(subject))


def _renderer(config: Any, place: Place, tcp: bool) -> Callable[[Any], str]:
    if config.DESCRIPTOR.name == "FileAccessLog" and config.format:
        return compile_text(config.format, place.at("format"), tcp=tcp)
    if config.DESCRIPTOR.name == "FileAccessLog" and config.HasField("json_format"):
        return _json(config.json_format, place.at("json_format"), tcp)
    if not config.HasField("log_format"):
        return compile_text(ENVOY_DEFAULT, place, tcp=tcp)
    form, inside = config.log_format, place.at("log_format")
    if form.HasField("json_format"):
        return _json(form.json_format, inside.at("json_format"), tcp)
    if form.HasField("text_format_source"):
        source = form.text_format_source
        text = source.inline_string or source.inline_bytes.decode()
        return compile_text(text, inside.at("text_format_source"), tcp=tcp)
    return compile_text(form.text_format, inside.at("text_format"), tcp=tcp)


def _json(template: Any, place: Place, tcp: bool) -> Callable[[Any], str]:
    render = compile_json(MessageToDict(template), place, tcp=tcp)
    return lambda subject: render(subject) + "\n"
