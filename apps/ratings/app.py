"""GET and POST /ratings/{id}: how many stars each reviewer gave."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from apps.common.service import create_service

from .config import Config
from .database import Database, DatabaseError, NoRatingsError
from .faults import FAULTS
from .store import InvalidStarsError, Store, StoreFullError, parse_stars


def create_app(config: Config) -> Flask:
    app = create_service(__name__, config.pod)
    fault = FAULTS[config.pod.version](config)
    database = Database(config.database) if config.database else None
    store = Store()

    def answer(product_id: int) -> Response:
        return jsonify(id=product_id, ratings=(database or store).get(product_id), **config.pod.tag())

    @app.get("/health")
    def health() -> tuple[Response, int]:
        if fault.is_healthy():
            return jsonify(status="Ratings is healthy"), 200
        return jsonify(status="Ratings is not healthy"), 500

    @app.get("/ratings/<int:product_id>")
    def ratings(product_id: int) -> Response | tuple[Response, int]:
        if not fault.is_available():
            return jsonify(error="Service unavailable", **config.pod.tag()), 503
        return answer(product_id)

    @app.errorhandler(DatabaseError)
    def no_answer(error: DatabaseError) -> tuple[Response, int]:
        app.logger.warning("%s: %s: %s", config.database, error, error.__cause__)
        return jsonify(error=str(error), **config.pod.tag()), 500

    @app.errorhandler(NoRatingsError)
    def no_rows(error: NoRatingsError) -> tuple[Response, int]:
        return jsonify(error=str(error), **config.pod.tag()), 404

    @app.post("/ratings/<int:product_id>")
    def rate(product_id: int) -> Response | tuple[Response, int]:
        if database:
            return jsonify(error="Post not implemented for database backed ratings"), 501
        try:
            store.put(product_id, parse_stars(request.get_json(force=True, silent=True)))
        except InvalidStarsError as error:
            return jsonify(error=f"please provide valid ratings JSON: {error}"), 400
        except StoreFullError as error:
            return jsonify(error=str(error)), 507
        return answer(product_id)

    @app.route("/ratings/<product_id>", methods=["GET", "POST"])
    def not_a_number(product_id: str) -> tuple[Response, int]:
        return jsonify(error="please provide numeric product ID"), 400

    return app
