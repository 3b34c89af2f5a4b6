import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from flask import Flask

from apps.common.server import Listen, Server

BOUND = 20.0


def recording(sends: list[bytes]) -> type[Server]:
    class Channel(Server.channel_class):
        def send(self, data, do_close=True):
            sends.append(bytes(data))
            return super().send(data, do_close)

    class RecordingServer(Server):
        channel_class = Channel

    return RecordingServer


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(BOUND)
        server.task_dispatcher.shutdown()
        server.trigger.close()
    assert not thread.is_alive()


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.get("/<int:size>", endpoint="sized")(lambda size: "x" * size)
    return app


@pytest.mark.parametrize("size", [0, 1, 20_000])
def test_head_and_body_leave_in_one_write(app: Flask, size: int) -> None:
    sends: list[bytes] = []
    server = recording(sends)(app, Listen("127.0.0.1", 0, 2, BOUND))
    with running(server), requests.Session() as session:
        for _ in range(3):
            assert len(session.get(f"{server.url}/{size}", timeout=BOUND).content) == size
        assert session.get(f"{server.url}/none", timeout=BOUND).status_code == 404
    assert [send.count(b"HTTP/1.1 ") for send in sends] == [1, 1, 1, 1]
    assert all(send.startswith(b"HTTP/1.1 200 OK\r\n") and send.endswith(b"x" * size) for send in sends[:3])


def test_a_malformed_request_is_refused_in_one_write(app: Flask) -> None:
    sends: list[bytes] = []
    server = recording(sends)(app, Listen("127.0.0.1", 0, 2, BOUND))
    with running(server), socket.create_connection((server.effective_host, int(server.effective_port)), BOUND) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n")
        while peer.recv(65536):
            pass
    assert len(sends) == 1
    assert sends[0].startswith(b"HTTP/1.1 501 ")


def test_connections_send_without_delay(app: Flask) -> None:
    server = Server(app, Listen("127.0.0.1", 0, 2, BOUND))
    with running(server), requests.Session() as session:
        session.get(f"{server.url}/1", timeout=BOUND)
        (channel,) = server.active_channels.values()
        assert channel.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["details", "ratings", "reviews", "productpage"])
def test_a_signal_ends_a_service_cleanly_with_idle_connections_open(services, name: str, number: int) -> None:
    service = services(name).start()
    with requests.Session() as session:
        assert session.get(service.url + "/health", timeout=BOUND).status_code == 200
        service.process.send_signal(number)
        assert service.end() == (0, "")


def test_requests_in_flight_are_answered_before_the_end(services, peers) -> None:
    ratings = peers(body={"ratings": {"Reviewer1": 1, "Reviewer2": 2}})
    ratings.held = True
    environ = {"RATINGS_HOSTNAME": "127.0.0.1", "RATINGS_SERVICE_PORT": ratings.port}
    service = services("reviews", SERVICE_VERSION="v2", **environ).start()
    answers: list[requests.Response] = []
    caller = threading.Thread(target=lambda: answers.append(requests.get(service.url + "/reviews/0", timeout=BOUND)))
    caller.start()
    assert ratings.calls(at_least=1) == 1
    service.process.terminate()
    wait_until_refused(service.url)
    ratings.release()
    caller.join(BOUND)
    assert [review["rating"]["stars"] for review in answers[0].json()["reviews"]] == [1, 2]
    assert answers[0].headers["connection"] == "close"
    assert service.end() == (0, "")


def wait_until_refused(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    for _ in range(2000):
        try:
            socket.create_connection((host, int(port)), 1).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # it stopped listening at this very moment
    pytest.fail("still listening")


def test_the_drain_is_bounded(services) -> None:
    service = services(
        "ratings", SERVICE_VERSION="v-delayed", FAULT_PERCENT=100, DELAY_SECONDS=600, DRAIN_SECONDS=0.1
    ).start()
    with pytest.raises(requests.ReadTimeout):
        requests.get(service.url + "/ratings/0", timeout=0.3)
    service.process.terminate()
    assert service.end()[0] == 0


def test_a_setting_that_cannot_be_used_ends_the_start_with_its_name(services) -> None:
    code, output = services("reviews", SERVICE_VERSION="v4").end()
    assert (code, output) == (2, "reviews: SERVICE_VERSION='v4' is unknown; known are: v1, v2, v3\n")
    assert services("details", PORT="tcp://10.0.0.1:80").end()[0] == 2


def test_a_busy_address_ends_the_start_with_the_address(services) -> None:
    port = services("details").start().url.rsplit(":", 1)[1]
    code, output = services("details", PORT=port).end()
    assert (code, output) == (1, f"details: cannot listen on 127.0.0.1:{port}: Address already in use\n")
