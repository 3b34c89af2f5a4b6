"""What the docker platform can do with a pod, on real containers: each thing that a drill may ask of it."""

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
from docker_engine import SHOP_IMAGE, labelled, prepare

from mesh.api.pod import Pod
from mesh.api.pod_fault import Delay, Direction, Partition, Reset
from mesh.config.decode import decode_object
from mesh.platforms.base import Capability, PlatformError, RunningPod, Surroundings

pytestmark = pytest.mark.timeout(1200)  # the first of these builds images

CALL = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).status)"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with contextlib.closing(prepare(tmp_path_factory.mktemp("images"))) as found:
        yield found


def pod(name: str) -> Pod:
    container = {
        "name": "app",
        "image": SHOP_IMAGE,
        "env": [{"name": "POD_NAME", "value": name}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10},
    }
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}}
    found = decode_object({**manifest, "spec": {"containers": [container]}}).resource
    assert isinstance(found, Pod)
    return found


class Lab:
    """A platform with some pods on it."""

    def __init__(self, platform: Any) -> None:
        self.platform = platform

    async def place(self, name: str) -> RunningPod:
        """A pod that is ready."""
        placed: RunningPod = self.platform.place(pod(name), Surroundings(), lambda: None)
        placed.start(["app"])
        await until(lambda: placed.statuses()[0].ready, f"{name} is ready")
        return placed

    async def call(self, caller: RunningPod, called: RunningPod) -> bool:
        """Whether one pod's app reaches the other's."""
        url = f"http://{called.pod.status.pod_ip}:8000/"
        return (await caller.exec("app", ["python3", "-c", CALL, url], 30)).code == 0


async def until(condition: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - of containers
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within 60 s: {what}")


@contextlib.asynccontextmanager
async def lab(state: Path) -> AsyncIterator[Lab]:
    from mesh.platforms.docker.platform import DockerPlatform

    (state / "logs").mkdir(parents=True)
    async with asyncio.TaskGroup() as group:
        platform = DockerPlatform(state, group.create_task, "test", "a-run")
        try:
            yield Lab(platform)
        finally:
            await platform.end_pods(1)
            await platform.close()


def in_lab(engine: Any, state: Path, work: Callable[[Lab], Awaitable[None]]) -> None:
    """Carries out `work`, and sees that nothing is left."""

    async def run() -> None:
        async with lab(state) as made:
            await work(made)

    asyncio.run(run())
    assert labelled(engine, state) == []


def test_commands_run_beside_the_app_and_ports_lead_to_it(engine: Any, tmp_path: Path) -> None:
    async def work(lab: Lab) -> None:
        web = await lab.place("web")
        told = await web.exec("app", ["sh", "-c", "echo $POD_NAME; echo no >&2; exit 3"], 30)
        assert (told.code, sorted(told.output.split())) == (3, ["no", "web"])
        assert (await web.exec("app", ["no-such-command"], 30)).code in (126, 127)
        with pytest.raises(TimeoutError):
            await web.exec("app", ["sleep", "30"], 0.2)
        with pytest.raises(PlatformError, match='has no container "other"; it has app'):
            await web.exec("other", ["true"], 1)
        host, port = lab.platform.forward(web, 8000)
        assert host == "127.0.0.1"
        assert await asyncio.to_thread(page, host, port) == {"pod": "web", "color": "red"}
        assert "GET /health" in lab.platform.log("web", "app").read_text()

    in_lab(engine, tmp_path / "state", work)


def page(host: str, port: int) -> Any:
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as response:
        return json.load(response)


def test_signals_and_kills_end_an_app_that_comes_back_and_pauses_only_stop_it(engine: Any, tmp_path: Path) -> None:
    async def work(lab: Lab) -> None:
        web = await lab.place("web")
        (container,) = [each["Id"] for each in labelled(engine, tmp_path / "state") if is_app(each)]

        def is_paused() -> bool:
            return bool(engine.api.inspect_container(container)["State"]["Paused"])

        web.pause("app")
        web.resume("app")
        web.pause("app")
        await until(is_paused, "the app stands still")
        web.resume("app")
        await until(lambda: not is_paused(), "the app goes on")
        assert web.statuses()[0].restart_count == 0
        for count, (end, number) in enumerate(
            ((lambda: web.signal("app", Signals.SIGTERM), 15), (lambda: web.kill("app"), 9)), start=1
        ):
            end()
            await until(lambda count=count: web.statuses()[0].restart_count == count, "it is started again")
            await until(lambda: web.statuses()[0].ready, "it is ready again")
            assert web.statuses()[0].last_state["terminated"]["signal"] == number
        assert (await web.exec("app", ["true"], 30)).code == 0

    in_lab(engine, tmp_path / "state", work)


def is_app(found: dict[str, Any]) -> bool:
    return bool(found["Labels"].get("meshdrill.dev/container") == "app")


def test_a_fault_parts_two_pods_and_no_others_until_it_is_lifted(engine: Any, tmp_path: Path) -> None:
    async def work(lab: Lab) -> None:
        one, two, other = await asyncio.gather(*(lab.place(name) for name in ("one", "two", "other")))
        for effect in (Reset(), Partition()):
            laid = lab.platform.disturb(one, effect, Direction.BOTH, [two])
            assert [await lab.call(one, two), await lab.call(two, one)] == [False, False]
            assert await lab.call(one, other)
            assert one.statuses()[0].ready  # the node still reaches it
            laid.lift()
            laid.lift()
            assert [await lab.call(one, two), await lab.call(two, one)] == [True, True]
        alone = lab.platform.disturb(one, Reset(), Direction.TO, None)
        assert [await lab.call(one, two), await lab.call(one, other)] == [False, False]
        assert Capability.DELAY in lab.platform.lacking
        with pytest.raises(PlatformError, match="use --platform netns"):
            lab.platform.disturb(one, Delay(latency=timedelta(seconds=1)), Direction.TO, None)
        await one.stop(drain=False, grace_s=1)
        alone.lift()  # with the pod it has gone

    in_lab(engine, tmp_path / "state", work)
