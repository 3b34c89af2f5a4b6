"""The process: its files, what keeps it from starting, and what survives its death."""

import socket
import stat
from pathlib import Path

import pytest
from control_process import API_PORT, XDS_PORT, ControlProcess, free_address, pod, service, virtual_service

from mesh.client import MeshClient, MeshNotRunning
from mesh.client.keys import make_key_and_csr


@pytest.fixture
def stopped(tmp_path: Path) -> ControlProcess:
    """A state folder with nobody in it."""
    control = ControlProcess(tmp_path / "mesh", free_address())
    control.state.mkdir(mode=0o700)
    return control


def test_secrets_on_disk_are_for_the_owner_alone(control: ControlProcess) -> None:
    open_to_others = {
        str(path.relative_to(control.state))
        for path in control.state.rglob("*")
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert open_to_others <= {"ca/root-cert.pem", "control.lock", "mesh.json"}
    assert not list(control.state.glob(".api-tls-*"))


def test_everything_survives_kill_minus_nine(own_control: ControlProcess, tmp_path: Path) -> None:
    with own_control.client() as client:
        client.apply_all([service("web"), virtual_service("web", "v7")])
        stored = client.apply(pod("web-1", "web", "127.201.1.1"))
        token = client.create_token("web", "default", "web-1", stored["metadata"]["uid"]).token
        before = {kind: client.list(kind).items for kind in ("svc", "vs", "po")}
        root, admin = own_control.root_cert.read_text(), (own_control.state / "token").read_text()

        own_control.kill()
        with pytest.raises(MeshNotRunning, match="does not answer"):
            client.list("vs")
        assert not client.is_ready()
        own_control.start().close()

        assert {kind: client.list(kind).items for kind in ("svc", "vs", "po")} == before
    assert (own_control.root_cert.read_text(), (own_control.state / "token").read_text()) == (root, admin)
    (tmp_path / "pod-token").write_text(token)
    api = f"https://{own_control.address}:{API_PORT}"
    with MeshClient(api, tmp_path / "pod-token", own_control.root_cert) as agent:
        assert agent.sign_certificate(make_key_and_csr()[1]).root == root


def test_sigterm_is_a_clean_end(own_control: ControlProcess) -> None:
    assert own_control.stop() == 0
    log = own_control.log.read_text()
    assert "Traceback" not in log
    assert log.rstrip().endswith("stopping")


def test_the_state_folder_has_one_owner(control: ControlProcess) -> None:
    second = ControlProcess(control.state, free_address())
    assert_refused(second, "in use by another control plane: stop it with `meshdrill down`")


@pytest.mark.parametrize(("port", "what"), [(API_PORT, "the API"), (XDS_PORT, "ADS")])
def test_an_address_that_is_taken(stopped: ControlProcess, port: int, what: str) -> None:
    with socket.create_server((stopped.address, port)):
        assert_refused(stopped, f"cannot listen on {stopped.address}:{port} for {what}")


def test_an_address_that_is_not_ours(stopped: ControlProcess) -> None:
    stopped.address = "192.0.2.1"  # reserved for documentation (RFC 5737)
    assert_refused(stopped, "cannot listen on 192.0.2.1")


def test_a_folder_open_to_others(stopped: ControlProcess) -> None:
    stopped.state.chmod(0o755)
    assert_refused(stopped, f"chmod 700 {stopped.state}")


def test_half_a_ca(stopped: ControlProcess) -> None:
    stopped.start().close()
    stopped.kill()
    (stopped.state / "ca" / "root-key.pem").unlink()
    assert_refused(stopped, "root-key.pem missing")


def test_a_damaged_store(stopped: ControlProcess) -> None:
    (stopped.state / "store.db").write_bytes(b"not a database" * 100)
    (stopped.state / "store.db").chmod(0o600)
    assert_refused(stopped, "store.db")


def assert_refused(control: ControlProcess, reason: str) -> None:
    """It ends with code 1 and one line that holds `reason`."""
    ended = control.run()
    assert ended.returncode == 1, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("mesh.control: ")]
    assert len(said) == 1
    assert reason in said[0]
    assert "Traceback" not in ended.stderr
