"""What the docker platform can do with a pod, on real containers: each thing that a drill may ask of it."""

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from mesh.api.core import ConfigMap, Secret
from mesh.api.meta import ObjectMeta
from mesh.api.pod import Pod
from mesh.api.pod_fault import Bandwidth, Delay, Direction, Partition, Reset
from mesh.config.decode import decode_object
from mesh.platforms.base import PlatformError, RunningPod, Surroundings
from mesh.platforms.netns.faults.rules import CHAIN
from tests.docker_engine import SHOP_IMAGE, labelled, prepare

pytestmark = pytest.mark.timeout(1200)  # the first of these builds images

CALL = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).status)"
TIMED = """
import sys, time, urllib.request as u
began = time.monotonic()
u.urlopen(u.Request(sys.argv[1], headers={"X-Pad": "x" * int(sys.argv[2])}), timeout=60).read()
print(time.monotonic() - began)
"""
PAD = 6000
READERS = """
from pathlib import Path
for file in Path("/proc").glob("[0-9]*/cmdline"):
    if file.read_bytes().split(b"\\0")[-2:-1] == [b"mesh.platforms.docker.queue_process"]:
        print(file.parent.name)
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with contextlib.closing(prepare(tmp_path_factory.mktemp("images"))) as found:
        yield found


def pod(name: str, env: Sequence[dict[str, Any]] = (), **fields: Any) -> Pod:
    container = {
        "name": "app",
        "image": SHOP_IMAGE,
        "env": [{"name": "POD_NAME", "value": name}, *env],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10},
        **fields,
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
        return await self.start(pod(name), Surroundings())

    async def start(self, made: Pod, around: Surroundings) -> RunningPod:
        placed: RunningPod = self.platform.place(made, around, lambda: None)
        assert await placed.initialise()
        placed.start(["app"])
        await until(lambda: placed.statuses()[0].ready, f"{made.name} is ready")
        return placed

    async def call(self, caller: RunningPod, called: RunningPod) -> bool:
        """Whether one pod's app reaches the other's."""
        url = f"http://{called.pod.status.pod_ip}:8000/"
        return (await caller.exec("app", ["python3", "-c", CALL, url], 30)).code == 0

    async def timed(self, caller: RunningPod, called: RunningPod) -> float:
        """Seconds that a call of more than `PAD` bytes takes."""
        url = f"http://{called.pod.status.pod_ip}:8000/"
        told = await caller.exec("app", ["python3", "-c", TIMED, url, str(PAD)], 60)
        assert told.code == 0, told.output
        return float(told.output)


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


def test_variables_come_from_secrets_and_config_maps(engine: Any, tmp_path: Path) -> None:
    variables = [
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "password", "optional": True}}},
    ]
    made = pod("web", env=variables, envFrom=[{"configMapRef": {"name": "settings"}}])
    meta = {"login": ObjectMeta(name="login"), "settings": ObjectMeta(name="settings")}
    around = Surroundings(
        config_maps={"settings": ConfigMap(api_version="v1", metadata=meta["settings"], data={"SIZE": "2"})},
        secrets={"login": Secret(api_version="v1", metadata=meta["login"], string_data={"password": "s3cr3t"})},
    )

    async def work(lab: Lab) -> None:
        with pytest.raises(PlatformError, match='configmap "settings" not found'):
            lab.platform.place(made, Surroundings(), lambda: None)
        web = await lab.start(made, around)
        told = await web.exec("app", ["sh", "-c", "echo $PASSWORD $SIZE ${ABSENT-unset}"], 30)
        assert told.output.split() == ["s3cr3t", "2", "unset"]

    in_lab(engine, tmp_path / "state", work)


def test_containers_share_a_folder_and_see_files_read_only(engine: Any, tmp_path: Path) -> None:
    shared = {"name": "shared", "mountPath": "/shared"}
    files = [
        {"name": "config", "mountPath": "/etc/conf/app"},
        {"name": "secret", "mountPath": "/s/k", "subPath": "key"},
    ]
    volumes = [
        {"name": "shared", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "own"}},
        {"name": "secret", "secret": {"secretName": "own"}},
    ]
    before = pod("writes", command=["sh", "-c", "echo before > /shared/told"], volumeMounts=[shared])
    writes = replace(before.spec.containers[0], name="writes", readiness_probe=None)
    made = pod("web", volumeMounts=[shared, *files])
    spec = replace(
        made.spec,
        volumes=tuple(volumes),
        init_containers=(writes,),
    )
    around = Surroundings(
        config_maps={"own": ConfigMap(api_version="v1", metadata=ObjectMeta(name="own"), data={"color": "violet"})},
        secrets={"own": Secret(api_version="v1", metadata=ObjectMeta(name="own"), string_data={"key": "s3cr3t"})},
    )

    async def work(lab: Lab) -> None:
        web = await lab.start(replace(made, spec=spec), around)
        told = await web.exec("app", ["cat", "/shared/told", "/etc/conf/app/color", "/s/k"], 30)
        assert (told.code, told.output) == (0, "before\nviolets3cr3t")
        assert (await web.exec("app", ["touch", "/shared/after"], 30)).code == 0
        (container,) = [each["Id"] for each in labelled(engine, tmp_path / "state") if is_app(each)]
        seen = {each["Destination"]: each["RW"] for each in engine.api.inspect_container(container)["Mounts"]}
        assert {place: seen[place] for place in ("/shared", "/etc/conf/app", "/s/k")} == {
            "/shared": True,
            "/etc/conf/app": False,
            "/s/k": False,
        }
        await web.stop(drain=False, grace_s=1)
        assert [each for each in engine.api.volumes()["Volumes"] or () if "web" in each["Name"]] == []
        assert list((tmp_path / "state" / "volumes").iterdir()) == []

    in_lab(engine, tmp_path / "state", work)


def test_an_app_is_who_it_asks_to_be_with_the_rights_and_limits_that_it_asks_for(engine: Any, tmp_path: Path) -> None:
    context = {
        "runAsUser": 2000,
        "runAsGroup": 3000,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    made = pod("web", securityContext=context, resources={"limits": {"memory": "200Mi", "cpu": "16"}})
    refused = (
        ({"runAsUser": 1337}, "runAsUser 1337 passes the sidecar by"),
        ({"privileged": True}, "lead around the sidecar"),
    )

    async def work(lab: Lab) -> None:
        for wrong, why in refused:
            with pytest.raises(PlatformError, match=why):
                lab.platform.place(pod("no", securityContext=wrong), Surroundings(), lambda: None)
        web = await lab.start(made, Surroundings())
        assert (await web.exec("app", ["sh", "-c", "id -u; id -g"], 30)).output.split() == ["2000", "3000"]
        assert "Read-only file system" in (await web.exec("app", ["touch", "/tmp/new"], 30)).output
        (container,) = [each["Id"] for each in labelled(engine, tmp_path / "state") if is_app(each)]
        host = engine.api.inspect_container(container)["HostConfig"]
        assert (host["Memory"], host["CpuQuota"], host["CpuPeriod"]) == (200 * 1024**2, 1_600_000, 100_000)

    in_lab(engine, tmp_path / "state", work)


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
        await one.stop(drain=False, grace_s=1)
        alone.lift()  # with the pod it has gone

    in_lab(engine, tmp_path / "state", work)


class Infra:
    """What is seen from a pod's infra container: who meets rules of faults there, and who reads queues."""

    def __init__(self, engine: Any, state: Path, pod: str) -> None:
        found = [each for each in labelled(engine, state) if each["Labels"].get("meshdrill.dev/pod") == pod]
        (self._id,) = [each["Id"] for each in found if each["Labels"]["meshdrill.dev/container"] == "POD"]
        self._engine = engine

    def _run(self, *command: str) -> str:
        code, said = self._engine.exec(self._id, list(command), "0:0")
        assert code == 0, said
        return str(said.decode())

    def met(self) -> list[int]:
        """Packets that each rule has met."""
        return [int(line.split()[0]) for line in self._run("iptables", "-nvxL", CHAIN).splitlines()[2:]]

    def readers(self) -> list[str]:
        """Pids in the container of who reads queues."""
        return self._run("python", "-c", READERS).split()

    def kill(self, pid: str) -> None:
        self._run("python", "-c", f"import os; os.kill({pid}, 9)")


