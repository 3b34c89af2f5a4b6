"""Settings of the echo."""

from __future__ import annotations

from dataclasses import dataclass

from apps.common.settings import Settings


@dataclass(frozen=True)
class Config:
    """`prefix` is the word before each line."""

    host: str
    port: int
    prefix: str

    @classmethod
    def read(cls, settings: Settings) -> Config:
        """From HOST, PORT and PREFIX."""
        return cls(
            host=settings.text("HOST", "0.0.0.0"),  # noqa: S104  # the pod's network is the boundary
            port=settings.integer("PORT", 9000, 0, 65535),
            prefix=settings.text("PREFIX", "echo"),
        )
