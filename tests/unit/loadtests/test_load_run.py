"""Real Locust runs against a real server."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loadtests.events import Event, EventLog, read_events
from loadtests.plan import LoadPlan, Request, Stage
from loadtests.run import Load, LoadError, LoadRun

BOUND = 60.0


class Target:
    """Answers /<status> with that status, and tells the cookies and end of each request it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.busy = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                target.seen.append((self.command, self.path, self.headers.get("cookie", "")))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                status = int(self.path[1:]) if self.path[1:].isdigit() else 200
                self.send_response(status)
                self.send_header("content-length", "0")
                self.send_header("x-served-by", "pod-0")
                self.send_header("x-served-version", "v1")
                if self.path == "/login":
                    self.send_header("set-cookie", "session=s; Path=/")
                self.end_headers()
                if len(target.seen) >= 20:
                    target.busy.set()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Locust may leave in the middle of a response; that is its right."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()
    thread = threading.Thread(target=target.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield target
    target.server.shutdown()
    target.server.server_close()
    thread.join(BOUND)


def requests_plan(*paths: str, **plan: object) -> LoadPlan:
    return LoadPlan(requests=tuple(Request(path) for path in paths), pace_seconds=0.02, **plan)


def test_a_run_records_every_request_that_the_server_saw(target: Target, tmp_path: Path) -> None:
    run = LoadRun(target.url, users=3, seconds=2, plan=requests_plan("/a", "/b"))
    with Load(run, tmp_path / "run") as load:
        assert load.wait(BOUND) == 0
        events = list(load.events())
    assert Counter(event.name for event in events) == Counter(path for _, path, _ in target.seen)
    assert {event.name for event in events} == {"/a", "/b"}
    assert {(event.status, event.served_by, event.served_version, event.error) for event in events} == {
        (200, "pod-0", "v1", "")
    }
    assert json.loads((tmp_path / "run" / "stats.json").read_text())
    assert (tmp_path / "run" / "load.html").exists()
    assert (tmp_path / "run" / "stats_stats.csv").exists()


def test_expected_statuses_do_not_fail_a_run_and_others_do(target: Target, tmp_path: Path) -> None:
    expected = requests_plan("/503", expect_statuses=frozenset({503}))
    with Load(LoadRun(target.url, users=1, seconds=1, plan=expected), tmp_path / "expected") as load:
        assert load.wait(BOUND) == 0
        assert {(event.status, event.error) for event in load.events()} == {(503, "")}
    unexpected = requests_plan("/500", expect_statuses=frozenset({503}))
    with Load(LoadRun(target.url, users=1, seconds=1, plan=unexpected), tmp_path / "unexpected") as load:
        assert load.wait(BOUND) == 1
        assert all(event.status == 500 and "500" in event.error for event in load.events())


def test_a_refused_connection_is_an_event_with_an_error(target: Target, tmp_path: Path) -> None:
    target.server.server_close()
    with Load(LoadRun(target.url, users=1, seconds=1, plan=requests_plan("/")), tmp_path) as load:
        assert load.wait(BOUND) == 1
        events = list(load.events())
    assert {event.status for event in events} == {0}
    assert all(event.error and not event.served_by for event in events)


def test_a_request_without_an_answer_when_the_load_ends_is_a_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Load(LoadRun(url, users=1, plan=requests_plan("/slow")), tmp_path) as load:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(4096)
                load.stop()
            events = list(load.events())
    assert [(event.name, event.status, event.error) for event in events] == [
        ("/slow", 0, "no answer when the load ended")
    ]


def test_users_browse_bookinfo_signed_in_and_stop_when_told(target: Target, tmp_path: Path) -> None:
    with Load(LoadRun(target.url, users=2, plan=LoadPlan(login="jason", pace_seconds=0.02)), tmp_path) as load:
        assert target.busy.wait(BOUND)
        assert load.is_running
        assert load.stop() == 0
        events = list(load.events())
    browsed = [(path, cookie) for _, path, cookie in target.seen if path != "/login"]
    assert ("POST", "/login", "") in target.seen
    assert {cookie for _, cookie in browsed} == {"session=s"}
    assert {path for path, _ in browsed} <= {
        "/productpage",
        *(f"/api/v1/products{rest}" for rest in ("", "/0", "/0/reviews", "/0/ratings")),
    }
    assert len(events) == len(target.seen)


def test_stages_end_a_run_by_themselves(target: Target, tmp_path: Path) -> None:
    stages = (Stage(2, 1), Stage(1, 1))
    with Load(LoadRun(target.url, plan=requests_plan("/", stages=stages)), tmp_path) as load:
        assert load.wait(BOUND) == 0
        assert list(load.events())


def test_locust_ends_with_a_launcher_that_is_killed(target: Target, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from loadtests.run import Load, LoadRun;"
        "print(Load(LoadRun(sys.argv[1]), Path(sys.argv[2])).pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, target.url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        locust = int(launcher.stdout.readline())
        assert target.busy.wait(BOUND)
        launcher.send_signal(signal.SIGKILL)
        launcher.wait(BOUND)
    wait_for(lambda: not is_alive(locust))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(BOUND / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    pytest.fail("never came true")


def test_a_run_that_fails_to_start_shows_the_log(tmp_path: Path) -> None:
    run = LoadRun("not a url", users=1, seconds=1, plan=LoadPlan(pace_seconds=-1))
    with Load(run, tmp_path) as load, pytest.raises(LoadError, match="MESHDRILL_PACE_SECONDS"):
        load.wait(BOUND)


def test_a_run_that_takes_too_long_says_so_and_is_ended(target: Target, tmp_path: Path) -> None:
    with Load(LoadRun(target.url), tmp_path) as load, pytest.raises(LoadError, match="still runs after"):
        load.wait(0.1)
    assert not load.is_running


def test_the_callers_settings_of_locust_and_proxies_stay_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LOCUST_USERS", "MESHDRILL_EVENTS", "http_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://elsewhere")
    environ = LoadRun("http://127.0.0.1").environ(tmp_path)
    assert "http://elsewhere" not in environ.values()
    assert environ["PATH"] == os.environ["PATH"]


def test_the_launcher_does_not_import_locust() -> None:
    script = "import sys, loadtests.run; sys.exit(any(name in sys.modules for name in ('locust', 'gevent')))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=BOUND)


def test_an_event_file_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(read_events(path)) == []
    log = EventLog(path)
    event = Event(1.5, 2.25, "GET", "/ä", 200, "pod", "v1", "")
    log.add(event)
    log.flush()
    with path.open("a") as file:
        file.write('{"start": 1')
    assert list(read_events(path)) == [event]
    log.close()


def shape_users(stages: str, seconds: list[float]) -> list[int | None]:
    """Ask the shape in a process of its own, as it imports locust."""
    script = (
        "import json; from loadtests.shapes import users_at; from loadtests.plan import Stage;"
        f"print(json.dumps([users_at(({stages}), second) for second in {seconds}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=BOUND)
    return json.loads(done.stdout)


def test_steps_and_ramps() -> None:
    stages = "Stage(10, 10, ramp=True), Stage(10, 5), Stage(2, 5), Stage(0, 2, ramp=True)"
    assert shape_users(stages, [0, 0.5, 5, 9.9, 10, 14.9, 15, 19.9, 20, 21, 22]) == [
        *(0, 1, 5, 10, 10, 10, 2, 2),
        *(2, 1, None),
    ]
