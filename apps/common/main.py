"""The command line of a service: settings in, server up, and an error that names the variable at fault."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from flask import Flask

from .server import Listen, serve
from .settings import SettingError, Settings

Config = TypeVar("Config")


def main(
    name: str, read: Callable[[Settings], Config], create_app: Callable[[Config], Flask], threads: int = 16
) -> int:
    """Run a service from its environment; the exit code. 2 is a setting that cannot be used, 1 a busy address."""
    settings = Settings(os.environ)
    try:
        config, listen = read(settings), Listen.read(settings, threads)
    except SettingError as error:
        return _fail(name, str(error), 2)
    try:
        serve(create_app(config), listen, name)
    except OSError as error:
        return _fail(name, f"cannot listen on {listen.host}:{listen.port}: {error.strerror}", 1)
    return 0


def _fail(name: str, message: str, code: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)  # noqa: T201
    return code
