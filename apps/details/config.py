"""Settings of details."""

from __future__ import annotations

from dataclasses import dataclass

from apps.common.pod import Pod
from apps.common.settings import Settings

VERSIONS = ("v1",)


@dataclass(frozen=True)
class Config:
    pod: Pod

    @classmethod
    def read(cls, settings: Settings) -> Config:
        return cls(Pod.read(settings, VERSIONS))
