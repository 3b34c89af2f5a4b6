"""Lines that stay, and one that passes: what a long run shows on a terminal."""

import os
import shutil
import sys
import time

import click


class Passing:
    """On a terminal the passing line is overwritten by the next one; elsewhere it is not shown at all."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        self.width = shutil.get_terminal_size((100, 24)).columns
        self.colour = self._is_terminal and "NO_COLOR" not in os.environ

    def line(self, text: str) -> None:
        """Prints for good."""
        self._clear()
        click.echo(text)

    def passing(self, text: str) -> None:
        """Shows what is going on until something else is shown."""
        if self._is_terminal:
            self._clear()
            sys.stdout.write(f"  [{time.monotonic() - self._began:5.1f} s] {text}"[: self.width - 1])
            sys.stdout.flush()

    def _clear(self) -> None:
        if self._is_terminal:
            sys.stdout.write("\r\x1b[K")
