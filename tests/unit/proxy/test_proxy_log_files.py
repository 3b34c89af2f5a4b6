"""Access log files: gathered lines, and rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesh.proxy.observe.access_log import FLUSH_ABOVE, LogFiles


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        told: list[str] = []
        files = LogFiles(asyncio.get_running_loop(), told.append)
        path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
        log = files.open(str(path))
        log.write("before\n")
        path.rename(moved)
        files.reopen()
        log.write("after\n")
        files.close()
        assert (moved.read_text(), path.read_text(), told) == ("before\n", "after\n", [])

    asyncio.run(scene())


def test_a_file_that_cannot_be_opened_anew_is_kept(tmp_path: Path) -> None:
    async def scene() -> None:
        told: list[str] = []
        folder = tmp_path / "logs"
        folder.mkdir()
        files = LogFiles(asyncio.get_running_loop(), told.append)
        log = files.open(str(folder / "access.log"))
        folder.rename(tmp_path / "elsewhere")
        files.reopen()
        log.write("still here\n")
        files.close()
        assert (tmp_path / "elsewhere" / "access.log").read_text() == "still here\n"
        assert told == [f"access log {folder / 'access.log'}: cannot reopen: No such file or directory"]

    asyncio.run(scene())


def test_many_lines_do_not_wait_for_the_timer(tmp_path: Path) -> None:
    async def scene() -> None:
        files = LogFiles(asyncio.get_running_loop(), print)
        log = files.open(str(tmp_path / "access.log"))
        log.write("x" * FLUSH_ABOVE)
        assert (tmp_path / "access.log").read_text() == ""
        log.write("x")
        assert len((tmp_path / "access.log").read_text()) == FLUSH_ABOVE + 1
        files.close()

    asyncio.run(scene())
