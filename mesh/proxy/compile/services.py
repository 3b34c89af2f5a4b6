"""Services that filters ask: `HttpUri`, the core API's `RetryPolicy`, and data that stands in the configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mesh.proxy.compile.values import seconds, seconds_or, value_or
from mesh.proxy.fields import Place
from mesh.proxy.http.retry import RetryPolicy

HTTP_URI = {"envoy.config.core.v3.HttpUri": frozenset(("uri", "cluster", "timeout"))}
RETRY = {
    "envoy.config.core.v3.RetryPolicy": frozenset(("retry_back_off", "num_retries")),
    "envoy.config.core.v3.BackoffStrategy": frozenset(("base_interval", "max_interval")),
}
DATA_SOURCE = {
    "envoy.config.core.v3.DataSource": frozenset(("filename", "inline_bytes", "inline_string", "environment_variable"))
}
_CONDITIONS = frozenset(("5xx", "gateway-error", "connect-failure", "reset"))  # Envoy's for requests of its own


@dataclass(frozen=True, slots=True)
class HttpService:
    """Where to ask. `path` has the query; `timeout` in seconds."""

    cluster: str
    authority: bytes
    path: bytes
    timeout: float


def http_service(uri: Any, place: Place) -> HttpService:
    """An HttpUri. Raises Refused."""
    parts = urlsplit(uri.uri if "://" in uri.uri else f"http://{uri.uri}")
    if not parts.netloc or not uri.cluster:
        raise place.refuse("a URI with a host and a cluster are required", "uri")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpService(uri.cluster, parts.netloc.encode(), path.encode(), seconds(uri.timeout))


def own_retry(policy: Any) -> RetryPolicy:
    """A core RetryPolicy."""
    base = seconds_or(policy.retry_back_off, "base_interval", 1.0)
    longest = seconds_or(policy.retry_back_off, "max_interval", 10 * base)
    return RetryPolicy(_CONDITIONS, count=value_or(policy, "num_retries", 1), base=base, longest=longest)


def data(source: Any, place: Place) -> bytes:
    """The content of a DataSource. Raises Refused."""
    kind = source.WhichOneof("specifier")
    if kind == "inline_string":
        return bytes(source.inline_string.encode())
    if kind == "inline_bytes":
        return bytes(source.inline_bytes)
    if kind == "environment_variable" and source.environment_variable in os.environ:
        return os.environ[source.environment_variable].encode()
    if kind == "filename":
        try:
            return Path(source.filename).read_bytes()
        except OSError as error:
            raise place.refuse(f"cannot read {source.filename}: {error.strerror}", "filename") from error
    raise place.refuse("there is no data")
