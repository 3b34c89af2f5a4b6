"""Path normalisation, as Envoy's `normalize_path` and `merge_slashes` do it (RFC 3986 sections 5.2.4 and 6.2.2).

Once escapes are read, a dot segment with parameters (`..;x`) is one, whether its dots were escaped or not: Envoy takes
only plain ones for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_NEEDS_WORK = re.compile(rb"/\.|//|[%\\\"<>^`{|}]")
_UNSAFE = re.compile(rb"[\"<>^`{|}]")
_DOT_PARAMETERS = re.compile(rb"(?<=/)(\.\.?);[^/]*")  # some servers take them off before they look at the dots
_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SLASHES = re.compile(rb"/{2,}")


def normalizer(*, normalize: bool, merge_slashes: bool) -> Callable[[bytes], bytes] | None:
    """A function from request target to request target; None if nothing is to be done."""
    if not normalize and not merge_slashes:
        return None

    def apply(target: bytes) -> bytes:
        if _NEEDS_WORK.search(target) is None:
            return target
        path, question, query = target.partition(b"?")
        if normalize:
            path = _DOT_PARAMETERS.sub(rb"\1", _ESCAPE.sub(_unescaped, path))
            path = _UNSAFE.sub(_escaped, _without_dots(path.replace(b"\\", b"/")))
        if merge_slashes:
            path = _SLASHES.sub(b"/", path)
        return path + question + query

    return apply


def _unescaped(escape: re.Match[bytes]) -> bytes:
    value = int(escape[1], 16)
    return bytes((value,)) if value in _UNRESERVED else escape[0]


def _escaped(unsafe: re.Match[bytes]) -> bytes:
    return b"%%%02X" % unsafe[0][0]


def _without_dots(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments and segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
