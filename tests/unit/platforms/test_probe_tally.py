import asyncio
from collections.abc import Sequence

import pytest

from mesh.api.pod import ContainerPort, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction
from mesh.platforms.base import ExecResult, PlatformError
from mesh.platforms.probes import Tally, Target, check, run_probe

TARGET = Target.of("127.0.0.1", [ContainerPort(container_port=80, name="web")], {80: 4000})


def verdicts(results: Sequence[bool], success: int, failure: int) -> list[bool | None]:
    tally = Tally(success, failure)
    seen = []
    for result in results:
        tally.add(result)
        seen.append(tally.verdict)
    return seen


def test_a_verdict_needs_its_threshold_in_a_row() -> None:
    assert verdicts([False, False, True, False, False, False], 1, 3) == [None, None, True, True, True, False]
    assert verdicts([True, False, True, True], 2, 1) == [None, False, False, True]


@pytest.mark.parametrize(("port", "expected"), [("web", 4000), (80, 4000), (81, 81), ("81", 81)])
def test_a_probe_goes_where_the_app_really_listens(port: int | str, expected: int) -> None:
    assert TARGET.resolve(port) == expected


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (Probe(http_get=HTTPGetAction(port="metrics")), 'no port of the container is named "metrics"'),
        (Probe(grpc=GRPCAction(port=80)), "kind grpc is not run"),
    ],
)
def test_a_probe_that_could_never_run_is_refused_beforehand(probe: Probe, message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        check(probe, TARGET)


async def _no_exec(_command: Sequence[str], _timeout_s: float) -> ExecResult:
    return ExecResult(3, "not well\n")


async def _answer(status: bytes, seen: list[bytes]) -> asyncio.Server:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


def probe_server(status: bytes) -> tuple[str | None, bytes]:
    async def run() -> tuple[str | None, bytes]:
        seen: list[bytes] = []
        async with await _answer(status, seen) as server:
            port = server.sockets[0].getsockname()[1]
            probe = Probe(http_get=HTTPGetAction(port=port, path="/well?x=1"))
            return await run_probe(probe, TARGET, _no_exec), seen[0]

    return asyncio.run(run())


@pytest.mark.parametrize("status", [b"200 OK", b"204 No Content", b"302 Found", b"399 Odd"])
def test_http_success_is_200_to_399(status: bytes) -> None:
    why, request = probe_server(status)
    assert why is None
    assert request.startswith(b"GET /well?x=1 HTTP/1.1\r\n")
    assert b"User-Agent: kube-probe/" in request


@pytest.mark.parametrize(
    ("status", "words"),
    [(b"404 Not Found", "answered 404"), (b"500 No", "answered 500"), (b"", "not answer with HTTP")],
)
def test_any_other_http_answer_is_a_failure_in_words(status: bytes, words: str) -> None:
    why, _ = probe_server(status)
    assert why is not None
    assert words in why


def test_a_server_that_is_silent_fails_by_the_timeout() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    async def run() -> str | None:
        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await run_probe(Probe(http_get=HTTPGetAction(port=port)), TARGET, _no_exec)

    assert asyncio.run(run()) == "no answer within 1 s"


def test_tcp_and_command_probes_fail_for_their_own_reasons() -> None:
    closed = Probe(tcp_socket=TCPSocketAction(port=1))
    assert asyncio.run(run_probe(closed, TARGET, _no_exec)) == "Connection refused"
    command = Probe(exec=ExecAction(command=("check",)))
    assert asyncio.run(run_probe(command, TARGET, _no_exec)) == "exit code 3: not well"
