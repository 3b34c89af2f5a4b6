"""The stars that reviewers gave, in memory."""

from __future__ import annotations

from threading import Lock

MAX_PRODUCTS = 1000
MAX_REVIEWERS = 100
MAX_STARS = 5

Stars = dict[str, int]


class StoreFullError(Exception):
    """Ratings of as many products as memory is kept for are stored already."""


class InvalidStarsError(ValueError):
    """What was posted does not map reviewers to stars."""


class Store:
    """Ratings by product. A product that nobody rated has Bookinfo's two ratings."""

    def __init__(self) -> None:
        self._stars: dict[int, Stars] = {}
        self._lock = Lock()

    def get(self, product_id: int) -> Stars:
        return self._stars.get(product_id, {"Reviewer1": 5, "Reviewer2": 4})

    def put(self, product_id: int, stars: Stars) -> None:
        """Replace a product's ratings; raises StoreFullError."""
        with self._lock:
            if product_id not in self._stars and len(self._stars) >= MAX_PRODUCTS:
                raise StoreFullError(f"ratings of {MAX_PRODUCTS} products are stored already")
            self._stars[product_id] = stars


def parse_stars(body: object) -> Stars:
    """Decoded JSON as stars by reviewer; raises InvalidStarsError."""
    if not isinstance(body, dict) or len(body) > MAX_REVIEWERS:
        raise InvalidStarsError(f"want an object of at most {MAX_REVIEWERS} reviewers")
    for reviewer, stars in body.items():
        if type(stars) is not int or not 0 <= stars <= MAX_STARS:
            raise InvalidStarsError(f"{reviewer}: stars are a whole number from 0 to {MAX_STARS}")
    return body
