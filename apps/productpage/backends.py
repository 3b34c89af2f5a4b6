"""The three services behind the page, and the words for when one of them fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from flask import request, session
from werkzeug.datastructures import Headers

from apps.common.backend import Backend, Client, Reply
from apps.common.propagation import END_USER, propagated

from .config import Config
from .metrics import CallMetrics

SORRY = {
    "details": "Sorry, product details are currently unavailable for this book.",
    "reviews": "Sorry, product reviews are currently unavailable for this book.",
    "ratings": "Sorry, product ratings are currently unavailable for this book.",
}
FLOOD_THREADS = 32


class Backends:
    """Calls made for the request that Flask is serving, with its headers handed on."""

    def __init__(self, config: Config, metrics: CallMetrics) -> None:
        self._metrics = metrics
        self._clients = {backend.name: Client(backend) for backend in _backends(config)}
        self._flood_factor = config.flood_factor
        self._flood = ThreadPoolExecutor(FLOOD_THREADS, "flood")

    def get(self, name: str, product_id: int) -> Reply:
        return self._call(name, product_id, _headers(request.headers))

    def flood_reviews(self, product_id: int) -> None:
        """FLOOD_FACTOR more calls of reviews at the same time; returns when all are answered."""
        headers = _headers(request.headers)
        calls = [self._flood.submit(self._call, "reviews", product_id, headers) for _ in range(self._flood_factor)]
        for call in calls:
            call.result()

    def _call(self, name: str, product_id: int, headers: dict[str, str]) -> Reply:
        reply = self._clients[name].get(f"/{name}/{product_id}", headers)
        self._metrics.count(name, reply)
        return reply


def _backends(config: Config) -> tuple[Backend, ...]:
    return config.details, config.reviews, config.ratings


def _headers(incoming: Headers) -> dict[str, str]:
    """The page is where users come from, so who they are is what the session says, never what a client claims."""
    user = session.get("user")
    return propagated(incoming) | ({END_USER: user} if user else {})
