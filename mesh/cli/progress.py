"""Progress of a mesh that comes up: one line that changes on a terminal, a line a change elsewhere."""

import os
import sys
import time

_MAX_NAMES = 4


class TerminalProgress:
    """See `mesh.platforms.startup.Progress`. `began` is of the monotonic clock; `page` is the path to show."""

    def __init__(self, began: float, page: str) -> None:
        self._began = began
        self._page = page
        self._shown = ""
        self._is_terminal = sys.stdout.isatty()

    def say(self, message: str) -> None:
        self._show(message)

    def pods(self, ready: int, total: int, waiting: list[str]) -> None:
        names = ", ".join(waiting[:_MAX_NAMES]) + (", ..." if len(waiting) > _MAX_NAMES else "")
        self._show(f"pods ready {ready}/{total}" + (f", waiting for {names}" if names and total else ""))

    def ready(self, url: str) -> None:
        self._show("ready")
        self._end_line()
        print(f"{url}{self._page}", flush=True)

    def _show(self, text: str) -> None:
        if text == self._shown:
            return
        self._shown = text
        line = f"[{time.monotonic() - self._began:5.1f} s] {text}"
        if self._is_terminal:
            width = os.get_terminal_size(sys.stdout.fileno()).columns
            sys.stdout.write(f"\r\x1b[K{line[: width - 1]}")
        else:
            sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def _end_line(self) -> None:
        if self._is_terminal:
            sys.stdout.write("\n")
