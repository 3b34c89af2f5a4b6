"""Path templates (`/api/{version=*}/**`) as regular expressions: `UriTemplateMatchConfig`."""

from __future__ import annotations

import re

import re2

from mesh.proxy.compile.values import BytesMatch
from mesh.proxy.fields import Place

_LETTERS = r"a-zA-Z0-9\-._~%!$&'()+,;:@="
_ONE, _MANY = f"[{_LETTERS}]+", f"([{_LETTERS}/]*)"
_VARIABLE = re.compile(r"\{([a-zA-Z][a-zA-Z0-9_]*)(?:=([^{}]*))?\}")
_LITERAL = re.compile(rf"[{_LETTERS}]+")


def uri_template(template: str, place: Place) -> BytesMatch:
    """Whether a path without query has the template's form. Raises Refused."""
    if not template.startswith("/"):
        raise place.refuse(f"{template!r} does not begin with /", "path_template")
    plain = _VARIABLE.sub(lambda found: found[2] or "*", template)
    segments = plain[1:].split("/")
    parts = [_segment(segment, template, place) for segment in segments]
    if _MANY in parts[:-1]:
        raise place.refuse(f"in {template!r} something follows **", "path_template")
    match = re2.compile(f"/{'/'.join(parts)}".encode()).fullmatch
    return lambda path: match(path) is not None


def _segment(segment: str, template: str, place: Place) -> str:
    """`*` is one segment or the rest of one after a literal, `**` any number of them."""
    if segment == "**":
        return _MANY
    if segment in ("*", ""):
        return _ONE if segment else ""
    for literal, wild in ((segment, ""), (segment[:-2], _MANY), (segment[:-1], _ONE)):
        if _LITERAL.fullmatch(literal) and segment in (literal, f"{literal}**", f"{literal}*"):
            return re.escape(literal) + wild
    raise place.refuse(f"{template!r} is no path template", "path_template")