async def refuse_without_queues(lab: Lab, state: Path) -> None:
    """Skips the test where the kernel has none, which is known as soon as the control plane's place is there."""
    await lab.platform.start_control(["sleep", "infinity"], state / "logs" / "control.log")
    if lab.platform.lacking:
        pytest.skip("; ".join(f"no {name}: {why}" for name, why in lab.platform.lacking.items()))


def test_a_delay_and_a_bandwidth_are_on_what_two_pods_exchange_and_on_no_others(engine: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"

    async def work(lab: Lab) -> None:
        await refuse_without_queues(lab, state)
        one, two, other = await asyncio.gather(*(lab.place(name) for name in ("one", "two", "other")))
        infra = Infra(engine, state, "one")
        latency, jitter = 0.3, 0.05
        late = Delay(latency=timedelta(seconds=latency), jitter=timedelta(seconds=jitter))
        rate = 80_000
        for effect, ways in ((late, (1, 1, 2)), (Bandwidth(rate=rate), (1, 0, 1))):
            for direction, count in zip((Direction.TO, Direction.FROM, Direction.BOTH), ways, strict=True):
                laid = lab.platform.disturb(one, effect, direction, [two])
                took = await lab.timed(one, two)
                # A call makes a connection and asks: two round trips, of which the fault is on one way or both.
                least = 2 * count * (latency - jitter) if effect is late else count * PAD * 8 / rate
                assert took >= least
                met = infra.met()
                assert len(met) == (2 if direction is Direction.BOTH else 1)
                assert min(met) > 0
                assert await lab.call(one, other)
                # The end of the call before may still have come, which is less than a call.
                assert all(after - before <= before // 2 for before, after in zip(met, infra.met(), strict=True))
                assert one.statuses()[0].ready  # the node reaches it as ever
                laid.lift()
                laid.lift()
                assert infra.met() == []
                assert await lab.call(one, two)
        await until(lambda: not infra.readers(), "who read the queues has ended")

    in_lab(engine, state, work)


def test_what_waits_in_a_pods_queue_goes_on_when_the_fault_ends_or_its_reader(engine: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"

    async def work(lab: Lab) -> None:
        await refuse_without_queues(lab, state)
        one, two = await asyncio.gather(*(lab.place(name) for name in ("one", "two")))
        infra = Infra(engine, state, "one")
        endless = Delay(latency=timedelta(hours=1))
        laid = lab.platform.disturb(one, endless, Direction.TO, [two])
        waiting = asyncio.create_task(lab.call(one, two))
        await until(lambda: sum(infra.met()), "its packet waits")
        laid.lift()
        assert await waiting

        laid = lab.platform.disturb(one, endless, Direction.TO, [two])
        (reader,) = infra.readers()
        infra.kill(reader)
        await until(lambda: not infra.readers(), "nobody reads the queue")
        assert await lab.call(one, two)
        assert sum(infra.met()) > 0
        laid.lift()
        assert infra.met() == []

        # Another one reads what comes then, and both end with the pod.
        lab.platform.disturb(one, endless, Direction.TO, [two])
        assert len(infra.readers()) == 1
        await one.stop(drain=False, grace_s=1)

    in_lab(engine, state, work)
