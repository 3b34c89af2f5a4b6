"""The CA's folder: made once, read back the same, and never trusted when something is wrong with it."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh.ca.errors import CaFolderError
from mesh.ca.folder import ROOT_CERT, ROOT_KEY, TOKEN_KEY, open_ca
from mesh.ca.identity import PodIdentity

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_is_made_once_and_survives_a_restart(tmp_path: Path) -> None:
    first = open_ca(tmp_path / "ca")
    second = open_ca(tmp_path / "ca")
    assert first.certificates.root_pem == second.certificates.root_pem == (tmp_path / "ca" / ROOT_CERT).read_text()
    pod = PodIdentity("default", "web", "web-1", "uid")
    assert second.tokens.verify(first.tokens.issue(pod, timedelta(hours=1), NOW).token, NOW) == pod


def test_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        open_ca(tmp_path / "ca")
    finally:
        os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()}
    assert modes == {ROOT_KEY: 0o600, TOKEN_KEY: 0o600, ROOT_CERT: 0o644}
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_what_a_crash_left_behind_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".ca-new-dead"
    leftover.mkdir()
    (leftover / ROOT_KEY).write_text("half")
    open_ca(tmp_path / "ca")
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


@pytest.mark.parametrize("missing", [ROOT_KEY, ROOT_CERT, TOKEN_KEY])
def test_a_missing_part_is_named_and_nothing_is_made_anew(tmp_path: Path, missing: str) -> None:
    open_ca(tmp_path / "ca")
    (tmp_path / "ca" / missing).unlink()
    with pytest.raises(CaFolderError, match=f"incomplete: {missing} missing"):
        open_ca(tmp_path / "ca")
    assert not (tmp_path / "ca" / missing).exists()


@pytest.mark.parametrize("damaged", [ROOT_KEY, ROOT_CERT, TOKEN_KEY])
def test_a_truncated_part_is_noticed(tmp_path: Path, damaged: str) -> None:
    open_ca(tmp_path / "ca")
    path = tmp_path / "ca" / damaged
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CaFolderError, match="damaged"):
        open_ca(tmp_path / "ca")


def test_a_key_of_another_root_is_noticed(tmp_path: Path) -> None:
    open_ca(tmp_path / "ca")
    open_ca(tmp_path / "other")
    (tmp_path / "other" / ROOT_KEY).replace(tmp_path / "ca" / ROOT_KEY)
    with pytest.raises(CaFolderError, match="is not the key of"):
        open_ca(tmp_path / "ca")


@pytest.mark.parametrize("secret", [ROOT_KEY, TOKEN_KEY])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, secret: str) -> None:
    open_ca(tmp_path / "ca")
    (tmp_path / "ca" / secret).chmod(0o640)
    with pytest.raises(CaFolderError, match="chmod 600"):
        open_ca(tmp_path / "ca")
