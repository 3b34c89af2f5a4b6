"""Single checks that several kinds share. Each adds its problem at a `Place`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import re2

from mesh.api.meta import WorkloadSelector
from mesh.config.problems import Path, ProblemList

MAX_PORT: Final = 65535
MAX_REGEX: Final = 1024
"""Istio's limit: Envoy bounds the size of the compiled program, which is never smaller than the text."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST_LABEL = re.compile(r"[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_COMMAND = re.compile(r"%%|%[A-Z0-9_]+(\([^)]*\))?(:[0-9]+)?%")
_MILLISECOND = timedelta(milliseconds=1)
_LONGEST = timedelta(seconds=2**63 // 10**9)


@dataclass(frozen=True, slots=True)
class Place:
    """A path being checked, and where its problems go. `place / "http" / 0` is the place further in."""

    problems: ProblemList
    path: Path = ()

    def __truediv__(self, step: str | int) -> Place:
        return Place(self.problems, (*self.path, step))

    def refuse(self, message: str) -> None:
        self.problems.add(self.path, message)


def is_dns_label(text: str) -> bool:
    """RFC 1123, lower case, at most 63 characters."""
    return _DNS_LABEL.fullmatch(text) is not None


def is_dns_name(text: str) -> bool:
    """A dotted name in lower case, at most 253 characters, as Kubernetes wants object names."""
    return len(text) <= 253 and all(is_dns_label(label) for label in text.split("."))


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_ipv4(text: str) -> bool:
    return is_address(text) and ":" not in text


def is_host(text: str) -> bool:
    """A domain name with at most one leading wildcard: `reviews`, `a.b.c`, `*.b.c`, `*-x.b.c`, `*`."""
    bare = text.removesuffix(".")
    if bare == "*":
        return True
    first, *rest = bare.split(".")
    labels = rest if first == "*" else [first.removeprefix("*-").removeprefix("*"), *rest]
    return 0 < len(bare) <= 255 and all(_HOST_LABEL.fullmatch(label) for label in labels)


def check_keys(keys: Iterable[str], at: Place) -> None:
    """Of a ConfigMap or Secret. They may become the names of files."""
    for key in keys:
        if not _KEY.fullmatch(key) or key in (".", "..") or key.startswith(".."):
            (at / key).refuse('a key must consist of letters, digits, "-", "_" and ".", and not begin with ".."')


def check_host(host: str, at: Place) -> None:
    """Istio's ValidateWildcardDomain."""
    if not host:
        at.refuse("must not be empty")
    elif not is_host(host):
        at.refuse(f'"{host}" is not a host name; it may hold letters, digits, "-", "." and one "*" at its start')


def check_port(number: int, at: Place) -> None:
    if not 1 <= number <= MAX_PORT:
        at.refuse(f"the port {number} is not between 1 and {MAX_PORT}")


def check_duration(duration: timedelta | None, at: Place) -> None:
    """Istio's ValidateDuration: at least a millisecond; and what 64 bits of nanoseconds hold, as Go and Envoy count."""
    if duration is not None and duration < _MILLISECOND:
        at.refuse("must be at least 1ms")
    if duration is not None and duration >= _LONGEST:
        at.refuse("must be less than 292 years, which is all that a proxy can count")


def check_non_negative(number: int, at: Place) -> None:
    if number < 0:
        at.refuse(f"must not be negative, not {number}")


def check_percent(number: float, at: Place) -> None:
    if not 0 <= number <= 100:
        at.refuse(f"must be between 0 and 100, not {number:g}")


def check_regex(pattern: str, at: Place) -> None:
    """RE2, as Envoy compiles it."""
    if not pattern:
        at.refuse("must not be empty")
    elif len(pattern) > MAX_REGEX:
        at.refuse(f"the regular expression is longer than {MAX_REGEX} characters")
    else:
        try:
            re2.compile(pattern, _QUIET)
        except re2.error as error:
            reason = error.args[0] if error.args else ""
            reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            at.refuse(f'"{pattern}" is not an RE2 regular expression: {reason}')


def _quiet_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


_QUIET = _quiet_options()


def check_cidr(text: str, at: Place) -> None:
    """An address, with a prefix length or without."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        at.refuse(f'"{text}" is not an IP address or CIDR range such as 10.0.0.0/8')


def check_labels(labels: Mapping[str, str], at: Place) -> None:
    """Kubernetes' syntax of label keys and values."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if not _LABEL_NAME.fullmatch(name) or (slash and not is_dns_name(prefix)):
            (at / key).refuse(f'"{key}" is not a label key')
        if not _LABEL_VALUE.fullmatch(value):
            (at / key).refuse(f'"{value}" is not a label value: at most 63 letters, digits, "-", "_" and "."')


def check_header_name(name: str, at: Place) -> None:
    if not _HEADER_NAME.fullmatch(name):
        at.refuse(f'"{name}" is not a header name')


def check_header_value(value: str, at: Place) -> None:
    """No control characters; Envoy reads `%NAME%` as a command, so a lone percent sign is written `%%`."""
    if _CONTROL.search(value):
        at.refuse("must not hold control characters")
    if "%" in _COMMAND.sub("", value):
        at.refuse('holds a lone "%"; write "%%" for the sign itself')


def check_subset_name(name: str, at: Place) -> None:
    if not is_dns_label(name):
        at.refuse(f'the subset name "{name}" must be lower-case letters, digits and "-", at most 63 of them')


def check_export_to(namespaces: Iterable[str], own: str, at: Place) -> None:
    """`*`, `.`, or namespaces; `*` stands alone."""
    seen: set[str] = set()
    given = list(namespaces)
    for index, namespace in enumerate(given):
        key = own if namespace == "." else namespace
        if namespace not in ("*", ".") and not is_dns_label(namespace):
            (at / index).refuse(f'"{namespace}" is not a namespace, "." or "*"')
        if key in seen:
            (at / index).refuse(f'"{namespace}" is given twice')
        seen.add(key)
    if "*" in seen and len(given) > 1:
        at.refuse('"*" already exports to every namespace; leave the others out')


def check_gateway_names(names: Iterable[str], at: Place) -> None:
    """`name` or `namespace/name`."""
    for index, reference in enumerate(names):
        namespace, slash, name = reference.rpartition("/")
        if not is_host(name) or "*" in name or (slash and not is_dns_label(namespace)):
            (at / index).refuse(f'"{reference}" is not a gateway; write <name> or <namespace>/<name>')


def check_selector(selector: WorkloadSelector | None, at: Place) -> None:
    for key, value in (selector.match_labels if selector else {}).items():
        if not key:
            (at / "matchLabels").refuse("a label key must not be empty")
        if "*" in key or "*" in value:
            (at / "matchLabels" / key).refuse("wildcards do not work in selectors; name the label's whole value")
