"""Descriptors of requests, and buckets of tokens in a time that the test makes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from envoy.config.route.v3.route_components_pb2 import RateLimit
from google.protobuf import json_format

from mesh.proxy.compile.rate_limits import rate_limits
from mesh.proxy.fields import Place
from mesh.proxy.http1.head import RequestHead
from mesh.proxy.policy import rate_limits as module
from mesh.proxy.policy.rate_limits import IGNORE, INCLUDE, OVERRIDE, RouteRateLimits, TokenBucket
from mesh.proxy.resources import Refused

PLACE = Place("RouteConfiguration", "r")


def limits(*trees: Any) -> tuple[module.RateLimit, ...]:
    return rate_limits([json_format.ParseDict(tree, RateLimit()) for tree in trees], PLACE)


def stream(remote: str = "10.1.2.3:80", metadata: Any = None, **headers: str) -> Any:
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    head = RequestHead(b"GET", b"/p?q=v", b"h", lines, {})
    return SimpleNamespace(head=head, remote_address=remote, cluster_name="c", metadata=metadata or {})


METADATA = {"metadata_key": {"key": "ns", "path": [{"key": "a"}, {"key": "b"}]}, "descriptor_key": "k"}


@pytest.mark.parametrize(
    ("action", "of", "entries"),
    [
        ({"remote_address": {}}, stream(), (("remote_address", "10.1.2.3"),)),
        ({"remote_address": {}}, stream("[2001:db8::1]:80"), (("remote_address", "2001:db8::1"),)),
        ({"masked_remote_address": {"v4_prefix_mask_len": 16}}, stream(), (("masked_remote_address", "10.1.0.0/16"),)),
        ({"source_cluster": {}}, stream(), (("source_cluster", "me"),)),
        ({"destination_cluster": {}}, stream(), (("destination_cluster", "c"),)),
        ({"request_headers": {"header_name": ":path", "descriptor_key": "p"}}, stream(), (("p", "/p?q=v"),)),
        ({"request_headers": {"header_name": "X-A", "descriptor_key": "p"}}, stream(**{"x-a": "1"}), (("p", "1"),)),
        ({"request_headers": {"header_name": "x-a", "descriptor_key": "p"}}, stream(), None),
        ({"query_parameters": {"query_parameter_name": "q", "descriptor_key": "p"}}, stream(), (("p", "v"),)),
        (
            {
                "query_parameter_value_match": {
                    "descriptor_value": "m", "query_parameters": [{"name": "q", "string_match": {"exact": "v"}}]
                }
            },
            stream(),
            (("query_match", "m"),),
        ),
        ({"metadata": METADATA}, stream(metadata={"ns": {"a": {"b": "x"}}}), (("k", "x"),)),
        ({"metadata": METADATA}, stream(metadata={"ns": {"a": "b"}}), None),
        ({"dynamic_metadata": {**METADATA, "default_value": "d"}}, stream(), (("k", "d"),)),
    ],
)  # fmt: skip
def test_what_actions_make_of_a_request(action: Any, of: Any, entries: Any) -> None:
    (limit,) = limits({"actions": [action]})
    assert limit.describe(of, "me") == entries


def test_an_entry_may_be_skipped_but_a_descriptor_is_never_empty() -> None:
    absent = {"request_headers": {"header_name": "x", "descriptor_key": "k", "skip_if_absent": True}}
    both, alone = limits({"actions": [absent, {"generic_key": {"descriptor_value": "v"}}]}, {"actions": [absent]})
    assert both.describe(stream(), "") == (("generic_key", "v"),)
    assert alone.describe(stream(), "") is None


@pytest.mark.parametrize(("option", "count"), [(OVERRIDE, 1), (INCLUDE, 2), (IGNORE, 1)])
def test_limits_of_the_virtual_host(option: int, count: int) -> None:
    own, of_host = limits({"actions": [{"remote_address": {}}]}), limits({"actions": [{"source_cluster": {}}]})
    assert len(list(RouteRateLimits(own, of_host, False).applicable(option))) == count
    assert list(RouteRateLimits((), of_host, False).applicable(OVERRIDE)) == list(of_host)
    assert list(RouteRateLimits((), of_host, False).applicable(IGNORE)) == []
    assert len(list(RouteRateLimits(own, of_host, True).applicable(IGNORE))) == 2


@pytest.mark.parametrize("tree", [{"stage": 11, "actions": [{"remote_address": {}}]}, {}, {"actions": [{}]}])
def test_what_makes_no_limit_is_refused(tree: Any) -> None:
    with pytest.raises(Refused):
        limits(tree)


def test_a_bucket_fills_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    bucket = TokenBucket(3, 0.5)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert (bucket.remaining, bucket.until_next) == (0, 2)
    now += 1.9
    assert not bucket.take()
    assert bucket.until_next == 1
    now += 0.1
    assert bucket.take()
    now += 1000
    assert bucket.take(3)
    assert not bucket.take()
