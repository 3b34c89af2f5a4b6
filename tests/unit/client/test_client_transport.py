"""The HTTPS connection under the client, against a real TLS server that misbehaves on request."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mesh.ca.folder import ROOT_CERT, open_ca
from mesh.client import ApiError, MeshNotRunning
from mesh.client.transport import Transport

PARTY = 3


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the number of requests and connections so far; some paths do something else."""

    protocol_version = "HTTP/1.1"
    meeting: threading.Barrier
    connections = 0
    requests = 0

    def setup(self) -> None:
        super().setup()
        type(self).connections += 1

    def do_GET(self) -> None:
        type(self).requests += 1
        if self.path == "/meet":
            self.meeting.wait(10)
        answers = {
            "/plain-error": (502, b"<html>bad gateway"),
            "/status": (422, json.dumps(STATUS).encode()),
            "/cut": (200, b"{"),
        }
        seen = {"requests": self.requests, "connections": self.connections, "token": self.headers["Authorization"]}
        code, body = answers.get(self.path, (200, json.dumps(seen).encode()))
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) + (9 if self.path == "/cut" else 0)))
        self.end_headers()
        self.wfile.write(body)
        # Said nothing about closing, and closes all the same: what an idle time limit or a restart looks like.
        self.close_connection = self.path in {"/close", "/cut"}

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""


STATUS = {
    "kind": "Status",
    "reason": "Invalid",
    "message": "2 problems",
    "code": 422,
    "details": {"causes": [{"field": "spec.hosts", "message": "is required"}, {"message": "and no"}]},
}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    ca = open_ca(folder / "ca")
    credentials = ca.certificates.issue_server("127.0.0.1", datetime.now(UTC))
    (folder / "server.pem").write_bytes(credentials.key + credentials.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    handler = type("CountingHandler", (Handler,), {"meeting": threading.Barrier(PARTY)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[Transport]:
    (tmp_path / "token").write_text("secret\n")
    with serving(tmp_path) as api:
        transport = Transport(api, tmp_path / "token", tmp_path / "ca" / ROOT_CERT, 5.0)
        yield transport
        transport.close()


def test_one_connection_carries_many_calls(transport: Transport) -> None:
    answers = [transport.call("GET", "/") for _ in range(3)]
    assert [answer["requests"] for answer in answers] == [1, 2, 3]
    assert answers[-1]["connections"] == 1
    assert answers[-1]["token"] == "Bearer secret"


def test_a_connection_that_was_closed_meanwhile_costs_no_request(transport: Transport) -> None:
    assert transport.call("GET", "/close")["requests"] == 1
    wait_until_closed(transport)
    answer = transport.call("GET", "/")
    assert (answer["requests"], answer["connections"]) == (2, 2)


def wait_until_closed(transport: Transport) -> None:
    (connection,) = transport._idle
    connection.sock.settimeout(5.0)
    assert connection.sock.read(1) == b""


def test_calls_at_the_same_time_do_not_share_a_connection(transport: Transport) -> None:
    with ThreadPoolExecutor(PARTY) as pool:
        met = list(pool.map(lambda _: transport.call("GET", "/meet"), range(PARTY)))
    assert [answer["connections"] for answer in met] == [PARTY] * PARTY
    assert transport.call("GET", "/")["connections"] == PARTY


def test_the_token_is_read_anew(transport: Transport, tmp_path: Path) -> None:
    transport.call("GET", "/")
    (tmp_path / "token").write_text("rotated")
    assert transport.call("GET", "/")["token"] == "Bearer rotated"


def test_a_status_becomes_an_error_with_its_causes(transport: Transport) -> None:
    with pytest.raises(ApiError) as refused:
        transport.call("GET", "/status")
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")
    assert str(refused.value) == "2 problems\n  spec.hosts: is required\n  and no"


def test_another_error_page_becomes_one_too(transport: Transport) -> None:
    with pytest.raises(ApiError, match="502 Bad Gateway: <html>bad gateway") as refused:
        transport.call("GET", "/plain-error")
    assert (refused.value.status, refused.value.reason) == (502, "BadGateway")


def test_an_answer_that_is_cut_off_is_no_answer(transport: Transport) -> None:
    with pytest.raises(MeshNotRunning, match="does not answer"):
        transport.call("GET", "/cut")
    assert transport.call("GET", "/")["requests"] == 2


def test_nobody_there(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with serving(tmp_path) as api:
        pass
    transport = Transport(api, tmp_path / "token", tmp_path / "ca" / ROOT_CERT, 5.0)
    with pytest.raises(MeshNotRunning, match=rf"{api} does not answer \(Connection refused\): see `meshdrill status`"):
        transport.call("GET", "/")


def test_a_server_of_another_mesh_is_not_told_the_token(transport: Transport, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    open_ca(other / "ca")
    stranger = Transport(transport.api, tmp_path / "token", other / "ca" / ROOT_CERT, 5.0)
    with pytest.raises(MeshNotRunning, match="is not the control plane of this mesh"):
        stranger.call("GET", "/")
    assert transport.call("GET", "/")["requests"] == 1


@pytest.mark.parametrize("missing", ["token", "ca/root-cert.pem"])
def test_a_file_that_is_missing_is_named(transport: Transport, tmp_path: Path, missing: str) -> None:
    (tmp_path / missing).unlink()
    with pytest.raises(MeshNotRunning, match=missing):
        transport.call("GET", "/")


def test_only_https_will_do(tmp_path: Path) -> None:
    with pytest.raises(MeshNotRunning, match="must be https://"):
        Transport("http://127.0.0.1:1", tmp_path, tmp_path, 1.0)
