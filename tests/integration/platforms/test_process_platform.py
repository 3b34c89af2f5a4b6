"""The process platform on its own: real processes, no control plane."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.api.core import Service, ServicePort, ServiceSpec
from mesh.api.meta import ObjectMeta
from mesh.api.pod import (
    Container,
    ContainerPort,
    ContainerStatus,
    EnvVar,
    ExecAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodSpec,
    Probe,
    VolumeMount,
)
from mesh.platforms.base import PlatformError, Surroundings
from mesh.platforms.process.ledger import marked, start_time
from mesh.platforms.process.platform import ProcessPlatform

WAIT_S = 20.0
SLEEP = ("python", "-c", "import time; time.sleep(600)")
STUBBORN = (
    "python",
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
)
ECHO = """
import os, sys
print(sys.argv[1:], *map(os.environ.get, ["HOST", "PORT", "DB_SERVICE_HOST", "SECRET"]), flush=True)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""

Story = Callable[["World"], Awaitable[None]]


class World:
    """A platform and one pod `p` on it."""

    def __init__(self, state: Path, group: asyncio.TaskGroup) -> None:
        self.state = state
        self.tasks: list[asyncio.Task[None]] = []
        self._group = group
        self.platform = ProcessPlatform(state, self._spawn, state)
        self._changed = asyncio.Event()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(self._group.create_task(work))
        return self.tasks[-1]

    def place(self, spec: PodSpec, **surroundings: Any) -> None:
        pod = Pod(api_version="v1", metadata=ObjectMeta(name="p"), spec=spec)
        self.pod = self.platform.place(pod, Surroundings(**surroundings), self._changed.set)

    def run(self, *containers: Container, grace: int = 30, **surroundings: Any) -> None:
        self.place(PodSpec(containers=containers, termination_grace_period_seconds=grace), **surroundings)
        self.pod.start([container.name for container in containers])

    def status(self, name: str = "c") -> ContainerStatus:
        everyone = (*self.pod.init_statuses(), *self.pod.statuses())
        return next(status for status in everyone if status.name == name)

    def log(self, name: str = "c") -> str:
        file = self.platform.log("p", name)
        return file.read_text() if file.exists() else ""

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():  # noqa: ASYNC110 - what is waited for is outside this process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within {WAIT_S} s: {what}; status: {self.pod.statuses()}")


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story to its end, and sees that no process is left of it."""

    async def run(story: Story) -> None:
        async with asyncio.TaskGroup() as group:
            world = World(tmp_path, group)
            try:
                await story(world)
            finally:
                await world.platform.end_pods(1.0)
                await world.platform.close()
                for task in world.tasks:
                    task.cancel()
        assert not marked(str(tmp_path)) - {os.getpid()}

    return lambda story: asyncio.run(run(story))


def pid(world: World) -> int:
    return int(next((world.state / "processes").iterdir()).name)


def test_a_process_gets_its_environment_and_none_of_ours(
    play: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the user's shell")

    async def story(world: World) -> None:
        container = Container(
            name="c",
            command=("python", "-c", ECHO),
            args=("--on=$(PORT)", "$(WHO)"),
            env=(EnvVar(name="WHO", value="me"),),
            ports=(ContainerPort(container_port=8000),),
        )
        db = Service(
            api_version="v1", metadata=ObjectMeta(name="db"), spec=ServiceSpec(ports=(ServicePort(port=3306),))
        )
        world.run(container, services=[db])
        address = world.pod.pod.status.pod_ip
        await world.until(lambda: "--on" in world.log(), "it has printed")
        assert world.log().splitlines()[0] == f"['--on=8000', 'me'] {address} 8000 {address} None"

    play(story)


def test_a_process_that_ends_is_restarted_and_later_and_later(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=("python", "-c", "import sys; print('alive'); sys.exit(3)")))
        await world.until(lambda: "waiting" in world.status().state and world.status().restart_count, "it waits")
        waiting = world.status().state["waiting"]
        assert waiting["reason"] == "CrashLoopBackOff"
        assert "exit code 3" in waiting["message"]
        assert world.status().last_state["terminated"]["exitCode"] == 3
        assert not world.status().ready

    play(story)


def test_what_cannot_be_started_says_so(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=("/nonexistent/server",)))
        await world.until(lambda: world.status().last_state, "it failed")
        ended = world.status().last_state["terminated"]
        assert ended["reason"] == "StartError"
        assert "/nonexistent/server" in ended["message"]

    play(story)


def test_killed_paused_and_resumed(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=SLEEP))
        await world.until(lambda: "running" in world.status().state, "it runs")
        first = pid(world)
        world.pod.pause("c")
        await world.until(lambda: process_state(first) == "T", "it is stopped in its tracks")
        world.pod.resume("c")
        await world.until(lambda: process_state(first) == "S", "it goes on")
        world.pod.kill("c")
        await world.until(lambda: world.status().restart_count == 1 and "running" in world.status().state, "it is back")
        assert pid(world) != first
        assert world.status().last_state["terminated"]["signal"] == signal.SIGKILL
        with pytest.raises(PlatformError, match='pod p has no container "x"; it has c'):
            world.pod.kill("x")

    play(story)


def process_state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=STUBBORN))
        await world.until(lambda: "ready" in world.log(), "it ignores SIGTERM by now")
        await world.pod.stop(drain=True, grace_s=0.3)
        assert world.status().state["terminated"]["signal"] == signal.SIGKILL

    play(story)


def test_a_paused_process_can_be_stopped(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=SLEEP))
        await world.until(lambda: "running" in world.status().state, "it runs")
        world.pod.pause("c")
        await world.pod.stop(drain=True, grace_s=WAIT_S)
        assert world.status().state["terminated"]["signal"] == signal.SIGTERM

    play(story)


def test_what_a_process_started_ends_with_it(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=("python", "-c", PARENT)))
        await world.until(lambda: world.log().strip(), "it has a child")
        grandchild = int(world.log().split()[0])
        world.pod.signal("c", signal.SIGTERM)
        await world.until(lambda: start_time(grandchild) is None, "the child's child is gone")

    play(story)


def test_commands_run_beside_the_process(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=SLEEP, env=(EnvVar(name="WHO", value="me"),)))
        result = await world.pod.exec("c", ["sh", "-c", "echo $WHO; echo bad >&2; exit 4"], 10)
        assert (result.code, result.output) == (4, "me\nbad\n")
        assert (await world.pod.exec("c", ["/nonexistent"], 10)).code == 127
        with pytest.raises(TimeoutError):
            await world.pod.exec("c", ["sleep", "600"], 0.2)

    play(story)


def test_readiness_follows_the_probe_and_liveness_restarts(play: Callable[[Story], None], tmp_path: Path) -> None:
    ready, alive = tmp_path / "ready", tmp_path / "alive"

    async def story(world: World) -> None:
        alive.touch()
        container = Container(
            name="c",
            command=SLEEP,
            readiness_probe=Probe(
                exec=ExecAction(command=("test", "-e", str(ready))), period_seconds=1, failure_threshold=1
            ),
            liveness_probe=Probe(
                exec=ExecAction(command=("test", "-e", str(alive))), period_seconds=1, failure_threshold=2
            ),
        )
        world.run(container)
        await world.until(lambda: "running" in world.status().state, "it runs")
        assert not world.status().ready
        ready.touch()
        await world.until(lambda: world.status().ready, "the probe succeeded")
        ready.unlink()
        await world.until(lambda: not world.status().ready, "the probe failed")
        assert world.status().restart_count == 0
        alive.unlink()
        await world.until(lambda: world.status().restart_count == 1, "liveness restarted it")
        assert "liveness probe failed" in world.status().last_state["terminated"]["message"]

    play(story)


def test_a_startup_probe_holds_the_others_back(play: Callable[[Story], None], tmp_path: Path) -> None:
    started = tmp_path / "started"

    async def story(world: World) -> None:
        container = Container(
            name="c",
            command=SLEEP,
            startup_probe=Probe(
                exec=ExecAction(command=("test", "-e", str(started))), period_seconds=1, failure_threshold=100
            ),
            liveness_probe=Probe(exec=ExecAction(command=("false",)), period_seconds=1, failure_threshold=1),
        )
        world.run(container)
        await asyncio.sleep(1.5)  # longer than liveness would take to fail: nothing may happen in it
        assert (world.status().started, world.status().restart_count) == (False, 0)
        started.touch()
        await world.until(lambda: world.status().restart_count == 1, "liveness has begun")

    play(story)


def test_a_hook_runs_before_the_process_is_told_to_end(play: Callable[[Story], None], tmp_path: Path) -> None:
    said = tmp_path / "said"

    async def story(world: World) -> None:
        hook = LifecycleHandler(exec=ExecAction(command=("sh", "-c", f"echo goodbye > {said}")))
        world.run(Container(name="c", command=SLEEP, lifecycle=Lifecycle(pre_stop=hook)))
        await world.until(lambda: "running" in world.status().state, "it runs")
        await world.pod.stop(drain=True, grace_s=WAIT_S)
        assert said.read_text() == "goodbye\n"

    play(story)


def script(name: str, text: str) -> Container:
    return Container(name=name, command=("sh", "-c", text))


def test_init_containers_run_one_after_another_and_again_until_they_succeed(
    play: Callable[[Story], None], tmp_path: Path
) -> None:
    told, tried = tmp_path / "told", tmp_path / "tried"
    first = script("first", f"test -e {tried} || {{ touch {tried}; exit 3; }}; echo first >> {told}")
    second = script("second", f"echo second >> {told}")

    async def story(world: World) -> None:
        world.place(PodSpec(containers=(Container(name="c", command=SLEEP),), init_containers=(first, second)))
        assert world.status().state["waiting"]["reason"] == "PodInitializing"
        async with asyncio.timeout(WAIT_S):
            assert await world.pod.initialise()
        assert told.read_text().split() == ["first", "second"]
        assert [(each.ready, each.restart_count) for each in world.pod.init_statuses()] == [(True, 1), (True, 0)]
        assert world.status("first").state["terminated"]["reason"] == "Completed"
        assert [each.name for each in world.pod.statuses()] == ["c"]
        assert "waiting" in world.status().state

    play(story)


def test_without_restarts_a_failed_init_container_is_the_end(play: Callable[[Story], None], tmp_path: Path) -> None:
    told = tmp_path / "told"

    async def story(world: World) -> None:
        inits = (script("first", "exit 4"), script("second", f"touch {told}"))
        app = Container(name="c", command=SLEEP)
        world.place(PodSpec(containers=(app,), init_containers=inits, restart_policy="Never"))
        async with asyncio.timeout(WAIT_S):
            assert not await world.pod.initialise()
        assert world.status("first").state["terminated"]["exitCode"] == 4
        assert not told.exists()

    play(story)


def test_a_pod_that_is_stopped_as_it_initialises_starts_nothing_more(
    play: Callable[[Story], None], tmp_path: Path
) -> None:
    told = tmp_path / "told"

    async def story(world: World) -> None:
        # It takes its end for a success.
        patient = script("first", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")
        inits = (patient, script("second", f"touch {told}"))
        world.place(PodSpec(containers=(Container(name="c", command=SLEEP),), init_containers=inits))
        initialising = asyncio.ensure_future(world.pod.initialise())
        await world.until(lambda: "ready" in world.log("first"), "the first one runs")
        await world.pod.stop(drain=True, grace_s=WAIT_S)
        assert await initialising is False
        world.pod.start(["c"])
        assert not told.exists()
        assert "waiting" in world.status().state

    play(story)


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (
            Container(name="c", command=SLEEP, restart_policy="Always"),
            'container "c": a restartPolicy of its own is not carried out by the process platform; list a sidecar in',
        ),
        (
            Container(name="c", command=SLEEP, volume_mounts=(VolumeMount(name="v", mount_path="/"),)),
            'container "c": the volume at / would cover all files',
        ),
        (Container(name="c", image="nginx"), 'container "c" has no command'),
        (
            Container(name="c", command=SLEEP, lifecycle=Lifecycle(post_start=LifecycleHandler(exec=ExecAction()))),
            "lifecycle.postStart is not carried out",
        ),
        (
            Container(name="c", command=SLEEP, readiness_probe=Probe(http_get=HTTPGetAction(port="web"))),
            'no port of the container is named "web"',
        ),
    ],
)
def test_a_pod_that_cannot_run_here_is_refused_and_takes_no_address(
    play: Callable[[Story], None], container: Container, message: str
) -> None:
    async def story(world: World) -> None:
        with pytest.raises(PlatformError, match=message):
            world.run(container)

    play(story)


@pytest.mark.parametrize("kind", ["configMap", "secret", "hostPath"])
def test_volumes_but_empty_ones_are_refused_by_name(play: Callable[[Story], None], kind: str) -> None:
    async def story(world: World) -> None:
        volumes = ({"name": "tmp", "emptyDir": {}}, {"name": "conf", kind: {}})
        with pytest.raises(
            PlatformError, match=rf'volume "conf" \({kind}\) is not mounted by the process platform'
        ) as told:
            world.place(PodSpec(containers=(Container(name="c", command=SLEEP),), volumes=volumes))
        assert "tmp" not in str(told.value)

    play(story)


def test_the_interpreter_is_ours(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        world.run(Container(name="c", command=("python3", "-c", "import sys; print(sys.executable, flush=True)")))
        await world.until(lambda: world.log().strip(), "it has printed")
        assert world.log().splitlines()[0] == sys.executable

    play(story)
