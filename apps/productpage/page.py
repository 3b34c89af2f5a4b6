"""What the template shows, from what the backends said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.common.backend import Reply

from .backends import SORRY

MAX_STARS = 5
FACTS = (
    ("type", "Format"),
    ("pages", "Pages"),
    ("publisher", "Publisher"),
    ("language", "Language"),
    ("year", "Year"),
    ("ISBN-10", "ISBN-10"),
    ("ISBN-13", "ISBN-13"),
)


@dataclass(frozen=True)
class Hop:
    """A call as the page shows it; `milliseconds` is None if it was not made, `note` says why it has no answer."""

    name: str
    version: str
    pod: str
    milliseconds: float | None
    note: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.note) and self.milliseconds is not None

    @property
    def time(self) -> str:
        """Milliseconds while they read well, then seconds."""
        if self.milliseconds is None:
            return ""
        return f"{self.milliseconds:.0f} ms" if self.milliseconds < 1000 else f"{self.milliseconds / 1000:.1f} s"


def details_facts(reply: Reply) -> list[tuple[str, Any]]:
    body = reply.body or {}
    return [(label, body[key]) for key, label in FACTS if key in body]


def reviews_shown(reply: Reply) -> list[dict[str, Any]]:
    """Each with `reviewer`, `text`, and `stars` and `color`, or `error`, or none of them."""
    reviews = (reply.body or {}).get("reviews")
    return [_review(review) for review in reviews if isinstance(review, dict)] if isinstance(reviews, list) else []


def _review(review: dict[str, Any]) -> dict[str, Any]:
    rating = review.get("rating")
    shown: dict[str, Any] = {key: str(review.get(key, "")) for key in ("reviewer", "text")}
    if not isinstance(rating, dict):
        return shown
    if type(rating.get("stars")) is int:
        color = "red" if rating.get("color") == "red" else "black"
        return shown | {"stars": min(max(rating["stars"], 0), MAX_STARS), "color": color}
    return shown | {"error": rating.get("error", "")}


def hops(details: Reply, reviews: Reply) -> list[Hop]:
    """The services that this page came from, in the order they were called."""
    return [_hop("details", details), _hop("reviews", reviews), _ratings_hop(reviews)]


def _hop(name: str, reply: Reply) -> Hop:
    body = reply.body or {}
    version = str(body.get("version") or reply.served_version)
    pod = str(body.get("podname") or reply.served_by)
    return Hop(name, version, pod, reply.milliseconds, reply.failure)


def _ratings_hop(reviews: Reply) -> Hop:
    """Ratings are called by reviews, so what is known of them is what reviews tell."""
    body = reviews.body or {}
    took = body.get("ratings_milliseconds")
    if not isinstance(took, int | float):
        return Hop("ratings", "", "", None, "not called" if reviews.ok else "unknown")
    failed = any("error" in review for review in reviews_shown(reviews))
    version, pod = (str(body.get(key, "")) for key in ("ratings_version", "ratings_podname"))
    return Hop("ratings", version, pod, float(took), "failed" if failed else "")


def sorry(name: str, reply: Reply) -> str:
    return "" if reply.ok else SORRY[name]
