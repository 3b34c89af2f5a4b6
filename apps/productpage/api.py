"""/api/v1/products: the book, its details, reviews and ratings as JSON, with the backend's status and name tag."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from apps.common.backend import Reply
from apps.common.pod import SERVED_BY, SERVED_VERSION

from .backends import SORRY, Backends

PRODUCTS: list[dict[str, Any]] = [
    {
        "id": 0,
        "title": "The Comedy of Errors",
        "description": (
            "Two sets of twins, parted at sea, come to the same town on the same day, and nobody can tell them apart. "
            "Shakespeare's shortest play, and one of his first."
        ),
    }
]


def api(backends: Backends) -> Blueprint:
    blueprint = Blueprint("api", __name__, url_prefix="/api/v1/products")

    @blueprint.get("")
    def products() -> Response:
        return jsonify(PRODUCTS)

    @blueprint.get("/<int:product_id>")
    def details(product_id: int) -> Response:
        return _passed_on("details", backends.get("details", product_id))

    @blueprint.get("/<int:product_id>/<any(reviews, ratings):name>")
    def opinions(product_id: int, name: str) -> Response:
        return _passed_on(name, backends.get(name, product_id))

    return blueprint


def _passed_on(name: str, reply: Reply) -> Response:
    """The backend's body, status and tag. Where no answer came the status is 500, as in Bookinfo."""
    response = jsonify(reply.body if reply.ok else {"error": SORRY[name], "reason": reply.failure})
    response.status_code = _status(reply)
    for header, value in ((SERVED_BY, reply.served_by), (SERVED_VERSION, reply.served_version)):
        if value:
            response.headers[header] = value
    return response


def _status(reply: Reply) -> int:
    """A 200 that held no JSON is a bad gateway, not a success."""
    if reply.ok:
        return 200
    if reply.status is None:
        return 500
    return 502 if reply.status < 400 else reply.status
