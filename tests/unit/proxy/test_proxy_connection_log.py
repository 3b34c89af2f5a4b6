"""A listener's own access log comes and goes with its configuration, on the same port."""

from __future__ import annotations

import asyncio
from pathlib import Path

from live_sidecar import V3, chain, listener, play, resources, sidecar


async def ask(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /own HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


def logging(path: Path, port: int, types: str) -> str:
    rule = f"filter: {{log_type_filter: {{types: [{types}]}}}}"
    form = 'log_format: {text_format_source: {inline_string: "%ACCESS_LOG_TYPE% %PROTOCOL%\\n"}}'
    file = f'{{"@type": {V3}.access_loggers.file.v3.FileAccessLog, path: {path}, {form}}}'
    log = f"access_log: [{{name: file, {rule}, typed_config: {file}}}]"
    return listener(chain("a"), port).replace("{name: l,", f"{{name: l, {log},", 1)


def test_a_log_comes_and_goes_with_its_listener(tmp_path: Path) -> None:
    path = tmp_path / "connections"

    async def scene() -> None:
        async with sidecar(resources(listener(chain("a")))) as running:
            port = running.port
            await ask(port)
            for config in (
                logging(path, port, "NotSet"),
                logging(path, port, "TcpConnectionEnd"),
                listener(chain("a"), port),
            ):
                await running.server.apply(resources(config))
                await ask(port)
            await running.server.close(5)  # its connections are over, and the log is written out

    play(scene)
    assert path.read_text() == "NotSet HTTP/1.1\n"
