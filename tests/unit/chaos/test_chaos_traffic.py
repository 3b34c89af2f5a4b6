"""Requests of a check against a real server: what is recorded, what is bounded, and the verdicts that follow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chaos import keyed
from chaos.checks import PredictedSplit, Responses, SampledSplit
from chaos.checks.base import Context
from chaos.checks.responses import Expect, Login
from chaos.checks.split import Detect
from chaos.decode import Seconds
from chaos.errors import CannotMeasure
from chaos.traffic import MAX_BODY, Request, Sender
from chaos.verdict import Outcome
from mesh.client import MeshClient

WEIGHTS = {"v1": 90, "v2": 10}


class Handler(BaseHTTPRequestHandler):
    """A weighted route: the version by the request's trace id, or by turns; other paths as their names say."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write: else Nagle holds the body back
    served = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        with self.lock:
            type(self).served += 1
            turn = self.served
        if self.path == "/close":
            self.close_connection = True
            return
        status = int(self.path[1:]) if self.path[1:].isdigit() else 200
        self.answer(status, self.body(turn))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(302 if self.path == "/login" else 403, b"", cookie="user=jason")

    def body(self, turn: int) -> bytes:
        if self.path == "/big":
            return b"x" * (2 * MAX_BODY)
        if self.path == "/who":
            return self.headers.get("cookie", "nobody").encode()
        value = self.headers.get("x-b3-traceid")
        share = {"/split": 10, "/half": 5, "/lost": 1000}.get(self.path, 10)
        version = keyed.predict(value, WEIGHTS) if value else ("v2" if turn % share == 0 else "v1")
        return json.dumps({"version": version}).encode()

    def answer(self, status: int, body: bytes, cookie: str = "") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("X-Served-By", "pod-1")
        if cookie:
            self.send_header("set-cookie", cookie)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.served = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def context(url: str, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """These checks ask nothing of the mesh's API, and nobody listens there."""
    folder = tmp_path_factory.mktemp("client")
    return Context(MeshClient("https://127.0.0.1:1", folder / "token", folder / "root"), url, "seed", lambda _: None)


def test_a_sample_tells_what_came(url: str) -> None:
    with Sender(url) as sender:
        sample = sender.send(Request("/x", {"x-b3-traceid": "0000000000000095"}))
    assert (sample.status, sample.served_by, sample.field("version"), sample.error) == (200, "pod-1", "v2", "")
    assert sample.field("version.deeper") == sample.field("none") == ""


def test_a_sample_without_an_answer_says_why_and_is_not_sent_again(url: str) -> None:
    with Sender(url) as sender:
        sample = sender.send(Request("/close"))
    assert sample.status == 0
    assert "ConnectionError" in sample.error
    assert Handler.served == 1


def test_a_body_is_read_up_to_a_limit(url: str) -> None:
    with Sender(url) as sender:
        assert len(sender.send(Request("/big")).body) == MAX_BODY
        assert sender.send(Request("/x")).status == 200


def test_samples_come_in_the_order_of_the_requests(url: str) -> None:
    values = list(keyed.values("order", 60))
    with Sender(url) as sender:
        wanted = [Request("/x", {"x-b3-traceid": value}) for value in values]
        samples = sender.send_all(wanted, concurrency=4, within_s=30, progress=lambda _: None)
    assert [sample.request.headers["x-b3-traceid"] for sample in samples] == values


def test_when_time_is_up_nothing_is_said(context: Context) -> None:
    check = PredictedSplit("/split", WEIGHTS, requests=50, within=Seconds(0.0))
    judge = check.begin(context)
    with pytest.raises(CannotMeasure, match="of 50 requests were answered within 0 s"):
        judge()


def test_a_predicted_split_holds_where_the_weights_are_the_configured_ones(context: Context) -> None:
    verdict = PredictedSplit("/split", WEIGHTS, requests=60).begin(context)()
    assert (verdict.outcome, verdict.evidence["wrong"]) == (Outcome.HELD, 0)


@pytest.mark.parametrize("weights", [{"v1": 80, "v2": 20}, {"v2": 10, "v1": 90}])
def test_a_predicted_split_sees_other_weights_or_another_order(context: Context, weights: dict[str, int]) -> None:
    verdict = PredictedSplit("/split", weights, requests=100).begin(context)()
    assert verdict.outcome is Outcome.VIOLATED
    assert "requests went elsewhere: x-b3-traceid" in verdict.detail


def test_a_predicted_split_counts_failures_as_wrong(context: Context) -> None:
    verdict = PredictedSplit("/503", WEIGHTS, requests=5).begin(context)()
    assert verdict.evidence["wrong"] == 5


SAMPLED = {"weights": WEIGHTS, "detect": Detect("v2", 50.0)}


@pytest.mark.parametrize(
    ("path", "outcome", "detail"),
    [
        ("/split", Outcome.HELD, "would miss v2 at 50 %"),
        ("/lost", Outcome.VIOLATED, "v2 got 0 of"),
        ("/503", Outcome.VIOLATED, "requests failed: status 503"),
    ],
)
def test_a_sampled_split_is_judged_by_its_counts(context: Context, path: str, outcome: Outcome, detail: str) -> None:
    requests = 300 if path == "/lost" else None
    verdict = SampledSplit(path, **SAMPLED, requests=requests).begin(context)()  # type: ignore[arg-type]
    assert verdict.outcome is outcome
    assert detail in verdict.detail


def test_a_sample_too_small_for_its_claim_says_so_and_sends_nothing(context: Context) -> None:
    verdict = SampledSplit("/split", **SAMPLED, requests=20).begin(context)()  # type: ignore[arg-type]
    assert verdict.outcome is Outcome.TOO_FEW
    assert Handler.served == 0


def test_responses_go_out_as_the_user_who_logged_in(context: Context) -> None:
    login = Login("/login", {"username": "jason"})
    expect = Expect(contains=("user=jason",))
    assert Responses("jason", "/who", expect, 2, login).begin(context)().outcome is Outcome.HELD
    assert Responses("anybody", "/who", expect, 2).begin(context)().outcome is Outcome.VIOLATED


def test_a_login_that_is_refused_leaves_nothing_measured(context: Context) -> None:
    judge = Responses("jason", "/who", login=Login("/elsewhere", {})).begin(context)
    with pytest.raises(CannotMeasure, match=r"the login at .*/elsewhere failed: 403"):
        judge()


@pytest.mark.parametrize(
    ("path", "expect", "detail"),
    [
        ("/503", Expect(), "2 of 2 differ: status 503, not 200"),
        ("/x", Expect(contains=("stars",)), "lacks 'stars'"),
        ("/x", Expect(excludes=("version",)), "has 'version'"),
        ("/x", Expect(at_least=Seconds(5.0)), "s, not 5 to 30 s"),
        ("/close", Expect(), "ConnectionError"),
    ],
)
def test_a_response_that_differs_is_told(context: Context, path: str, expect: Expect, detail: str) -> None:
    verdict = Responses("page", path, expect, 2).begin(context)()
    assert verdict.outcome is Outcome.VIOLATED
    assert detail in verdict.detail
