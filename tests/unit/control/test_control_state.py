"""The state folder: made private, owned by one process, refused when others could read it."""

import os
import stat
from pathlib import Path

import pytest

from mesh.control.errors import SetupError
from mesh.control.state import open_state


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with open_state(tmp_path / "deep" / "mesh") as state:
            token = state.admin_token()
    finally:
        os.umask(mask)
    assert mode(tmp_path / "deep" / "mesh") == 0o700
    assert mode(tmp_path / "deep" / "mesh" / "token") == 0o600
    assert len(token) >= 32


def test_the_token_stays_the_same(tmp_path: Path) -> None:
    tokens = set()
    for _ in range(2):
        with open_state(tmp_path / "mesh") as state:
            tokens |= {state.admin_token(), state.admin_token()}
    assert tokens == {(tmp_path / "mesh" / "token").read_text().strip()}


def test_two_meshes_have_different_tokens(tmp_path: Path) -> None:
    with open_state(tmp_path / "a") as one, open_state(tmp_path / "b") as other:
        assert one.admin_token() != other.admin_token()


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    with open_state(tmp_path / "mesh"), pytest.raises(SetupError, match="in use by another control plane"):
        open_state(tmp_path / "mesh")
    with open_state(tmp_path / "mesh"):
        pass


@pytest.mark.parametrize("open_to", [0o750, 0o701, 0o777])
def test_a_folder_open_to_others_is_refused(tmp_path: Path, open_to: int) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh").chmod(open_to)
    with pytest.raises(SetupError, match=f"mode {open_to:04o}.*chmod 700 {tmp_path / 'mesh'}"):
        open_state(tmp_path / "mesh")


def test_a_token_open_to_others_is_refused(tmp_path: Path) -> None:
    with open_state(tmp_path / "mesh") as state:
        state.admin_token()
        (tmp_path / "mesh" / "token").chmod(0o644)
        with pytest.raises(SetupError, match="chmod 600"):
            state.admin_token()


@pytest.mark.parametrize("text", ["", "short", "\n", "é" * 40])
def test_a_damaged_token_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with open_state(tmp_path / "mesh") as state:
        state.admin_token()
        (tmp_path / "mesh" / "token").write_text(text)
        with pytest.raises(SetupError, match="no usable token") as refused:
            state.admin_token()
    assert not text.strip() or text not in str(refused.value)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=f"state folder {tmp_path / 'file'}"):
        open_state(tmp_path / "file")
