"""How a run ends: exit codes, what it refuses before it starts, and what it leaves when it is interrupted or killed."""

import signal
from pathlib import Path

import pytest
from bookinfo_mesh import Bookinfo, built_in, end, processes_of, until

pytestmark = pytest.mark.bookinfo


def test_a_drill_that_the_mesh_refuses_fails_at_once_with_file_and_line(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("canary-split")
    drill["spec"]["phases"][1]["resources"][0]["spec"]["http"][0]["rout"] = []
    run = bookinfo.changed(drill, out)
    assert run.code == 1
    assert run.folder is None
    assert "canary-split-changed.yaml:" in run.output
    assert "rout" in run.output
    assert "unknown field" in run.output


def test_a_drill_for_another_engine_is_skipped_and_no_pass(bookinfo: Bookinfo, out: Path) -> None:
    drill = built_in("canary-split")
    drill["spec"]["engines"] = ["envoy"]
    run = bookinfo.changed(drill, out)
    assert run.code == 1
    assert "SKIPPED" in run.output
    assert "it needs the envoy engine, and the mesh runs on python" in run.output
    assert run.junit[0].get("skipped") == "1"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["no-such-drill"], 2, "known are canary-split"),
        (["./none.yaml"], 1, "none.yaml: "),
    ],
)
def test_what_cannot_run_says_why(bookinfo: Bookinfo, out: Path, arguments: list[str], code: int, text: str) -> None:
    run = bookinfo.drill(*arguments, out=out)
    assert run.code == code
    assert text in run.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_undoes_all_and_writes_its_files(
    bookinfo: Bookinfo, out: Path, number: signal.Signals
) -> None:
    process = bookinfo.start("canary-split", out=out)
    until(bookinfo.faults, "the first fault lies on the mesh")
    process.send_signal(number)
    run = bookinfo.finish(process, out)
    assert run.code == 130
    assert bookinfo.faults() == []
    assert processes_of(out) == {}
    assert "Interrupted; every fault has been lifted." in run.output
    assert run.journal[0]["status"] == "interrupted"
    assert run.outcomes["every fault undone"] == "held"
    assert run.junit[0].get("errors") == "1"
    assert run.folder is not None
    assert "</html>" in (run.folder / "report.html").read_text()


def test_what_was_seen_under_a_fault_that_was_lost_is_void(bookinfo: Bookinfo, out: Path) -> None:
    process = bookinfo.start("canary-split", out=out)
    [fault] = until(bookinfo.faults, "the first fault lies on the mesh")
    with bookinfo.client() as client:
        client.delete("Fault", fault)
    run = bookinfo.finish(process, out)
    assert run.code == 1
    outcomes = run.outcomes
    assert outcomes["predicted split v1 90 / v2 10"] == outcomes["sampled split v1 90 / v2 10"] == "not measured"
    assert outcomes["predicted split v1 50 / v2 50"] == outcomes["sampled split v1 50 / v2 50"] == "held"
    assert "ended before its block did" in run.output


def test_what_a_killed_run_laid_over_the_mesh_ends_by_itself(bookinfo: Bookinfo, out: Path) -> None:
    with bookinfo.client() as client:
        before = client.list("VirtualService").items
    process = bookinfo.start("canary-split", out=out)
    until(bookinfo.faults, "the first fault lies on the mesh")
    assert end(process, signal.SIGKILL) == -signal.SIGKILL
    process.communicate()
    second = bookinfo.drill("canary-split", out=out)
    assert second.code == 1
    assert "on the mesh lies already: canary-split-1-90-10 (until " in second.output
    until(lambda: not processes_of(out), "Locust is gone")
    until(lambda: not bookinfo.faults(), "the fault's lease has ended")
    with bookinfo.client() as client:
        client.wait_synced()
        assert client.list("VirtualService").items == before
