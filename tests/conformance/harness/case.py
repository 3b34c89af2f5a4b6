"""The case files: what they may say, decoded strictly so that a misspelt expectation cannot pass by being ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads the files in a tenth of the time
Pairs = list[tuple[str, str]]


class CaseError(Exception):
    """A case file says something the harness does not know."""


@dataclass(frozen=True)
class Reply:
    """What a scripted upstream does with one request. `times` repeats the body or the list of chunks.

    `tunnel` is what it does with the bytes after its head, as `tcp` is for a whole connection. Over HTTP/2 `reset` ends
    the stream by a code of RFC 9113, before any answer or in its middle (`reset_after`); `goaway` asks for no more
    streams, and with `refuses` it leaves the present one out too. `grpc` is the answer of a gRPC service.
    """

    status: int = 200
    reason: str = "OK"
    headers: Any = None
    body: str | None = None
    times: int = 1
    chunks: list[str] | None = None
    trailers: Any = None
    raw: str | None = None
    informational: list[int] = field(default_factory=list)
    delay: float = 0.0
    hold: bool = False
    never: bool = False
    early: bool = False
    end: str = "keep"
    tcp: str | None = None
    tunnel: str | None = None
    reset: str | None = None
    reset_after: bool = False
    goaway: str | None = None
    refuses: bool = False
    grpc: Any = None


@dataclass(frozen=True)
class Tunnel:
    """What the client sends once its request was answered by 101 or, for CONNECT, 2xx, and how many bytes it awaits.

    `end` is then `close`, `half` (say no more, read on to the end) or `read` (read to the end).
    """

    send: str = ""
    times: int = 1
    receive: int = 0
    end: str = "close"


@dataclass(frozen=True)
class Request:
    """What the client sends, and over which connection. `times` repeats the body or the list of chunks; `preface` is
    sent as it stands when the connection is new, before any TLS.

    `protocol: h2` speaks HTTP/2, by ALPN if `tls` offers it. Then `pseudo` replaces pseudo headers (null leaves one
    out), `frames` follow the request's head as they are (`{type, flags, stream, payload, times}`), with `bare` in its
    place; `window` is the client's own for each stream, and `cancel` resets the stream with that code once the upstream
    has the request.
    """

    method: str = "GET"
    path: str = "/"
    version: str = "1.1"
    host: str | None = "mesh.test"
    headers: Any = None
    body: str | None = None
    times: int = 1
    chunks: list[str] | None = None
    trailers: Any = None
    raw: str | None = None
    responses: int = 1
    bytewise: bool = False
    continued: str | None = None
    half_close: bool = False
    at_once: bool = False
    abandon: bool = False
    tcp: bool = False
    tunnel: Any = None
    via: str | None = None
    listener: str = "main"
    tls: dict[str, Any] | None = None
    preface: str = ""
    protocol: str = "http/1.1"
    pseudo: Mapping[str, str | None] = field(default_factory=dict)
    frames: list[Mapping[str, Any]] = field(default_factory=list)
    bare: bool = False
    window: int | None = None
    cancel: int | None = None


@dataclass(frozen=True)
class Expect:
    """What must be seen; what is left out is not judged."""

    status: Any = None
    reason: str | None = None
    body: str | None = None
    body_has: str | None = None
    body_size: int | None = None
    headers: Mapping[str, Any] | None = None
    header_names: list[str] | None = None
    trailers: Any = None
    framing: str | None = None
    informational: list[int] | None = None
    upstream: Any = "?"
    served: Mapping[str, int] | None = None
    rotation: list[str] | None = None
    forwarded: Any = None
    mirrored: Mapping[str, Any] | None = None
    flags: str | None = None
    details: str | None = None
    log: Mapping[str, Any] | None = None
    line: str | None = None
    closed: str | None = None
    connection: str | None = None
    certificate: str | None = None  # the common name in the one that the engine shows
    reset: int | None = None
    goaway: int | None = None


@dataclass(frozen=True)
class Step:
    """One thing to do. Exactly one verb is set; `expect` belongs to `request` and `finish`."""

    request: Any = None
    expect: Expect | None = None
    repeat: int = 1
    eventually: bool = False
    background: str | None = None
    finish: str | None = None
    held: Mapping[str, int] | None = None
    release: Any = None
    stats: Mapping[str, int] | None = None
    admin: Mapping[str, Any] | None = None
    upstream: Any = None
    secret: Mapping[str, Any] | None = None
    reload: Mapping[str, Any] | None = None  # what the case file says, anew, where it is read from files
    health: Mapping[str, Any] | None = None
    checked: Mapping[str, Any] | None = None
    spans: list[Mapping[str, Any]] | None = None
    logged: list[Mapping[str, Any]] | None = None  # what the collector is told, as parts of its messages


@dataclass(frozen=True)
class Case:
    """One behaviour, judged alike on every engine."""

    case: str
    steps: tuple[Step, ...]
    upstream: Any = None
    health: Mapping[str, Any] | None = None
    stats: Mapping[str, int] = field(default_factory=dict)
    differs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CaseFile:
    """Cases that share one bootstrap, and so one start of an engine."""

    name: str
    about: str
    bootstrap: Mapping[str, Any]
    cases: tuple[Case, ...]


def decode(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    """A dataclass from a mapping; an unknown key is an error naming the place."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(data) - known:
        raise CaseError(f"{where}: {kind.__name__} knows no {sorted(unknown)}; it knows {sorted(known)}")
    return kind(**data)


def decode_request(data: Any, where: str) -> Request:
    """A request from its mapping, or from the short form `METHOD path`."""
    if isinstance(data, str):
        method, _, path = data.partition(" ")
        data = {"method": method, "path": path}
    if isinstance(data.get("tunnel"), Mapping):
        data = {**data, "tunnel": decode(Tunnel, data["tunnel"], where)}
    return decode(Request, data, where)


def decode_step(data: Mapping[str, Any], where: str) -> Step:
    """A step, with its request and expectation decoded."""
    data = dict(data)
    if "request" in data:
        data["request"] = decode_request(data["request"], where)
    if "expect" in data:
        data["expect"] = decode(Expect, data["expect"], where)
    return decode(Step, data, where)


def decode_case(data: Mapping[str, Any], where: str) -> Case:
    """A case; `request` and `expect` at its top are the short form of a single step."""
    data = dict(data)
    where = f"{where}: {data.get('case')}"
    single: dict[str, Any] = {
        key: data.pop(key) for key in ("request", "expect", "repeat", "eventually") if key in data
    }
    steps = [single] if single else data.pop("steps", [])
    if not steps or (single and "steps" in data):
        raise CaseError(f"{where}: wants either request or steps")
    return decode(Case, {**data, "steps": tuple(decode_step(step, where) for step in steps)}, where)


def load(path: Path, root: Path) -> CaseFile:
    """A case file. Raises CaseError naming file and case."""
    name = path.relative_to(root).with_suffix("").as_posix()
    data = yaml.load(path.read_text(), _LOADER)
    cases = tuple(decode_case(item, name) for item in data.pop("cases"))
    return CaseFile(name, data.pop("about"), data, cases)


def pairs(value: Any) -> Pairs:
    """Headers written as a mapping (a list value repeats the name) or as a list of [name, value], as ordered pairs."""
    if value is None:
        return []
    items = value.items() if isinstance(value, Mapping) else value
    return [(name, str(one)) for name, many in items for one in (many if isinstance(many, list) else [many])]
