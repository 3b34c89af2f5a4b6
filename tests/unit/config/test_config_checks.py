"""Single checks, at the edges that the files of bad input do not show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.config.problems import ProblemList, Source
from mesh.config.rules.checks import (
    Place,
    check_cidr,
    check_gateway_names,
    check_header_value,
    check_host,
    check_labels,
    check_regex,
)
from mesh.config.rules.virtual_service import covers


def messages(check: Callable[..., None], *arguments: object) -> list[str]:
    problems = ProblemList(Source())
    check(*arguments, Place(problems))
    return [problem.message for problem in problems.all()]


@pytest.mark.parametrize(
    "host",
    [
        "reviews",
        "reviews.default.svc.cluster.local",
        "*.example.com",
        "*-v2.example.com",
        "*",
        "a_b.c",
        "x.",
        "10.0.0.1",
    ],
)
def test_hosts(host: str) -> None:
    assert messages(check_host, host) == []


@pytest.mark.parametrize("host", ["", "a b", "a.*.b", "-a", "a..b", "a*", "a:80", "x" * 64, "/", "."])
def test_what_is_no_host(host: str) -> None:
    assert len(messages(check_host, host)) == 1


@pytest.mark.parametrize(
    "value",
    ["x", "", "100%%", "%REQ(:path)%", "a %START_TIME(%s)% b", "%DOWNSTREAM_REMOTE_ADDRESS%", "%REQ(x):10%", "\t"],
)
def test_header_values(value: str) -> None:
    assert messages(check_header_value, value) == []


@pytest.mark.parametrize("value", ["50%", "%lower%", "%%%", "a\nb", "a\x00"])
def test_what_is_no_header_value(value: str) -> None:
    assert len(messages(check_header_value, value)) == 1


@pytest.mark.parametrize("pattern", [".*", "/v[0-9]+/.*", "(?i)jason", "(?P<x>a)"])
def test_re2_patterns(pattern: str) -> None:
    assert messages(check_regex, pattern) == []


@pytest.mark.parametrize("pattern", ["(?=a)", r"(a)\1", "[", "", "a" * 1025])
def test_what_re2_cannot_match(pattern: str) -> None:
    assert len(messages(check_regex, pattern)) == 1


@pytest.mark.parametrize(
    ("subnet", "count"), [("10.0.0.0/8", 0), ("10.1.2.3", 0), ("::/0", 0), ("10.0.0.0/33", 1), ("x", 1)]
)
def test_subnets(subnet: str, count: int) -> None:
    assert len(messages(check_cidr, subnet)) == count


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({"app": "a", "app.kubernetes.io/name": "", "a/b": "A.b_c-d"}, 0),
        ({"a b": "x"}, 1),
        ({"Upper.com/x": "x"}, 1),
        ({"x": "-a"}, 1),
        ({"x": "a" * 64}, 1),
        ({"": "x"}, 1),
    ],
)
def test_labels(labels: dict[str, str], count: int) -> None:
    assert len(messages(check_labels, labels)) == count


@pytest.mark.parametrize(
    ("name", "count"), [("mesh", 0), ("ns/gw", 0), ("gw.ns.svc.cluster.local", 0), ("*", 1), ("A B", 1)]
)
def test_gateway_names(name: str, count: int) -> None:
    assert len(messages(check_gateway_names, [name])) == count


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("*.com", "a.com", True),
        ("*.com", "*.a.com", True),
        ("*", "a", True),
        ("a", "a", False),
        ("*.com", "*.com", False),
    ],
)
def test_a_wildcard_covers_what_it_holds(pattern: str, host: str, expected: bool) -> None:
    assert covers(pattern, host) is expected
