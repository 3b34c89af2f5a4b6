"""Settings of a service from its environment, read once at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class SettingError(Exception):
    """An environment variable holds what the service cannot use; the message names it and what is accepted."""


@dataclass(frozen=True)
class Settings:
    """Typed reads of environment variables. A variable that is unset or empty has its default."""

    environ: Mapping[str, str]

    def text(self, name: str, default: str) -> str:
        return self.environ.get(name) or default

    def choice(self, name: str, default: str, known: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in known:
            raise SettingError(f"{name}={value!r} is unknown; known are: {', '.join(known)}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        return self.choice(name, str(default).lower(), ("true", "false")) == "true"

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.text(name, str(default))
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise SettingError(f"{name}={value!r} is not a whole number from {low} to {high}")
        return int(value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise SettingError(f"{name}={value!r} is not a number from {low:g} to {high:g}")
        return number
