from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from mesh.cli.columns import pod_word, restarts, trouble_of, troubles
from mesh.cli.errors import Failure
from mesh.cli.show import labels_of, shown
from mesh.cli.status import render

NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def pod(name: str, namespace: str = "default", **status: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}


RUNNING = {"name": "app", "ready": True, "restartCount": 1, "state": {"running": {}}}
CRASHING = {"name": "app", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}


def test_pods_show_what_kubectl_shows() -> None:
    pods = [
        pod("a", phase="Running", podIP="127.90.1.1", containerStatuses=[RUNNING, RUNNING | {"name": "istio-proxy"}]),
        pod("b", phase="Running", containerStatuses=[CRASHING]),
    ]
    assert shown("Pod", pods, None, single=False, now=NOW).splitlines() == [
        "NAME   READY   STATUS             RESTARTS   IP           AGE",
        "a      2/2     Running            2          127.90.1.1   1m",
        "b      0/1     CrashLoopBackOff   4                       1m",
    ]


DONE = {"name": "first", "ready": True, "restartCount": 1, "state": {"terminated": {"exitCode": 0}}}
PENDING = {"name": "second", "state": {"waiting": {"reason": "PodInitializing"}}}
BACKING_OFF = {"name": "second", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}


@pytest.mark.parametrize(
    ("second", "word", "restarts_", "troubles_"),
    [
        (PENDING, "Init:1/2", 1, ["second: PodInitializing"]),
        (PENDING | {"state": {"running": {}}}, "Init:1/2", 1, ["second: running, and not through yet"]),
        (
            PENDING | {"state": {"terminated": {"exitCode": 2, "reason": "Error"}}},
            "Init:Error",
            1,
            ["second: ended with exit code 2"],
        ),
        (BACKING_OFF, "Init:CrashLoopBackOff", 4, ["second: CrashLoopBackOff"]),
        (DONE | {"name": "second"}, "PodInitializing", 0, ["app: PodInitializing"]),
    ],
)
def test_a_pod_shows_how_far_its_init_containers_are(
    second: dict[str, Any], word: str, restarts_: int, troubles_: list[str]
) -> None:
    app = {"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}
    found = pod("a", phase="Pending", initContainerStatuses=[DONE, second], containerStatuses=[app])
    assert (pod_word(found), restarts(found), troubles(found)) == (word, restarts_, troubles_)


def test_a_pod_fault_shows_what_is_done_to_whom() -> None:
    selector, target = {"matchLabels": {"app": "ratings"}}, {"matchLabels": {"app": "reviews"}}
    specs = [
        {"selector": selector, "target": target, "direction": "both", "partition": {}},
        {"selector": selector, "delay": {"latency": "1s"}},
        {"selector": selector, "pause": {}},
    ]
    meta = {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    faults = [{"kind": "PodFault", "metadata": meta, "spec": spec} for spec in specs]
    assert [line.rstrip() for line in shown("PodFault", faults, None, single=False, now=NOW).splitlines()] == [
        "NAME   EFFECT      PODS          DIRECTION   TARGET        AGE",
        "x      partition   app=ratings   both        app=reviews   1m",
        "x      delay       app=ratings   to          <all>         1m",
        "x      pause       app=ratings                             1m",
    ]


def test_a_pod_says_why_it_is_not_ready() -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "no such file: /srv/run"}
    unready = {"name": "slow", "state": {"running": {}}}
    ended = {"name": "done", "state": {"terminated": {"exitCode": 3}}}
    statuses = [RUNNING | {"name": "good"}, {"name": "app", "state": {"waiting": waiting}}, unready, ended]
    statuses.append(ended | {"name": "done too"})
    sick = pod("a", containerStatuses=statuses)
    assert troubles(sick) == [
        "app: no such file: /srv/run",
        "slow: running, but its readiness probe does not succeed",
        "done: ended with exit code 3",
    ]
    assert trouble_of(sick, "good") is None
    sick["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert troubles(sick) == []


def test_status_tells_a_pods_troubles_below_the_table() -> None:
    mesh = {"name": "m", "platform": "process", "engine": "python", "gateway": "http://127.0.0.1:1"}
    row = {"containers": "1/1", "status": "Running", "restarts": 0, "ip": "127.90.1.1", "proxy": "synced"}
    good, sick = row | {"name": "a", "troubles": []}, row | {"name": "b", "troubles": ["app: no such file"]}
    assert "meshdrill logs" not in render({"mesh": mesh, "pods": [good]})
    assert render({"mesh": mesh, "pods": [good, sick]}).splitlines()[-2:] == [
        "b: app: no such file",
        "what a pod printed: meshdrill logs POD",
    ]


def test_objects_of_several_namespaces_say_which() -> None:
    lines = shown("Pod", [pod("a"), pod("b", "shop")], None, single=False, now=NOW).splitlines()
    assert lines[0].startswith("NAMESPACE   NAME")
    assert lines[2].startswith("shop        b")


def test_several_objects_are_a_list_and_one_is_itself() -> None:
    several = yaml.safe_load(shown("Pod", [pod("a")], "yaml", single=False, now=NOW))
    assert (several["kind"], several["items"][0]["metadata"]["name"]) == ("List", "a")
    assert yaml.safe_load(shown("Pod", [pod("a")], "yaml", single=True, now=NOW))["kind"] == "Pod"


def test_nothing_is_said_in_words() -> None:
    assert shown("Pod", [], None, single=False, now=NOW) == "no Pod found"


@pytest.mark.parametrize("selector", ["a", "=b", "a=b,c"])
def test_a_selector_that_is_none_is_refused(selector: str) -> None:
    with pytest.raises(Failure, match="is not of the form label=value"):
        labels_of(selector)


def test_selectors_are_labels() -> None:
    assert labels_of("a=b,c==d") == {"a": "b", "c": "d"}
