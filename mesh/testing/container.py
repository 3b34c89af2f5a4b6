"""`MeshContainer`: a mesh for the length of a test."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from docker.models.containers import Container, ExecResult
from testcontainers.core.container import DockerContainer
from testcontainers.core.exceptions import ContainerStartException, NoSuchPortExposed
from testcontainers.core.waiting_utils import WaitStrategy

from chaos.errors import CannotMeasure
from chaos.rollout import Rollout, await_done
from mesh.cli.bundled import bookinfo_files
from mesh.cli.connect import container_of, find_pod
from mesh.cli.errors import Failure
from mesh.cli.tied import free_port
from mesh.client import Manifest, MeshClient, MeshFile, Pod
from mesh.platforms.base import PROXY_CONTAINER, PlatformError
from mesh.platforms.docker.ownership import CONTAINER, NAMESPACE, POD
from mesh.platforms.node.gateway import NAME as GATEWAY
from mesh.platforms.node.gateway import PORT as GATEWAY_PORT
from mesh.testing.drills import DrillRun
from mesh.testing.network import MeshNetwork
from mesh.testing.running import Running
from mesh.testing.sources import Source, manifests_of

_DRILLS_S = 900.0


class MeshContainer:
    """A mesh on this machine, with Bookinfo or with manifests of one's own, from `start` (or `with`) to `stop`.

    `start`, `stop`, `waiting_for`, `get_exposed_port`, `get_logs` and `exec` are testcontainers' own by name and
    meaning. It is no DockerContainer, as it is many. It needs no Ryuk: the mesh is a `meshdrill up` that ends with this
    process, however that ends, and removes all that it has made.

    A pod is meant by its name, by a beginning that no other pod has, or by `deploy/NAME`; one that is not there is a
    Failure.
    """

    def __init__(
        self,
        manifests: Sequence[Source] = (),
        *,
        platform: Literal["docker", "netns", "process"] = "docker",
        engine: Literal["python", "envoy"] = "python",
    ) -> None:
        """Without manifests it runs Bookinfo. `exec` and `network` are of the platform `docker` alone."""
        self._manifests = [*manifests]
        self._config: list[Source] = []
        self._platform = platform
        self._engine = engine
        self._timeout_s = 60.0
        self._strategies: list[WaitStrategy] = []
        self._running: Running | None = None

    # Before it starts

    def with_manifest(self, *sources: Source) -> Self:
        """What runs on the mesh, in place of Bookinfo."""
        self._manifests += sources
        return self

    def with_config(self, *sources: Source) -> Self:
        """What else is there from the start: routes, policies."""
        self._config += sources
        return self

    def with_startup_timeout(self, seconds: float) -> Self:
        """Within which all pods must be ready; 60 if not said."""
        self._timeout_s = seconds
        return self

    def waiting_for(self, strategy: WaitStrategy) -> Self:
        """One more thing to wait for once all pods are ready, such as `HttpWaitStrategy(8080, "/productpage")`."""
        self._strategies.append(strategy)
        return self

    # Its life

    def start(self) -> Self:
        """Returns when every pod is ready and every sidecar has its configuration.

        Raises ContainerStartException with all that was said when that does not come about, and what a wait strategy
        raises. Nothing is left then.
        """
        if self._running is not None:
            raise ContainerStartException("this mesh has been started already")
        way = ("--platform", self._platform, "--proxy", self._engine, "--timeout", str(self._timeout_s))
        sources = [*(self._manifests or bookinfo_files()), *self._config]
        self._running = Running(sources, [*way, "--port", str(free_port())])
        try:
            for strategy in self._strategies:
                strategy.wait_until_ready(self)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Returns when nothing of the mesh is left, or raises Failure. Nothing happens when it is not there."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What it is asked for

    @property
    def client(self) -> MeshClient:
        """Of the control plane: objects, pods, metrics, faults, certificates."""
        return self._up.client

    @property
    def state(self) -> Path:
        """The state folder, for the command's `--state`. It goes with the mesh."""
        return self._up.state

    def get_url(self) -> str:
        """The ingress gateway's, with no slash at its end."""
        return self._file.gateway

    def get_container_host_ip(self) -> str:
        """Where the ingress gateway's port is on this host."""
        return str(urlsplit(self.get_url()).hostname)

    def get_exposed_port(self, port: int = GATEWAY_PORT) -> int:
        """This host's port that leads to the ingress gateway's, which is 8080."""
        if port != GATEWAY_PORT:
            raise NoSuchPortExposed(f"the ingress gateway has the port {GATEWAY_PORT}, and not {port}")
        return int(urlsplit(self.get_url()).port or 0)

    def pod(self, word: str) -> Pod:
        """As it is now."""
        return find_pod(self.client.pods(), word)

    def exec(self, pod: str, command: str | Sequence[str], container: str = "") -> ExecResult:
        """Runs a command in a container of the pod, by default the app's: `exit_code`, and `output` as bytes."""
        inside = self._container(pod, container)
        return inside.exec_run(command if isinstance(command, str) else [*command])

    def logs(self, pod: str, container: str = "") -> str:
        """What a container of the pod has printed, by default the app's; the sidecar is `istio-proxy`."""
        found = self.pod(pod)
        return _text(self.state / "logs" / f"{found.name}.{container_of(found, container)}.log")

    def get_logs(self) -> tuple[bytes, bytes]:
        """Of the mesh itself: what `meshdrill up` said and its node logged, and what the control plane did."""
        node = "".join(self._up.said) + _text(self.state / "logs" / "node.log")
        return node.encode(), _text(self.state / "logs" / "control.log").encode()

    # What is done to it

    def apply(self, *sources: Source, timeout_s: float = 60.0) -> None:
        """Creates or changes objects, all or none of them.

        Returns when every sidecar has taken it and the pods of each Deployment in it are ready, or raises TimeoutError
        or ApiError. Raises InvalidError, with file, line and path, for what is not valid.
        """
        manifests = manifests_of(sources, self.state)
        rollouts = self._rollouts(manifests)
        self._settle(self.client.apply_all(manifests).resource_version, rollouts, timeout_s)

    def delete(self, *sources: Source, timeout_s: float = 60.0) -> None:
        """Deletes the objects that these name. Returns when all sidecars know and the pods of Deployments are gone."""
        manifests = manifests_of(sources, self.state)
        rollouts = self._rollouts(manifests)
        for each in manifests:
            meta = each["metadata"]
            version = self.client.delete(each["kind"], meta["name"], meta.get("namespace", "default"))
        self._settle(version, rollouts, timeout_s)

    def run_drill(self, *drills: str | os.PathLike[str], out: Path | None = None, seed: str = "") -> DrillRun:
        """Runs drills by name or from files, one after the other; those of the demo, where none is named.

        Their files go into a new folder of `out`; without one they go with the mesh. Raises Failure when none could
        begin.
        """
        results = out or self.state / "results"
        before = _folders(results)
        words = [*(os.fspath(drill) for drill in drills), *(["--seed", seed] if seed else [])]
        done = self._up.meshdrill("drill", "run", *words, "--out", str(results), within_s=_DRILLS_S)
        if not (made := _folders(results) - before):
            raise Failure(done.stdout)
        return DrillRun(done.returncode, done.stdout, made.pop())

    # Containers that are not the mesh's

    @property
    def network(self) -> MeshNetwork:
        """In which pods reach other containers. Nothing in it is published, and nothing beyond it is reached."""
        if self._file.platform != "docker":
            raise PlatformError(f"this is of --platform docker, and the mesh runs on {self._file.platform}")
        return self._up.network

    def register(self, name: str, server: DockerContainer | str, *ports: str | int) -> None:
        """Makes a container of the mesh's network, or an IPv4 address, the service `name`, or one more endpoint of it.

        A port is `3306`, which is TCP, or `http:8080`. Returns when every sidecar knows it.
        """
        self._up.do("register", name, self._address(server), *(str(port) for port in ports))

    def deregister(self, name: str, server: DockerContainer | str) -> None:
        """Takes it away again."""
        self._up.do("deregister", name, self._address(server))

    # What wait strategies ask as well

    @property
    def status(self) -> str:
        """In the engine's words: `running`, `exited`, or `not_started`."""
        if self._running is None:
            return "not_started"
        return "running" if self._running.is_up else "exited"

    def reload(self) -> None:
        """Nothing is kept here that could grow old."""

    def get_wrapped_container(self) -> Container:
        """The ingress gateway's proxy."""
        return self._container(f"deploy/{GATEWAY}", PROXY_CONTAINER)

    @property
    def _up(self) -> Running:
        if self._running is None:
            raise ContainerStartException("the mesh is not started")
        return self._running

    @property
    def _file(self) -> MeshFile:
        assert self.client.mesh is not None
        return self.client.mesh

    def _container(self, word: str, name: str) -> Container:
        network, pod = self.network, self.pod(word)
        return network.find({POD: pod.name, NAMESPACE: pod.namespace, CONTAINER: container_of(pod, name)})

    def _address(self, server: DockerContainer | str) -> str:
        return server if isinstance(server, str) else self.network.address_of(server)

    def _rollouts(self, manifests: Sequence[Manifest]) -> list[Rollout]:
        return [Rollout.of(self.client, each) for each in manifests if each["kind"] == "Deployment"]

    def _settle(self, version: str, rollouts: Sequence[Rollout], timeout_s: float) -> None:
        self.client.wait_synced(version, timeout_s)
        try:
            await_done(self.client, rollouts, timeout_s)
        except CannotMeasure as error:
            raise TimeoutError(str(error)) from error


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _folders(parent: Path) -> set[Path]:
    return set(parent.iterdir()) if parent.exists() else set()
