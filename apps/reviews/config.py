"""Settings of reviews. A version is a choice of stars: v1 shows none, v2 black ones, v3 red ones."""

from __future__ import annotations

from dataclasses import dataclass

from apps.common.backend import Backend
from apps.common.pod import Pod
from apps.common.settings import Settings

VERSIONS = ("v1", "v2", "v3")
COLORS = ("black", "red")
# Bookinfo's own: a patient version and a hasty one. With ratings 7 s late, v2 still waits when the product page has
# long given up, and v3 gives up in time.
TIMEOUT_SECONDS = {"black": 10.0, "red": 2.5}


@dataclass(frozen=True)
class Config:
    """`ratings` is None where stars are not shown."""

    pod: Pod
    star_color: str
    ratings: Backend | None

    @classmethod
    def read(cls, settings: Settings) -> Config:
        """From ENABLE_RATINGS and STAR_COLOR, which default to what the version stands for, and RATINGS_*."""
        pod = Pod.read(settings, VERSIONS)
        color = settings.choice("STAR_COLOR", "red" if pod.version == "v3" else "black", COLORS)
        enabled = settings.flag("ENABLE_RATINGS", pod.version != "v1")
        backend = Backend.read(settings, "ratings", TIMEOUT_SECONDS[color])
        return cls(pod, color, backend if enabled else None)
