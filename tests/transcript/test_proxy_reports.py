"""Reports of spans to collectors that do not answer, or not to the end."""

from __future__ import annotations

import pytest

from mesh.proxy.observe.counters import ZipkinStats
from mesh.proxy.observe.tracing.reporter import FLUSH_ABOVE, Collector, Reporter
from tests.transcript.proxy_stage import Stage, play

TO_APP = '{match: {prefix: "/"}, route: {cluster: app}}'


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "reports_dropped"),
        (b"HTTP/1.1 20", "reports_dropped"),
        (b"HTTP/1.1 202 OK\r\ncontent-length: 5\r\n\r\nab", "reports_failed"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", "reports_dropped"),
        (b"HTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n", "reports_sent"),
    ],
)
def test_a_report_is_counted_by_how_far_its_answer_came(answer: bytes, told: str) -> None:
    async def scene() -> None:
        stage, stats = Stage(TO_APP), ZipkinStats()
        reporter = Reporter(Collector("app", "h", "/spans", (), 5.0), b"".join, stats)
        for _ in range(FLUSH_ABOVE):
            reporter.add(stage.worker, b"{}")
        upstream = await stage.upstream()
        if answer:
            upstream.comes(answer)
        upstream.ends()
        counted = {name: getattr(stats, name) for name in ("reports_sent", "reports_failed", "reports_dropped")}
        assert counted == {**dict.fromkeys(counted, 0), told: 1}

    play(scene)
