"""Log lines on stderr in Envoy's form, and its level names.

MUST NOT be given key material: callers log names and reasons only.
"""

from __future__ import annotations

import logging
import os
import sys
import time

TRACE = 5
OFF = logging.CRITICAL + 10

# Envoy's own names, in its order; `warn` is its alias.
LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": OFF,
}
_NAMES = {number: name for name, number in LEVELS.items() if name != "warn"}

_ROOT = "mesh.proxy"
COMPONENTS = ("admin", "config", "connection", "http", "main", "secret", "tracing", "upstream", "worker")


def logger(component: str) -> logging.Logger:
    """The logger of one of COMPONENTS."""
    return logging.getLogger(f"{_ROOT}.{component}")


def configure(level: str) -> None:
    """Send everything from `level` (a key of LEVELS) up to stderr."""
    logging.addLevelName(TRACE, "TRACE")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_EnvoyFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries: only what went wrong
    logging.getLogger(_ROOT).setLevel(LEVELS[level])


def set_level(component: str, level: str) -> None:
    logger(component).setLevel(LEVELS[level])


def levels() -> dict[str, str]:
    """Each component's level now."""
    return {name: _NAMES.get(logger(name).getEffectiveLevel(), "info") for name in COMPONENTS}


class _EnvoyFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = _NAMES.get(record.levelno, "info")
        component = record.name.rpartition(".")[2]
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return f"[{stamp}.{int(record.msecs):03d}][{os.getpid()}][{level}][{component}] {text}"
