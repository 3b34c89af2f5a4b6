from pathlib import Path

import pytest

from mesh.cli.logs import blocks, start_of_tail
from mesh.platforms.process.logs import rotate, tail

LINES = [f"line {number}\n".encode() for number in range(20_000)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "a.log"
    file.write_bytes(b"".join(LINES))
    return file


@pytest.mark.parametrize("lines", [0, 1, 2, 7000, 19_999, 20_000, 30_000])
def test_the_tail_is_the_last_lines_whole(log: Path, lines: int) -> None:
    assert log.read_bytes()[start_of_tail(log, lines) :] == b"".join(LINES[len(LINES) - min(lines, len(LINES)) :])


def test_a_last_line_that_is_not_ended_counts_as_one(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"one\ntwo\nthr")
    assert b"".join(blocks(file, 2, follow=False)) == b"two\nthr"


def test_no_file_is_no_output(tmp_path: Path) -> None:
    assert list(blocks(tmp_path / "none", None, follow=False)) == []
    assert tail(tmp_path / "none", 5) == []


def test_following_goes_on_after_the_log_was_cut(log: Path) -> None:
    followed = blocks(log, 1, follow=True)
    assert next(followed) == LINES[-1]
    with log.open("ab") as writer:
        writer.write(b"more\n")
        writer.flush()
        assert next(followed) == b"more\n"
        assert rotate(log, max_bytes=10)
        writer.write(b"after\n")
        writer.flush()
        assert next(followed) == b"after\n"
    assert log.with_name("a.log.1").read_bytes().endswith(b"more\n")


def test_a_small_log_is_not_rotated(log: Path) -> None:
    assert not rotate(log)
    assert tail(log, 2) == ["line 19998", "line 19999"]
