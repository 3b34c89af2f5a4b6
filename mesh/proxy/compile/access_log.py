"""Access logs of a connection manager, tcp_proxy or listener: which, in what format and where to, as steps at the end
of each stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from envoy.extensions.access_loggers.file.v3.file_pb2 import FileAccessLog
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StderrAccessLog, StdoutAccessLog
from google.protobuf.json_format import MessageToDict

from mesh.proxy.compile import log_filters, log_services
from mesh.proxy.compile.substitution import compile_json, compile_text
from mesh.proxy.compile.values import unpack
from mesh.proxy.fields import OPAQUE, Place, check
from mesh.proxy.tls.secrets import SecretError, content

if TYPE_CHECKING:
    from mesh.proxy.compile.http import Surroundings

_FORMATS = frozenset(("log_format",))
SUPPORTED = {
    "envoy.config.accesslog.v3.AccessLog": frozenset(("name", "typed_config", "filter")),
    "envoy.extensions.access_loggers.file.v3.FileAccessLog": frozenset(
        ("path", "format", "log_format", "json_format", "typed_json_format")
    ),
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog": _FORMATS,
    "envoy.extensions.access_loggers.stream.v3.StderrAccessLog": _FORMATS,
    "envoy.config.core.v3.SubstitutionFormatString": frozenset(
        ("text_format", "json_format", "text_format_source", "omit_empty_values", "json_format_options", "formatters",
         "content_type")
    ),
    # Members are sorted in any case, as in Envoy.
    "envoy.config.core.v3.JsonFormatOptions": frozenset(("sort_properties",)),
    "envoy.config.core.v3.TypedExtensionConfig": frozenset(("name", "typed_config")),
    "envoy.config.core.v3.DataSource": frozenset(("filename", "inline_string", "inline_bytes", "environment_variable")),
    "google.protobuf.Struct": OPAQUE,
    **log_filters.SUPPORTED,
}  # fmt: skip
# Formatters whose operators are known without them.
_FORMATTERS = frozenset(
    ("envoy.extensions.formatter.metadata.v3.Metadata",
     "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery")
)  # fmt: skip

ENVOY_DEFAULT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)

Step = Callable[[Any], None]


def log_steps(logs: Iterable[Any], around: Surroundings, place: Place, *, tcp: bool = False) -> tuple[Step, ...]:
    """One step for each access log. Raises Refused."""
    return tuple(_step(log, around, place.at(f"access_log[{index}]"), tcp) for index, log in enumerate(logs))


def _step(log: Any, around: Surroundings, place: Place, tcp: bool) -> Step:
    check(log, SUPPORTED, place)
    step = _sink(log, around, place.at("typed_config"), tcp)
    if not log.HasField("filter"):
        return step
    passes = log_filters.passes(log.filter, place.at("filter"), tcp=tcp)

    def write_some(subject: Any) -> None:
        if passes(subject):
            step(subject)

    return write_some


def _sink(log: Any, around: Surroundings, inside: Place, tcp: bool) -> Step:
    """What takes an entry to where it goes, unfiltered."""
    if log.typed_config.TypeName() == (log_services.TCP if tcp else log_services.HTTP):
        return log_services.service_step(log.typed_config, around, inside)
    if log.typed_config.Is(StdoutAccessLog.DESCRIPTOR):
        config, path = unpack(log.typed_config, StdoutAccessLog, inside), "/dev/stdout"
    elif log.typed_config.Is(StderrAccessLog.DESCRIPTOR):
        config, path = unpack(log.typed_config, StderrAccessLog, inside), "/dev/stderr"
    else:
        config = unpack(log.typed_config, FileAccessLog, inside)
        path = config.path
    check(config, SUPPORTED, inside)
    render = _renderer(config, inside, tcp)
    try:
        write = around.files.open(path).write
    except OSError as error:
        raise inside.refuse(f"cannot open {path}: {error.strerror}", "path") from error
    return lambda subject: write(render(subject))


def _renderer(config: Any, place: Place, tcp: bool) -> Callable[[Any], str]:
    if config.DESCRIPTOR.name == "FileAccessLog":
        if config.format:
            return compile_text(config.format, place.at("format"), tcp=tcp)
        for field in ("json_format", "typed_json_format"):
            if config.HasField(field):
                return _json(getattr(config, field), place.at(field), tcp, omit_empty=False)
    if not config.HasField("log_format"):
        return compile_text(ENVOY_DEFAULT, place, tcp=tcp)
    return renderer(config.log_format, place.at("log_format"), tcp=tcp)


def renderer(form: Any, place: Place, *, tcp: bool = False) -> Callable[[Any], str]:
    """A SubstitutionFormatString as a function. JSON ends with a line end. Raises Refused."""
    check(form, SUPPORTED, place)
    for index, formatter in enumerate(form.formatters):
        if formatter.typed_config.TypeName() not in _FORMATTERS:
            reason = f"formatter {formatter.name} is not supported by this sidecar"
            raise place.refuse(reason, f"formatters[{index}]")
    omit_empty = form.omit_empty_values
    kind = form.WhichOneof("format")
    if kind == "json_format":
        return _json(form.json_format, place.at("json_format"), tcp, omit_empty)
    text = form.text_format
    if kind == "text_format_source":
        try:
            text = content(form.text_format_source).decode()
        except (SecretError, UnicodeDecodeError) as error:
            raise place.refuse(str(error), "text_format_source") from error
    return compile_text(text, place.at(kind or "format"), tcp=tcp, omit_empty=omit_empty)


def _json(template: Any, place: Place, tcp: bool, omit_empty: bool) -> Callable[[Any], str]:
    render = compile_json(MessageToDict(template), place, tcp=tcp, omit_empty=omit_empty)
    return lambda subject: render(subject) + "\n"
