"""Kubernetes' `Status` object: the one form in which this API says no."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Cause:
    """One problem: its field (a path in the body, or empty) and what is wrong there."""

    message: str
    field: str = ""


class RequestError(Exception):
    """A request that is refused: HTTP code, Kubernetes' reason, message for a person, and every problem found."""

    def __init__(self, code: int, reason: str, message: str, causes: Iterable[Cause] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.causes = tuple(causes)


def bad_request(message: str, causes: Iterable[Cause] = ()) -> RequestError:
    return RequestError(400, "BadRequest", message, causes)


def not_found(message: str) -> RequestError:
    return RequestError(404, "NotFound", message)


def forbidden(message: str) -> RequestError:
    return RequestError(403, "Forbidden", message)


def conflict(message: str) -> RequestError:
    return RequestError(409, "Conflict", message)


def invalid(message: str, causes: Iterable[Cause] = ()) -> RequestError:
    return RequestError(422, "Invalid", message, causes)


def failure(error: RequestError) -> dict[str, object]:
    """`error` as a Status object."""
    causes = [{"field": cause.field, "message": cause.message} for cause in error.causes]
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        "code": error.code,
        "details": {"causes": causes} if causes else {},
    }


def success(resource_version: str) -> dict[str, object]:
    """What follows from `resource_version` is done."""
    metadata = {"resourceVersion": resource_version}
    return {"kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Success"}


def failed_response(error: RequestError) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if error.code == 401 else {}
    return json_response(failure(error), error.code, headers)


def json_response(body: object, code: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(body=data, status=code, headers=headers, content_type="application/json", charset="utf-8")
