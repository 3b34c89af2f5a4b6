"""Ends Locust when its launcher is gone, also when that was killed and could say nothing."""

from __future__ import annotations

import os
import signal
import sys

import gevent
from gevent.socket import wait_read

from .plan import ENV_LIFELINE


def end_with_launcher() -> None:
    """Under a launcher, standard input is a pipe into which it writes nothing: readable means closed."""
    if os.environ.get(ENV_LIFELINE):
        gevent.spawn(_watch)


def _watch() -> None:
    wait_read(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)
