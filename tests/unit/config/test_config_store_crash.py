"""A process killed at any instant loses no write that it had acknowledged, and leaves no half transaction."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.config.keys import Key
from mesh.config.store import Store

WRITER = """
import sys
from pathlib import Path
from mesh.config.decode import decode_object
from mesh.config.store import Store

def config_map(name, count):
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": str(count)}}
    return decode_object(document)

store = Store(Path(sys.argv[1]))
for count in range(1_000_000):
    store.apply_all([config_map("left", count), config_map("right", count)])
    print(count, store.version, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
def test_acknowledged_writes_survive_a_kill(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "store.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout as lines:
        for _ in range(acknowledged):
            lines.readline()
        writer.send_signal(signal.SIGKILL)
        rest = lines.read().splitlines()
    assert writer.wait(timeout=30) == -signal.SIGKILL
    complete = [line.split() for line in rest if len(line.split()) == 2]
    count, version = (int(word) for word in complete[-1]) if complete else (acknowledged - 1, 2 * acknowledged)

    store = Store(path)
    left, right = (int(store.get(Key("ConfigMap", "default", name)).raw["data"]["n"]) for name in ("left", "right"))
    assert left == right
    assert left >= count
    assert store.version == 2 * (left + 1) >= version
    store.close()
