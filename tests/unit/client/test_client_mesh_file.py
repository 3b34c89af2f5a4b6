"""Finding a mesh by its state folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.client import MeshClient, MeshFile, MeshNotRunning

FIELDS: dict[str, Any] = {
    "name": "demo",
    "api": "https://127.64.0.1:15014",
    "token_file": "/s/token",
    "root_cert": "ca/root-cert.pem",
    "gateway": "http://127.0.0.1:9080",
    "engine": "python",
    "platform": "process",
    "node_pid": 7,
    "lacking": {"delay": "the kernel has no queue"},
}


def test_is_read_with_paths_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mesh.json").write_text(json.dumps(FIELDS))
    mesh = MeshFile.read(tmp_path)
    assert mesh.lacking == {"delay": "the kernel has no queue"}
    assert mesh.token_file == Path("/s/token")
    assert mesh.root_cert == tmp_path / "ca" / "root-cert.pem"
    assert MeshClient.from_state(tmp_path).mesh == mesh


def test_without_one_the_message_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MeshNotRunning, match=f"no mesh is running in {tmp_path}: start one with `meshdrill up`"):
        MeshClient.from_state(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps(FIELDS | {"token_file": 3}), json.dumps({"name": "demo"})])
def test_a_damaged_one_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "mesh.json").write_text(text)
    with pytest.raises(MeshNotRunning, match=r"mesh\.json cannot be read"):
        MeshFile.read(tmp_path)
