"""The command as a process: quick help, and one message for an error."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mesh.cli.main import _VERBS, cli

HEAVY = ("google.protobuf", "grpc", "yaml", "cryptography", "asyncio", "mesh.client", "mesh.config")


def meshdrill(*arguments: str, stdin: str = "", state: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = os.environ | ({"MESHDRILL_STATE": str(state)} if state else {})
    return subprocess.run(
        [sys.executable, "-m", "mesh.cli.main", *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environ,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["get", "-h"], ["analyze", "--help"]])
def test_help_loads_none_of_what_the_verbs_need(arguments: list[str]) -> None:
    code = (
        "import sys; from mesh.cli.main import cli; sys.argv[0] = 'meshdrill'\n"
        f"try: cli.main({arguments!r})\nexcept SystemExit: pass\n"
        f"sys.stderr.write(', '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Usage: " in answer.stdout


@pytest.mark.parametrize("verb", sorted(_VERBS))
def test_every_verb_has_help(verb: str) -> None:
    command = cli.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    assert command.help


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["get"],
        ["up", "--proxy", "nginx"],
        ["up", "--port", "0"],
        ["proxy-config", "colors", "x"],
        ["proxy-config", "route"],
        ["delete"],
        ["delete", "vs"],
        ["apply"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], tmp_path: Path) -> None:
    answer = meshdrill(*arguments, state=tmp_path)
    assert answer.returncode == 2
    assert "Usage: " in answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["get", "pods"],
        ["proxy-status"],
        ["proxy-config", "routes", "x"],
        ["grpc-bootstrap", "x"],
        ["logs", "x"],
        ["delete", "vs", "x"],
    ],
)
def test_with_no_mesh_running_the_message_says_how_to_start_one(arguments: list[str], tmp_path: Path) -> None:
    answer = meshdrill(*arguments, state=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: no mesh is running in")
    assert "meshdrill up" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_misspelt_verb_is_told_its_like() -> None:
    assert "did you mean 'apply'?" in meshdrill("aply").stderr
    assert "did you mean" not in meshdrill("potato").stderr


def test_a_version_is_asked_for_as_of_other_commands() -> None:
    assert meshdrill("--version").stdout == f"meshdrill {version('meshdrill')}\n"


def test_resources_of_a_sidecar_may_be_named_in_the_singular(tmp_path: Path) -> None:
    assert "no mesh is running" in meshdrill("proxy-config", "route", "x", state=tmp_path).stderr


def test_applying_nothing_is_a_mistake(tmp_path: Path) -> None:
    answer = meshdrill("apply", "-f", "-", state=tmp_path)
    assert (answer.returncode, answer.stderr) == (1, "Error: no object in -\n")


def test_down_with_no_mesh_is_no_error(tmp_path: Path) -> None:
    answer = meshdrill("down", state=tmp_path / "none")
    assert (answer.returncode, answer.stdout) == (0, f"no mesh is running in {tmp_path / 'none'}\n")
    assert not (tmp_path / "none").exists()


GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
BAD = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  prots: []\n"


def test_analyze_needs_no_mesh_and_fails_on_errors_only(tmp_path: Path) -> None:
    assert meshdrill("analyze", "-f", "-", stdin=GOOD).stdout == "no mistakes found\n"
    bad = meshdrill("analyze", "-f", "-", "-o", "json", stdin=BAD)
    assert bad.returncode == 1
    found = json.loads(bad.stdout)
    assert [(m["code"], m["reference"], m["path"]) for m in found] == [("IST0106", "<stdin>:5", "spec.prots")]


def test_a_folder_stands_for_its_manifests(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(BAD)
    (tmp_path / "notes.txt").write_text("not a manifest: [")
    answer = meshdrill("analyze", "-f", str(tmp_path))
    assert answer.returncode == 1
    assert f"{tmp_path}/b.yml:5" in answer.stdout
    assert "notes.txt" not in answer.stdout


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.yaml", None, "absent.yaml: No such file or directory"),
        ("binary.yaml", b"\xff\xfe\x00", "binary.yaml: not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    answer = meshdrill("analyze", "-f", str(file))
    assert answer.returncode == 1
    assert message in answer.stderr


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    answer = meshdrill("analyze", "-f", str(tmp_path))
    assert answer.returncode == 1
    assert "no .yaml, .yml, .json file in this folder" in answer.stderr
