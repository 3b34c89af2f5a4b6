"""Counters of the calls that the page makes, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from apps.common.backend import Reply

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class CallMetrics:
    """Calls and seconds by backend and result. Results are statuses and exception names, so their number is bounded."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, float] = {}
        self._lock = Lock()

    def count(self, backend: str, reply: Reply) -> None:
        with self._lock:
            self._calls[backend, reply.result] += 1
            self._seconds[backend] = self._seconds.get(backend, 0.0) + reply.milliseconds / 1000

    def render(self) -> str:
        with self._lock:
            calls, seconds = sorted(self._calls.items()), sorted(self._seconds.items())
        return "\n".join(
            (
                "# HELP request_result_total Calls of a backend by its status, or why there was none.",
                "# TYPE request_result_total counter",
                *(f'request_result_total{{destination_app="{a}",response_code="{r}"}} {n}' for (a, r), n in calls),
                "# HELP request_seconds_total Time spent in calls of a backend.",
                "# TYPE request_seconds_total counter",
                *(f'request_seconds_total{{destination_app="{a}"}} {s:.6f}' for a, s in seconds),
                "",
            )
        )
