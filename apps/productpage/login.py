"""Who is looking: a name in a signed cookie. Any name and password will do, as in Bookinfo."""

from __future__ import annotations

import re

from flask import Blueprint, Response, jsonify, redirect, request, session, url_for
from werkzeug.wrappers import Response as Redirect

# The name becomes a request header of the calls that the page makes, so it must be a plain header value.
NAME = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")

login = Blueprint("login", __name__)


@login.post("/login")
def log_in() -> Redirect | tuple[Response, int]:
    user = request.form.get("username", "").strip()
    if not NAME.fullmatch(user):
        return jsonify(error="a user name has 1 to 64 letters, digits or any of _ . @ + -"), 400
    session["user"] = user
    return redirect(url_for("page"))


@login.get("/logout")
def log_out() -> Redirect:
    session.pop("user", None)
    return redirect(url_for("page"))
