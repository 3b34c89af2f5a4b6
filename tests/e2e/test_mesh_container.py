"""The life of a `MeshContainer`: what it says when it cannot start, and that nothing of it is left, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from testcontainers.core.exceptions import ContainerStartException, NoSuchPortExposed
from testcontainers.core.wait_strategies import HttpWaitStrategy
from testcontainers.core.waiting_utils import WaitStrategy

from chaos.waiting import wait_until
from mesh.platforms.base import PlatformError
from mesh.testing import MeshContainer
from tests.docker_engine import BASE, labelled

pytestmark = pytest.mark.timeout(1200)  # the first of these builds images

ALONE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "alone"}}
"""A mesh with nothing but its gateway."""
WITHIN_S = 120.0


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where meshes of this process, and of those that it starts, have their files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_mesh_that_cannot_come_up_says_why_and_leaves_nothing(docker_engine: Any, temporary: Path) -> None:
    container = {"name": "app", "image": "nobody/has:this", "imagePullPolicy": "Never"}
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    mesh = MeshContainer().with_manifest(web)
    with pytest.raises(ContainerStartException, match="image nobody/has:this is not there"):
        mesh.start()
    assert mesh.status == "not_started"
    assert not list(temporary.iterdir())


class InVain(WaitStrategy):
    """Waits for nothing, and says so."""

    state = Path()

    def wait_until_ready(self, container: Any) -> None:
        self.state = container.state
        raise TimeoutError("in vain")


def test_a_strategy_that_waits_in_vain_takes_the_mesh_down(docker_engine: Any, temporary: Path) -> None:
    strategy = InVain()
    with pytest.raises(TimeoutError, match="in vain"):
        MeshContainer([ALONE]).waiting_for(strategy).start()
    assert strategy.state.parent == temporary
    assert not list(temporary.iterdir())
    assert labelled(docker_engine, strategy.state) == []


def test_a_mesh_whose_node_was_killed_has_exited_and_leaves_nothing(docker_engine: Any, temporary: Path) -> None:
    mesh = MeshContainer([ALONE]).start()
    state = mesh.state
    try:
        assert mesh.client.mesh is not None
        assert labelled(docker_engine, state)
        os.kill(mesh.client.mesh.node_pid, signal.SIGKILL)
        assert wait_until(lambda: mesh.status == "exited", WITHIN_S)
    finally:
        mesh.stop()
    assert labelled(docker_engine, state) == []
    assert not list(temporary.iterdir())


def test_on_another_platform_it_is_the_same_mesh_without_a_network_for_containers() -> None:
    server = {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "way-in"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }
    no_route = HttpWaitStrategy(8080).for_status_code(404)
    with MeshContainer([ALONE], platform="process").with_config(gateway).waiting_for(no_route) as mesh:
        assert mesh.client.mesh is not None
        assert mesh.client.mesh.platform == "process"
        assert mesh.get_url() == f"http://{mesh.get_container_host_ip()}:{mesh.get_exposed_port(8080)}"
        with pytest.raises(NoSuchPortExposed, match="has the port 8080, and not 15014"):
            mesh.get_exposed_port(15014)
        with pytest.raises(PlatformError, match="of --platform docker, and the mesh runs on process"):
            mesh.exec("deploy/istio-ingressgateway", "true")
        with pytest.raises(ContainerStartException, match="started already"):
            mesh.start()
        node, control = mesh.get_logs()
        assert b"ready" in node
        assert control
    with pytest.raises(ContainerStartException, match="not started"):
        mesh.get_url()


def test_nothing_is_left_of_a_mesh_and_what_is_beside_it_when_a_test_run_is_killed(
    docker_engine: Any, temporary: Path
) -> None:
    (temporary / "alone.yaml").write_text(yaml.safe_dump(ALONE))
    command = [sys.executable, str(Path(__file__).with_name("holder.py")), BASE, str(temporary / "alone.yaml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            beside, state = process.stdout.readline().split()
            assert beside in {each["Id"] for each in labelled(docker_engine, Path(state))}
        finally:
            process.kill()
    assert wait_until(lambda: not labelled(docker_engine, Path(state)), WITHIN_S)
    assert wait_until(lambda: not Path(state).exists(), WITHIN_S)
