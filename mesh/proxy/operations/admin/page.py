"""What a page is: a path, what it says of itself, and a function from a request to a reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import re2
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap

from mesh.proxy.observe.stats import Stats
from mesh.proxy.operations.configuration import Configuration
from mesh.proxy.operations.metrics import Metrics
from mesh.proxy.operations.options import Options
from mesh.proxy.operations.plane import DataPlane
from mesh.proxy.operations.status import Status

PLAIN = "text/plain; charset=UTF-8"
JSON = "application/json"
HTML = "text/html; charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """All that pages may look at. `stop` is set to end the process."""

    bootstrap: Bootstrap
    configuration: Configuration
    options: Options
    plane: DataPlane
    stats: Stats
    status: Status
    stop: asyncio.Event
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Request:
    """`query` holds the last value of each parameter."""

    method: str
    path: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    body: str
    status: int = 200
    content_type: str = PLAIN


class BadQuery(ValueError):
    """A query parameter is wrong; the text goes out with 400."""


@dataclass(frozen=True, slots=True)
class Page:
    """`changes` marks what takes POST only. `parameters` are the names it knows, with their help."""

    path: str
    about: str
    answer: Callable[[Sidecar, Request], Awaitable[Reply]]
    changes: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


def json_reply(tree: Any) -> Reply:
    """JSON with Envoy's indent of one space."""
    return Reply(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", content_type=JSON)


def matcher(request: Request) -> Callable[[str], object] | None:
    """The `filter` parameter as a search; None without it. Raises BadQuery."""
    pattern = request.query.get("filter", "")
    if not pattern:
        return None
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise BadQuery(f"Invalid re2 regex: {reason}\n") from error
    return compiled.search


def wants_json(request: Request) -> bool:
    """Whether `format=json`. Raises BadQuery for another format than text and json."""
    wanted = request.query.get("format", "text")
    if wanted not in ("text", "json"):
        raise BadQuery(f"usage: {request.path}?format=(json|text)\n\n")
    return wanted == "json"
