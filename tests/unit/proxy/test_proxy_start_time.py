"""%START_TIME% of a log line, which is worked out from the request's own start and a second that is kept."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from mesh.proxy.compile.substitution import compile_text
from mesh.proxy.fields import Place

# The proxy reads two clocks one after the other, so a stall between them shows; what may go wrong is a whole second.
_SLACK_S = 0.5


@pytest.mark.parametrize(
    "ages",
    [(0.0, 0.0), (5.0, 0.0), (0.0, 5.0), (0.3, 0.6, 0.9, 1.2), (3600.0, 0.0, 3600.0)],
    ids=["together", "in order", "out of order", "over a second's end", "far apart"],
)
def test_each_start_is_told_for_itself(ages: tuple[float, ...]) -> None:
    """Whatever was logged before, a line says when its own request began."""
    render = compile_text("%START_TIME%", Place("Listener", "l"))
    for age in ages:
        earliest = time.time() - age
        stream = SimpleNamespace(started=time.monotonic() - age)
        latest = time.time() - age
        told = datetime.strptime(render(stream), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()
        assert earliest - _SLACK_S <= told <= latest + _SLACK_S
