"""The Flask application that every service starts from."""

from __future__ import annotations

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from .pod import Pod, stamp

MAX_BODY_BYTES = 64 * 1024


def create_service(import_name: str, pod: Pod) -> Flask:
    """An application that tags its responses, limits request bodies and words its errors as JSON."""
    app = Flask(import_name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it, its base class does not
    stamp(app, pod)
    app.register_error_handler(HTTPException, error)
    return app


def error(failure: HTTPException) -> Response:
    """A refusal as `{"error": ...}` with the status, and headers such as Allow kept."""
    response = jsonify(error=failure.description)
    response.status_code = failure.code or 500
    for name, value in failure.get_headers():
        if name.lower() != "content-type":
            response.headers[name] = value
    return response
