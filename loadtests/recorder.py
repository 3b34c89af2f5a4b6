"""Writes Locust's request events to the file that the launcher reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gevent
from locust import events

from .events import Event, EventLog
from .plan import ENV_EVENTS

FLUSH_SECONDS = 0.2


def record() -> None:
    """Record to the file that MESHDRILL_EVENTS names; without it, nothing."""
    path = os.environ.get(ENV_EVENTS)
    if not path:
        return
    log = EventLog(Path(path))
    flusher = gevent.spawn(_flush_forever, log)

    def on_request(**fired: Any) -> None:
        log.add(_event(**fired))

    def on_quit(**_: Any) -> None:
        flusher.kill()
        events.request.remove_listener(on_request)
        log.close()

    events.request.add_listener(on_request)
    events.quit.add_listener(on_quit)


def _flush_forever(log: EventLog) -> None:
    while True:
        gevent.sleep(FLUSH_SECONDS)
        log.flush()


def _event(
    *, request_type: str, name: str, start_time: float, response_time: float, response: Any, exception: Any, **_: Any
) -> Event:
    headers = getattr(response, "headers", None) or {}
    return Event(
        start=start_time,
        ms=round(response_time, 3),
        method=request_type,
        name=name,
        status=getattr(response, "status_code", 0) or 0,
        served_by=headers.get("x-served-by", ""),
        served_version=headers.get("x-served-version", ""),
        error=str(exception) if exception else "",
    )
