"""An authorization service that speaks `envoy.service.auth.v3.Authorization`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from mesh.proxy.downstream.connection_info import Address
from mesh.proxy.http1.names import HOP, TOKEN
from mesh.proxy.http1.parse import CONTROLS, METHODS
from mesh.proxy.policy.ext_authz.http import NameMatch
from mesh.proxy.policy.ext_authz.verdict import (
    ADD_IF_ABSENT,
    APPEND,
    DENIED,
    ERROR,
    JOIN,
    OK,
    OVERWRITE_IF_PRESENT,
    SET,
    Edit,
    QueryEdit,
    Question,
    Verdict,
)
from mesh.proxy.tls.connection import Peer
from mesh.proxy.upstream.grpc_client import GrpcCall

_PATH = "/envoy.service.auth.v3.Authorization/Check"
_PARTIAL = "x-envoy-auth-partial-body"
_ACTIONS = (APPEND, ADD_IF_ABSENT, SET, OVERWRITE_IF_PRESENT)  # by the value of append_action
_FORBIDDEN = 403
_NO_TARGET = re.compile(rb"[^!-~]|#")


@dataclass(frozen=True, slots=True)
class GrpcAuthorization:
    """A compiled `ExtAuthz.grpc_service`. `timeout` in seconds."""

    cluster: str
    authority: str
    timeout: float
    metadata: tuple[tuple[bytes, bytes], ...]
    sends: NameMatch
    sends_certificate: bool
    sends_server_name: bool
    packs_bytes: bool
    namespaces: tuple[str, ...]

    def ask(self, question: Question, done: Callable[[Verdict], None]) -> Callable[[], None]:
        def told(answer: Any, status: bytes) -> None:
            done(judge(answer) if answer is not None else Verdict(ERROR))

        request = CheckRequest(attributes=self._attributes(question))
        call = GrpcCall(
            question.stream.worker, self.cluster, _PATH, request, answer=CheckResponse, done=told,
            timeout=self.timeout, authority=self.authority, metadata=self.metadata,
        )  # fmt: skip
        call.start()
        return call.cancel

    def _attributes(self, question: Question) -> AttributeContext:
        stream = question.stream
        connection, peer = stream.connection, stream.connection.peer
        told = AttributeContext()
        info = connection.info
        if info is not None:
            remote = stream.remote_address.rpartition(":")
            _address(told.source, (remote[0].strip("[]"), int(remote[2])))
            _address(told.destination, info.local)
            if self.sends_server_name and info.server_name:
                told.tls_session.sni = info.server_name
        if peer is not None:
            self._peers(told, peer)
        self._http(told.request, question)
        told.context_extensions.update(question.extensions)
        told.metadata_context.SetInParent()
        told.route_metadata_context.SetInParent()
        for name in self.namespaces:
            if name in stream.metadata:
                packed = Struct()
                packed.update(stream.metadata[name])
                told.metadata_context.filter_metadata[name].CopyFrom(packed)
        return told

    def _peers(self, told: AttributeContext, peer: Peer) -> None:
        names = peer.uri_sans or peer.dns_sans
        told.source.principal = names[0] if names else peer.subject
        if self.sends_certificate and peer.session is not None:
            import ssl  # noqa: PLC0415 - few ask for certificates

            certificate = peer.session.getpeercert(binary_form=True)
            if certificate is not None:
                told.source.certificate = quote(ssl.DER_cert_to_PEM_cert(certificate), safe="")

    def _http(self, told: Any, question: Question) -> None:
        stream = question.stream
        head = stream.head
        told.time.FromNanoseconds(int((time.time() - (time.monotonic() - stream.started)) * 1e9))
        http = told.http
        http.id = str(stream.draw)
        http.method = head.method.decode()
        http.host = head.authority.decode("latin-1")
        http.path = head.target.decode("latin-1")
        http.scheme = head.scheme.decode("latin-1")
        http.protocol = stream.connection.protocol
        if question.is_partial is not None:
            http.size = stream.bytes_received
        pseudo = ((b":authority", head.authority), (b":method", head.method), (b":path", head.target),
                  (b":scheme", http.scheme.encode("latin-1")))  # fmt: skip
        for name, value in (*pseudo, *head.items()):
            if name != b"host" and self.sends(name):
                key, text = name.decode(), value.decode("latin-1")
                http.headers[key] = f"{http.headers[key]},{text}" if key in http.headers else text
        if question.is_partial is not None:
            http.headers[_PARTIAL] = "true" if question.is_partial else "false"
        if question.body and self.packs_bytes:
            http.raw_body = question.body
        elif question.body:
            http.body = question.body.decode("utf-8", "replace")


def _address(peer: Any, address: Address) -> None:
    peer.address.socket_address.address, peer.address.socket_address.port_value = address


def judge(answer: CheckResponse) -> Verdict:
    """The verdict in a CheckResponse."""
    metadata = MessageToDict(answer.dynamic_metadata)
    if answer.status.code == 0:
        ok = answer.ok_response
        upstream = _upstream_edits(ok.headers)
        removed = frozenset(name.lower().encode() for name in ok.headers_to_remove if not name.startswith(":"))
        return Verdict(
            OK,
            upstream=upstream,
            removed=removed - {b"host"},
            client=_for_client(_client_edits(ok.response_headers_to_add)),
            metadata=metadata,
            query=_query(ok),
            unsound=next(filter(None, map(_unsound, upstream)), ""),
        )
    denied = answer.denied_response
    status = denied.status.code or _FORBIDDEN
    client = _for_client(_upstream_edits(denied.headers))
    return Verdict(DENIED, client=client, status=status, body=denied.body.encode(), metadata=metadata)


def _upstream_edits(options: Iterable[Any]) -> tuple[Edit, ...]:
    """Of the request: as in Envoy only `append` is heard, and what does not say it overwrites."""
    return tuple((*_header(option), JOIN if option.append.value else SET) for option in options)


def _client_edits(options: Iterable[Any]) -> tuple[Edit, ...]:
    """Of the response: `append` where it is said, else `append_action`."""
    edits: list[Edit] = []
    for option in options:
        action = _ACTIONS[option.append_action]
        if option.HasField("append"):
            action = APPEND if option.append.value else SET
        edits.append((*_header(option), action))
    return tuple(edits)


def _header(option: Any) -> tuple[bytes, bytes]:
    return option.header.key.lower().encode(), option.header.raw_value or option.header.value.encode()


def _unsound(change: Edit) -> str:
    """What is wrong with a header of a request, in the words of Envoy's router; empty if nothing is."""
    name, value, _ = change
    if not name.removeprefix(b":") or not TOKEN.issuperset(name.removeprefix(b":")):
        return f"invalid header name: {name.decode().encode('unicode_escape').decode()}"
    is_bad = value.translate(None, CONTROLS) != value
    if name == b":method":
        is_bad = value not in METHODS
    elif name == b":path":
        is_bad = _NO_TARGET.search(value) is not None or value[:1] != b"/"
    elif name in (b":authority", b"host"):
        is_bad = not value or _NO_TARGET.search(value) is not None
    return f"invalid header value for: {name.decode()}" if is_bad else ""


def _for_client(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Without control characters: the service may repeat what the client said, and that must not end the header. How
    the response is framed is not for the service to say.
    """
    sound = ((name, value.translate(None, CONTROLS), action) for name, value, action in edits)
    return tuple(each for each in sound if each[0] not in HOP and each[0] and TOKEN.issuperset(each[0]))


def _query(ok: Any) -> QueryEdit | None:
    sets = tuple((_escaped(each.key), _escaped(each.value)) for each in ok.query_parameters_to_set)
    removals = frozenset(name.encode() for name in ok.query_parameters_to_remove)
    return QueryEdit(sets, removals) if sets or removals else None


def _escaped(text: str) -> bytes:
    """What would end the target or the header is escaped; the rest stands as the service says it."""
    return _NO_TARGET.sub(lambda found: b"%%%02X" % found[0][0], text.encode())
