"""What log formats call for one line: times, gRPC statuses, metadata, what a peer's certificate says.

Functions of a stream or TCP connection `x`, called by the expressions that `compile/operators.py` makes.
"""

from __future__ import annotations

import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mesh.proxy.http.grpc import status_of_http
from mesh.proxy.tls.context import name_text

if TYPE_CHECKING:
    from mesh.proxy.tls.connection import Peer

# A Stream or a TcpDownstream: which one, the operators' tables know.
Subject = Any

_FLAGS = {
    "DC": "DownstreamConnectionTermination", "DPE": "DownstreamProtocolError", "DT": "DurationTimeout",
    "DI": "DelayInjected", "FI": "FaultInjected", "IH": "InvalidEnvoyRequestHeaders", "LH": "FailedLocalHealthCheck",
    "LR": "LocalReset", "NC": "NoClusterFound", "NFCF": "NoFilterConfigFound", "NR": "NoRouteFound",
    "OM": "OverloadManagerTerminated", "DF": "DnsResolutionFailed", "DO": "DropOverload", "RL": "RateLimited",
    "RLSE": "RateLimitServiceError", "RFCF": "ResponseFromCacheFilter", "SI": "StreamIdleTimeout",
    "UAEX": "UnauthorizedExternalService", "UC": "UpstreamConnectionTermination", "UF": "UpstreamConnectionFailure",
    "UH": "NoHealthyUpstream", "UMSDR": "UpstreamMaxStreamDurationReached", "UO": "UpstreamOverflow",
    "UPE": "UpstreamProtocolError", "UR": "UpstreamRemoteReset", "URX": "UpstreamRetryLimitExceeded",
    "UT": "UpstreamRequestTimeout",
}  # fmt: skip


def long_flags(flags: str) -> str:
    return ",".join(_FLAGS.get(flag, flag) for flag in flags.split(",")) if flags else "-"


# Times


def now() -> float:
    return time.time()


def wall_start(subject: Subject) -> float:
    """When it began, in seconds since the epoch."""
    return time.time() - (time.monotonic() - float(subject.started))


_second = (0.0, "")
_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))


def iso(subject: Subject) -> str:
    """When it began, as Envoy writes it by default."""
    global _second  # noqa: PLW0603 - when the last second began by the monotonic clock, and its text: made once for all
    began, text = _second
    passed = subject.started - began
    if not 0 <= passed < 1:
        start = wall_start(subject)
        passed = start % 1
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start))
        _second = (subject.started - passed, text)
    return text + _MILLISECONDS[int(passed * 1000)]


_FRACTION = re.compile(r"%(%|E?(\d)f|f|E[fS*]*f|Ez|\d?s)")


