"""What others put into header values must not become headers of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from google.protobuf.json_format import ParseDict

from mesh.proxy.compile.headers import header_edit
from mesh.proxy.fields import Place
from mesh.proxy.http1.head import Head
from mesh.proxy.policy.ext_authz.grpc import judge

INJECTED = "a\r\nx-evil: 1\0"
SAID = [{"header": {"key": "x-user", "value": INJECTED}}]


def test_line_ends_of_an_authorization_service_do_not_reach_the_upstream_or_client() -> None:
    answer = {"ok_response": {"headers": SAID, "response_headers_to_add": SAID}}
    verdict = judge(ParseDict(answer, CheckResponse()))
    assert verdict.unsound == "invalid header value for: x-user"
    assert [edit[:2] for edit in verdict.client] == [(b"x-user", b"ax-evil: 1")]


def test_line_ends_of_a_denial_do_not_reach_the_client() -> None:
    verdict = judge(ParseDict({"status": {"code": 7}, "denied_response": {"headers": SAID}}, CheckResponse()))
    assert [edit[:2] for edit in verdict.client] == [(b"x-user", b"ax-evil: 1")]


@pytest.mark.parametrize("before", [[], [b"X-Claim: before"]])
def test_line_ends_in_a_formatted_header_do_not_end_it(before: list[bytes]) -> None:
    header = HeaderValue(key="x-claim", value="%DYNAMIC_METADATA(said:claim)%")
    option = HeaderValueOption(header=header, append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
    stream: Any = SimpleNamespace(metadata={"said": {"claim": INJECTED}}, head=None, connection=None)
    head = Head(before, {})
    edit = header_edit([([option], [], Place("Route", "r"))])
    assert edit is not None
    edit.apply(head, stream)
    assert head.lines == [b"x-claim: ax-evil: 1"]
