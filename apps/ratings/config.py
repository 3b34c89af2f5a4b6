"""Settings of ratings: v1, v2 with a database, and four versions that misbehave on purpose."""

from __future__ import annotations

from dataclasses import dataclass

from apps.common.pod import Pod
from apps.common.settings import Settings

from .database import DatabaseConfig

VERSIONS = ("v1", "v2", "v-faulty", "v-delayed", "v-unavailable", "v-unhealthy")
ALTERNATE_SECONDS = {"v-unavailable": 60.0, "v-unhealthy": 900.0}


@dataclass(frozen=True)
class Config:
    """`fault_percent` and `delay_seconds` count for v-faulty and v-delayed, `alternate_seconds` for the other two.

    With `fault_first` v-faulty fails exactly its first so many requests and none after, instead of a share of all.
    `database` is v2's.
    """

    pod: Pod
    fault_percent: float
    fault_first: int
    delay_seconds: float
    alternate_seconds: float
    database: DatabaseConfig | None

    @classmethod
    def read(cls, settings: Settings) -> Config:
        pod = Pod.read(settings, VERSIONS)
        return cls(
            pod=pod,
            fault_percent=settings.number("FAULT_PERCENT", 50, 0, 100),
            fault_first=settings.integer("FAULT_FIRST", 0, 0, 1_000_000),
            delay_seconds=settings.number("DELAY_SECONDS", 7, 0, 3600),
            alternate_seconds=settings.number(
                "ALTERNATE_SECONDS", ALTERNATE_SECONDS.get(pod.version, 60.0), 0.01, 86400
            ),
            database=DatabaseConfig.read(settings) if pod.version == "v2" else None,
        )
