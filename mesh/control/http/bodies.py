"""Request bodies: bounded in size, and JSON in the strict sense (RFC 8259, RFC 7493) where JSON is asked for."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from aiohttp import web

from mesh.control.http.status import Cause, RequestError, bad_request

MAX_BODY_BYTES = 3 * 1024 * 1024  # Kubernetes' own limit for a request


async def read_body(request: web.Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises RequestError 413 as soon as it is known to be larger than `limit` bytes."""
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def parse_json(body: bytes) -> Any:
    """The value of a JSON text. Raises RequestError 400, also for what Python would take and JSON cannot say again.

    That is NaN, numbers beyond a double, half of a surrogate pair; and a key given twice, of which one would be lost.
    """
    try:
        text = body.decode()
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_unique)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise bad_request("the body is not JSON", [Cause(str(error))]) from error
    return value


async def read_json_object(request: web.Request, limit: int) -> dict[str, object]:
    """The body as a JSON object. Raises RequestError 400 or 413."""
    found = parse_json(await read_body(request, limit))
    if not isinstance(found, dict):
        raise bad_request("the body must be a JSON object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number that JSON can hold")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} is given twice; keep one")
    return found


def _too_large(limit: int) -> RequestError:
    return RequestError(413, "RequestEntityTooLarge", f"the body is larger than {limit} bytes")
