"""Meshes with hostile apps in them: on netns for root and for a user without privileges, on docker from images."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lab_user import installed, lab_user
from meshdrill_command import Meshdrill, in_pod
from scripted_app import APP, Scene, app

from tests import docker_engine

IMAGE = "meshdrill-tests/attacker"
_DOCKERFILE = """FROM meshdrill/proxy:latest
COPY attacker.py /attacker.py
ENV HOST=0.0.0.0
USER {user}
ENTRYPOINT ["python", "/attacker.py"]
CMD ["8000"]
"""
_POLICIES = [
    {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "victim"},
        "spec": {
            "selector": {"matchLabels": {"app": "victim"}},
            "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/default/sa/friend"]}}]}],
        },
    },
    {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "victim"},
        "spec": {"selector": {"matchLabels": {"app": "victim"}}, "mtls": {"mode": "STRICT"}},
    },
]


class Attacks(Scene):
    """Apps `friend`, `victim`, `attacker`, and `outsider`, which has no sidecar; `attackers` have one."""

    attackers: tuple[str, ...] = ("attacker",)
    its_own: tuple[str, ...] = ()  # what an app may do in its container, as nobody else has to do with that

    def inside(self, name: str, code: str) -> str:
        """What Python code says that runs in the pod's network, past its sidecar."""
        raise NotImplementedError

    def as_proxy(self, name: str, code: str) -> str:
        """The same, of code whose connections are taken for the sidecar's."""
        raise NotImplementedError

    def proxy_file(self, name: str, file: str) -> str:
        """A file of the sidecar's own folder."""
        raise NotImplementedError

    def not_to_be_known(self) -> dict[str, str]:
        """What no app may find: tokens, keys, and by what the kernel knows a sidecar."""
        found = {"the mesh's token": (self.mesh.state / "token").read_text().strip()}
        for name in self.attackers:
            found |= {f"token of {name}": self.proxy_file(name, "token").strip()}
            found |= {f"key of {name}": self.secrets(name)["key"].splitlines()[1]}
        return found

    def secrets(self, name: str) -> dict[str, str]:
        """What proves to the control plane that somebody is this pod's sidecar."""
        default, root = (self._secret(name, file) for file in ("default", "ROOTCA"))
        pair = default["tls_certificate"]
        return {
            "token": self.proxy_file(name, "token").strip(),
            "key": pair["private_key"]["inline_string"],
            "chain": pair["certificate_chain"]["inline_string"],
            "root": root["validation_context"]["trusted_ca"]["inline_string"],
        }

    def _secret(self, name: str, secret: str) -> Any:
        return json.loads(self.proxy_file(name, f"secrets/{secret}.json"))["resources"][0]


class OnNetns(Attacks):
    def inside(self, name: str, code: str) -> str:
        return in_pod(self.pid(name), sys.executable, "-c", code)

    def as_proxy(self, name: str, code: str) -> str:
        mark = "import socket; new = socket.socket.__init__\n"
        mark += "def marked(self, *a, **k): new(self, *a, **k); self.setsockopt(socket.SOL_SOCKET, 36, 1337)\n"
        return in_pod(self.pid(name), sys.executable, "-c", f"{mark}socket.socket.__init__ = marked\n{code}")

    def proxy_file(self, name: str, file: str) -> str:
        return (self.mesh.state / "pods" / self.pods[name].name / file).read_text()


class OnDocker(Attacks):
    attackers = ("attacker", "root")  # by the user of their image
    its_own = ("write to /etc", "write the program", "trace", "memory")

    def inside(self, name: str, code: str) -> str:
        return self._exec(name, "app", "python", "-c", code)

    def as_proxy(self, name: str, code: str) -> str:
        return self._exec(name, "istio-proxy", "python", "-c", code)

    def proxy_file(self, name: str, file: str) -> str:
        return self._exec(name, "istio-proxy", "cat", file)

    def not_to_be_known(self) -> dict[str, str]:
        code = "import os; print(*{os.getgid(), *os.getgroups()})"
        groups = {
            f"group {group} of {name}": group for name in self.attackers for group in self.as_proxy(name, code).split()
        }
        assert len(groups) == 5 * len(self.attackers)
        return super().not_to_be_known() | groups

    def _exec(self, name: str, container: str, *command: str) -> str:
        with contextlib.closing(docker_engine.engine()) as engine:
            labels = {"meshdrill.dev/pod": self.pods[name].name, "meshdrill.dev/container": container}
            listed = docker_engine.labelled(engine, self.mesh.state)
            (found,) = [each["Id"] for each in listed if labels.items() <= each["Labels"].items()]
            made = engine.api.exec_create(found, list(command))["Id"]
            output: str = engine.api.exec_start(made).decode().strip()
        return output


def _app(name: str, **container: object) -> list[dict[str, Any]]:
    manifests = app(name, **container)
    template = manifests[-1]["spec"]["template"]
    if name == "outsider":
        template["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"
    return manifests


@contextlib.contextmanager
def on_netns(user: str, engine: str) -> Iterator[Attacks]:
    """For `root` or `rootless`."""
    with ExitStack() as stack:
        someone = stack.enter_context(lab_user(user))
        python = installed(someone)
        environment = {"PATH": os.environ["PATH"] if user == "root" else os.defpath, "HOME": str(someone.folder)}
        mesh = Meshdrill(someone.folder / "state", python=python, environment=environment)
        command = [python[-1], str(APP), "8000"]
        apps = [each for name in ("attacker", "friend", "victim", "outsider") for each in _app(name, command=command)]
        file = mesh.write("attacks.yaml", [*apps, *_POLICIES])
        stack.enter_context(mesh.up_in_front("-f", file, "--proxy", engine, "--platform", "netns"))
        yield OnNetns.of(mesh)
    assert not mesh.processes()


@contextlib.contextmanager
def on_docker(engine: str, folder: Path) -> Iterator[Attacks]:
    with contextlib.closing(docker_engine.prepare(folder)) as docker:
        for user in ("1000:1000", "0:0"):
            _build(docker, folder, user)
        mesh = Meshdrill(folder / "state")
        users = {"attacker": 1000, "friend": 1000, "victim": 1000, "root": 0, "outsider": 0}
        apps = [each for name, user in users.items() for each in _app(name, image=f"{IMAGE}:{user}", command=[])]
        file = mesh.write("attacks.yaml", [*apps, *_POLICIES])
        with mesh.up_in_front("-f", file, "--proxy", engine, "--platform", "docker"):
            yield OnDocker.of(mesh)
        assert docker_engine.labelled(docker, mesh.state) == []


def _build(docker: Any, folder: Path, user: str) -> None:
    context = folder / "attacker"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(_DOCKERFILE.format(user=user))
    (context / "attacker.py").write_bytes(APP.read_bytes())
    tag = f"{IMAGE}:{user.partition(':')[0]}"
    for _ in docker.api.build(path=str(context), tag=tag, rm=True, decode=True):
        pass
    assert docker.image(tag) is not None