class TimeFormat:
    """A strftime pattern with Envoy's `%s` (seconds since the epoch) and `%3f` (that many digits of the second).

    What does not change within a second is written once for it.
    """

    __slots__ = ("_digits", "_local", "_pattern", "_second", "_text")

    def __init__(self, pattern: str, *, local: bool) -> None:
        self._local = local
        self._digits: list[int] = []
        # strftime sees placeholders where it knows nothing of Envoy's letters; NUL cannot be in a configured pattern.
        self._pattern = _FRACTION.sub(self._placeholder, pattern)
        self._second = -1
        self._text: list[str] = []

    def _placeholder(self, found: re.Match[str]) -> str:
        letter = found[1]
        if letter.endswith("s"):
            return "\1"
        if letter == "Ez":
            return "\2"
        if letter == "%":
            return "%%"
        self._digits.append(int(found[2] or 9))
        return "\0"

    def __call__(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second, self._text = second, self._write(second)
        if not self._digits:
            return self._text[0]
        nanos = f"{int(at % 1 * 1e6):06d}000"
        pieces = [self._text[0]]
        for digits, text in zip(self._digits, self._text[1:], strict=True):
            pieces += (nanos[:digits], text)
        return "".join(pieces)

    def _write(self, second: int) -> list[str]:
        moment = time.localtime(second) if self._local else time.gmtime(second)
        zone = time.strftime("%z", moment) if self._local else "+0000"
        pattern = self._pattern.replace("%z", zone)
        if not self._local:
            pattern = pattern.replace("%Z", "UTC")
        parts = [time.strftime(part, moment) if part else "" for part in pattern.split("\0")]
        return [part.replace("\1", str(second)).replace("\2", f"{zone[:3]}:{zone[3:]}") for part in parts]


# Points in a request's life, by the monotonic clock; a stream has those that it came to.


def received_at(stream: Subject) -> float | None:
    """The end of the request."""
    return getattr(stream, "request_ended", stream.started) if stream.request_done else None


def forwarded_at(stream: Subject) -> float | None:
    """The end of the request towards the upstream."""
    begun = getattr(stream, "upstream_started", None)
    return max(begun, received_at(stream) or begun) if begun is not None and stream.served_by is not None else None


def answered_at(stream: Subject) -> float | None:
    """The upstream's first byte."""
    at: float | None = getattr(stream, "answered", None)
    return at


def between(start: float | None, end: float | None, factor: float) -> int | None:
    """Whole units of time; None unless both have come."""
    return None if start is None or end is None else max(0, int((end - start) * factor))


DURATION_POINTS: Mapping[str, str] = {
    "DS_RX_BEG": "x.started",
    "DS_RX_END": "received_at(x)",
    "US_TX_BEG": "getattr(x, 'upstream_started', None)",
    "US_TX_END": "forwarded_at(x)",
    "US_RX_BEG": "answered_at(x)",
    "US_RX_END": "(x.started + x.elapsed if answered_at(x) is not None else None)",
    "DS_TX_BEG": "(answered_at(x) or x.started + x.elapsed)",
    "DS_TX_END": "x.started + x.elapsed",
}

# gRPC

_GRPC_NAMES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip


def grpc_status(stream: Subject) -> int | None:
    """The status of a gRPC call: of its trailers, else of its head, else what its HTTP status stands for."""
    kind = stream.head.marked.get(b"content-type")
    if kind is None or not kind.startswith(b"application/grpc"):
        return None
    for head in (stream.response_trailers, stream.response_head):
        said = head.get(b"grpc-status") if head is not None else None
        if said is not None and said.isdigit():
            return int(said)
    return status_of_http(stream.status) if stream.status else None


def grpc_status_name(stream: Subject, snake: bool) -> str | None:
    status = grpc_status(stream)
    if status is None:
        return None
    if status >= len(_GRPC_NAMES):
        return str(status)
    name = _GRPC_NAMES[status]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() if snake else name


# Metadata


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return plain(value)


def plain(value: Any) -> Any:
    """A value of a Struct as Envoy shows it: members sorted, whole numbers without a fraction."""
    if isinstance(value, Mapping):
        return {name: plain(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def endpoint_metadata(subject: Subject, path: list[str]) -> Any:
    return _at(subject.host.endpoint.metadata, path) if subject.host is not None else None


def dynamic_metadata(subject: Subject, path: list[str]) -> Any:
    return _at(getattr(subject, "metadata", None), path)


def cluster_metadata(path: list[str]) -> Callable[[Subject], Any]:
    """The value at `path` of the metadata of a subject's cluster, read once for each version of a cluster."""
    known: dict[str, tuple[Any, Any]] = {}

    def find(subject: Subject) -> Any:
        name = subject.cluster_name
        message = subject.worker.runtime.resources.clusters.get(name)
        if message is None:
            return None
        before = known.get(name)
        if before is not None and before[0] is message:
            return before[1]
        from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - once a cluster, if a format asks

        value = _at(MessageToDict(message.metadata).get("filterMetadata"), path)
        known[name] = message, value
        return value

    return find


# Parts of what is there


def cut(value: Any, length: int) -> str | None:
    return None if value is None else str(value)[:length]


def cut_bytes(value: bytes | None, length: int) -> bytes | None:
    return None if value is None else value[:length]


def without_query(path: bytes | None) -> bytes | None:
    return None if path is None else path.partition(b"?")[0]


def query_parameter(target: bytes, name: str) -> str | None:
    from urllib.parse import unquote  # noqa: PLC0415 - only a format that asks for it needs it

    for pair in target.partition(b"?")[2].split(b"&"):
        key, _, value = pair.decode("utf-8", "replace").partition("=")
        if unquote(key) == name:
            return unquote(value)
    return None


def ip_of(address: str | None) -> str | None:
    return address.rpartition(":")[0] if address else None


def port_of(address: str | None) -> int | None:
    return int(address.rpartition(":")[2]) if address else None


def name_of(host: str | None) -> str | None:
    """A host name without the port that stands behind an address."""
    return host.partition(":")[0] if host else None


def unique_id() -> str:
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


# Certificates


def _certificate(peer: Peer | None) -> Mapping[str, Any]:
    return (peer.session.getpeercert() or {}) if peer is not None and peer.session is not None else {}


def _der(peer: Peer | None) -> bytes | None:
    return peer.session.getpeercert(binary_form=True) if peer is not None and peer.session is not None else None


def names(peer: Peer | None, kind: str) -> str | None:
    """The subject alternative names of a kind (OpenSSL's words: `DNS`, `IP Address`), joined by commas."""
    found = [str(value) for each, value in _certificate(peer).get("subjectAltName", ()) if each == kind]
    return ",".join(found) or None


def issuer(peer: Peer | None) -> str | None:
    """The issuer's name in the form of RFC 2253."""
    return name_text(_certificate(peer).get("issuer", ())) or None


def serial(peer: Peer | None) -> str | None:
    said = _certificate(peer).get("serialNumber")
    return said.lower() if said else None


def fingerprint(peer: Peer | None, algorithm: str) -> str | None:
    from hashlib import new  # noqa: PLC0415 - only a format that asks for it needs it

    der = _der(peer)
    return new(algorithm, der).hexdigest() if der else None


def pem(peer: Peer | None) -> str | None:
    """The certificate as PEM, URL-encoded."""
    from urllib.parse import quote  # noqa: PLC0415 - only a format that asks for it needs it

    der = _der(peer)
    return quote(ssl.DER_cert_to_PEM_cert(der), safe="") if der else None


def certificate_time(peer: Peer | None, which: str, pattern: str) -> str | None:
    said = _certificate(peer).get(which)
    return TimeFormat(pattern, local=False)(ssl.cert_time_to_seconds(said)) if said else None
