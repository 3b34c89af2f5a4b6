"""Settings of the product page."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from apps.common.backend import Backend
from apps.common.pod import Pod
from apps.common.settings import Settings

VERSIONS = ("v1",)
MAX_FLOOD = 1000


@dataclass(frozen=True)
class Config:
    """`flood_factor` is how many more calls of reviews each page makes. `secret` signs the session cookie."""

    pod: Pod
    details: Backend
    reviews: Backend
    ratings: Backend
    flood_factor: int
    secret: str

    @classmethod
    def read(cls, settings: Settings) -> Config:
        """Timeouts and tries are Bookinfo's: together they wait 6 s for reviews, less than reviews v2 may take."""
        return cls(
            pod=Pod.read(settings, VERSIONS),
            details=Backend.read(settings, "details", timeout=3),
            reviews=Backend.read(settings, "reviews", timeout=3, tries=2),
            ratings=Backend.read(settings, "ratings", timeout=3),
            flood_factor=settings.integer("FLOOD_FACTOR", 0, 0, MAX_FLOOD),
            secret=settings.text("SESSION_SECRET", secrets.token_hex()),
        )
