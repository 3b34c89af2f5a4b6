"""GET /reviews/{id}: what two readers thought of a book, with their stars where this version shows them."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify, request

from apps.common.backend import Client, Reply
from apps.common.propagation import END_USER, propagated
from apps.common.service import create_service

from .config import Config

TEXTS = {
    "Reviewer1": "Two pairs of twins, one day, one town: nobody knows who is who, and I laughed to the last page.",
    "Reviewer2": "Quick, loud and light on its feet. It wants less thought than his other plays, and is better for it.",
}
NO_RATINGS = "Ratings service is currently unavailable"


def create_app(config: Config) -> Flask:
    app = create_service(__name__, config.pod)
    client = Client(config.ratings) if config.ratings else None

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="Reviews is healthy")

    @app.get("/reviews/<int:product_id>")
    def reviews(product_id: int) -> Response:
        reply = client.get(f"/ratings/{product_id}", propagated(request.headers, END_USER)) if client else None
        return jsonify(id=str(product_id), **config.pod.tag(), **_reviews(reply, config.star_color))

    @app.get("/reviews/<product_id>")
    def not_a_number(product_id: str) -> tuple[Response, int]:
        return jsonify(error="please provide numeric product ID"), 400

    return app


def _reviews(reply: Reply | None, color: str) -> dict[str, Any]:
    if reply is None:
        return {"reviews": [{"reviewer": name, "text": text} for name, text in TEXTS.items()]}
    return {
        "reviews": [
            {"reviewer": name, "text": text, "rating": _rating(reply, name, color)} for name, text in TEXTS.items()
        ],
        "ratings_podname": reply.served_by,
        "ratings_version": reply.served_version,
        "ratings_milliseconds": round(reply.milliseconds, 1),
    }


def _rating(reply: Reply, reviewer: str, color: str) -> dict[str, Any]:
    """One reviewer's stars, or the words for ratings that did not come or do not know the reviewer."""
    stars = reply.body.get("ratings") if reply.body else None
    value = stars.get(reviewer) if isinstance(stars, dict) else None
    return {"stars": value, "color": color} if type(value) is int else {"error": NO_RATINGS}
