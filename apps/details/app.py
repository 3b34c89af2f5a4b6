"""GET /details/{id}: what is printed inside a book's cover."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from apps.common.service import create_service

from .config import Config

BOOK = {
    "author": "William Shakespeare",
    "year": 1595,
    "type": "paperback",
    "pages": 200,
    "publisher": "PublisherA",
    "language": "English",
    "ISBN-10": "1234567890",
    "ISBN-13": "123-1234567890",
}


def create_app(config: Config) -> Flask:
    app = create_service(__name__, config.pod)

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="Details is healthy")

    @app.get("/details/<int:product_id>")
    def details(product_id: int) -> Response:
        return jsonify(id=product_id, **BOOK, **config.pod.tag())

    @app.get("/details/<product_id>")
    def not_a_number(product_id: str) -> tuple[Response, int]:
        return jsonify(error="please provide numeric product id"), 400

    return app
