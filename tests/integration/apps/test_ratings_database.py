"""Ratings v2 on a real MariaDB, which the database's own program runs; no mesh."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from apps.common.settings import Settings
from apps.ratings.app import create_app
from apps.ratings.config import Config

PASSWORD = 'it\'s \\ "secret"'
BOUND_S = 60.0


@pytest.fixture(autouse=True)
def possible() -> None:
    pytest.importorskip("pymysql", reason="no MySQL driver: pip install meshdrill[mysql]")
    if shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("no MariaDB on this machine (Debian: mariadb-server)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def database(port: int, data: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m apps.mysqldb`, which takes connections."""
    own = {"HOST": "127.0.0.1", "PORT": str(port), "MYSQL_ROOT_PASSWORD": PASSWORD, "DATA_FOLDER": str(data)}
    log = data.parent / "mysqldb.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "apps.mysqldb"], env={**os.environ, **own, **environ}, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + BOUND_S
        while b"ready for connections" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(BOUND_S)
        log.unlink()


def ratings(port: int, **environ: str) -> FlaskClient:
    server = {"MYSQL_DB_HOST": "127.0.0.1", "MYSQL_DB_PORT": str(port), "MYSQL_DB_PASSWORD": PASSWORD}
    generous = {"MYSQL_DB_TIMEOUT_SECONDS": "30"}
    settings = Settings({"SERVICE_VERSION": "v2", "DB_TYPE": "mysql", **server, **generous, **environ})
    return create_app(Config.read(settings)).test_client()


def answer(client: FlaskClient) -> tuple[int, object]:
    response = client.get("/ratings/0")
    return response.status_code, response.json.get("ratings") or response.json["error"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


STARS = {"Reviewer1": 5, "Reviewer2": 4}


def test_stars_come_from_the_table_until_the_server_is_lost_and_again_when_it_is_back(data: Path) -> None:
    client = ratings(port := free_port())
    with database(port, data):
        assert answer(client) == (200, STARS)
        assert list(data.iterdir()) != []
    assert answer(client) == (500, "could not connect to ratings database")
    assert list(data.iterdir()) == []
    with database(port, data):
        assert answer(client) == (200, STARS)


def test_nobody_gets_in_without_the_password_and_its_rows_are_what_is_answered(data: Path) -> None:
    import pymysql

    with database(port := free_port(), data):
        refused = ratings(port, MYSQL_DB_PASSWORD="another")
        assert answer(refused) == (500, "could not connect to ratings database")
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            pymysql.connect(host="127.0.0.1", port=port, user="root")
        own = pymysql.connect(
            host="127.0.0.1", port=port, user="root", password=PASSWORD, database="test", autocommit=True
        )
        with own, own.cursor() as cursor:
            cursor.execute("UPDATE ratings SET Rating = 1 WHERE ReviewID = 2")
            assert answer(ratings(port)) == (200, {"Reviewer1": 5, "Reviewer2": 1})
            cursor.execute("DELETE FROM ratings")
            assert answer(ratings(port)) == (404, "ratings not found")
            cursor.execute("DROP TABLE ratings")
            assert answer(ratings(port)) == (500, "could not perform select")


def test_a_slow_query_is_given_up(data: Path) -> None:
    with database(port := free_port(), data, DELAY_SECONDS="1"):
        assert answer(ratings(port)) == (200, STARS)
        assert answer(ratings(port, MYSQL_DB_TIMEOUT_SECONDS="0.5")) == (500, "could not perform select")


def test_the_server_ends_with_its_program_and_what_it_left_goes_at_the_next_start(data: Path) -> None:
    client = ratings(port := free_port())
    with database(port, data) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(BOUND_S)
        deadline = time.monotonic() + BOUND_S
        while answer(client)[0] != 500:
            assert time.monotonic() < deadline, "MariaDB outlives its program"
            time.sleep(0.05)
    (left,) = data.iterdir()
    with database(port, data):
        assert not left.exists()
        assert answer(client) == (200, STARS)
