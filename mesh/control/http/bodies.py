"""Request bodies: bounded in size, and JSON objects where JSON is asked for."""

from __future__ import annotations

import json

from aiohttp import web

from mesh.control.http.status import RequestError, bad_request

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


async def read_json_object(request: web.Request, limit: int) -> dict[str, object]:
    """The body as a JSON object. Raises RequestError 400 or 413."""
    try:
        found = json.loads(await read_body(request, limit))
    except (ValueError, RecursionError) as error:
        raise bad_request("the body is not JSON") from error
    if not isinstance(found, dict):
        raise bad_request("the body must be a JSON object")
    return found


def _too_large(limit: int) -> RequestError:
    return RequestError(413, "RequestEntityTooLarge", f"the body is larger than {limit} bytes")
