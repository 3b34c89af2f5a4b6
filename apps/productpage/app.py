"""The page and the API of Bookinfo."""

from __future__ import annotations

from flask import Flask, Response, jsonify, redirect, render_template, session, url_for
from werkzeug.wrappers import Response as Redirect

from apps.common.service import create_service

from .api import PRODUCTS, api
from .backends import Backends
from .config import Config
from .login import login
from .metrics import CONTENT_TYPE, CallMetrics
from .page import details_facts, hops, reviews_shown, sorry


def create_app(config: Config) -> Flask:
    app = create_service(__name__, config.pod)
    app.config.update(
        SECRET_KEY=config.secret,
        SESSION_COOKIE_NAME="session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
    )
    metrics = CallMetrics()
    backends = Backends(config, metrics)
    app.register_blueprint(api(backends))
    app.register_blueprint(login)
    # The first visitor need not wait for the template to compile.
    app.jinja_env.get_template("productpage.html")

    @app.get("/")
    def index() -> Redirect:
        return redirect(url_for("page"))

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="Product page is healthy")

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(metrics.render(), content_type=CONTENT_TYPE)

    @app.get("/productpage")
    def page() -> str:
        product = PRODUCTS[0]
        backends.flood_reviews(product["id"])
        details, reviews = (backends.get(name, product["id"]) for name in ("details", "reviews"))
        return render_template(
            "productpage.html",
            product=product,
            user=session.get("user", ""),
            pod=config.pod,
            details=details.body or {},
            facts=details_facts(details),
            no_details=sorry("details", details),
            reviews=reviews_shown(reviews),
            no_reviews=sorry("reviews", reviews),
            hops=hops(details, reviews),
        )

    return app
