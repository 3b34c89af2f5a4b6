"""What stands behind the question mark."""

from __future__ import annotations

import math
import re

from mesh.control.http.status import Cause, bad_request

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._/-]*)\s*==?\s*([A-Za-z0-9._-]*)\s*")


def parse_selector(text: str) -> dict[str, str]:
    """`a=b,c==d` as labels that must all be there; empty text selects everything. Raises RequestError."""
    labels: dict[str, str] = {}
    for requirement in text.split(",") if text.strip() else []:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            problem = Cause(f"cannot read {requirement.strip()!r}: write name=value, joined by commas", "labelSelector")
            raise bad_request("labelSelector is not understood", [problem])
        labels[match[1]] = match[2]
    return labels


def parse_version(text: str) -> int:
    """A resourceVersion. Clients must treat it as opaque, so a number is all that it can be. Raises RequestError."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        problem = Cause("must be one that this API gave out", "resourceVersion")
        raise bad_request("resourceVersion is not understood", [problem])
    return int(text)


def parse_timeout_s(text: str, longest_s: float) -> float:
    """A number of seconds from 0 to `longest_s`. Raises RequestError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= longest_s:
        problem = Cause(f"must be a number of seconds from 0 to {longest_s:g}", "timeoutSeconds")
        raise bad_request("timeoutSeconds is not a time to wait", [problem])
    return seconds
