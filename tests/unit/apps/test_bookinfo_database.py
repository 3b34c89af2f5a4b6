"""Ratings v2: its settings, and what it answers when its database does not. With a real one: the integration tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from apps.common.settings import SettingError, Settings
from apps.mysqldb.config import Config as ServerConfig
from apps.mysqldb.schema import statements
from apps.ratings.app import create_app
from apps.ratings.config import Config
from apps.ratings.database import DatabaseConfig


def client(port: int, **environ: str) -> FlaskClient:
    pytest.importorskip("pymysql", reason="no MySQL driver: pip install meshdrill[mysql]")
    server = {"MYSQL_DB_HOST": "127.0.0.1", "MYSQL_DB_PORT": str(port), "MYSQL_DB_TIMEOUT_SECONDS": "0.2"}
    settings = Settings({"SERVICE_VERSION": "v2", "POD_NAME": "ratings-0", **server, **environ})
    return create_app(Config.read(settings)).test_client()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_the_database_is_found_by_bookinfos_variables() -> None:
    environ = {"MYSQL_DB_HOST": "db", "MYSQL_DB_PORT": "3307", "MYSQL_DB_USER": "reader", "MYSQL_DB_PASSWORD": "secret"}
    assert DatabaseConfig.read(Settings({"DB_TYPE": "mysql", **environ})) == DatabaseConfig(
        "db", 3307, "reader", "secret", 1
    )
    assert DatabaseConfig.read(Settings({})) == DatabaseConfig("mysqldb", 3306, "root", "", 1)


def test_other_databases_are_refused() -> None:
    with pytest.raises(SettingError, match="DB_TYPE='mongodb' is unknown; known are: mysql"):
        Config.read(Settings({"SERVICE_VERSION": "v2", "DB_TYPE": "mongodb"}))


def test_versions_without_a_database_do_not_read_its_variables() -> None:
    assert Config.read(Settings({"SERVICE_VERSION": "v1", "DB_TYPE": "mongodb"})).database is None


def test_a_database_that_refuses_is_told_of_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    response = client(port, MYSQL_DB_PASSWORD="secret").get("/ratings/0")
    assert (response.status_code, response.json["error"]) == (500, "could not connect to ratings database")
    assert response.headers["x-served-by"] == "ratings-0"
    assert f"root@127.0.0.1:{port}: could not connect to ratings database" in caplog.text
    assert "secret" not in caplog.text


def test_a_silent_database_is_not_waited_for(listening: socket.socket) -> None:
    response = client(listening.getsockname()[1]).get("/ratings/0")
    assert (response.status_code, response.json["error"]) == (500, "could not connect to ratings database")


def test_ratings_of_a_database_are_not_posted(listening: socket.socket) -> None:
    response = client(listening.getsockname()[1]).post("/ratings/0", json={"Reviewer1": 1})
    assert (response.status_code, response.json["error"]) == (501, "Post not implemented for database backed ratings")


def test_a_lost_database_does_not_make_ratings_unhealthy(listening: socket.socket) -> None:
    assert client(listening.getsockname()[1]).get("/health").status_code == 200


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "MYSQL_ROOT_PASSWORD is not set"),
        ({"MYSQL_ROOT_PASSWORD": "a\nb"}, "cannot be printed"),
        ({"MYSQL_ROOT_PASSWORD": "a", "DATA_FOLDER": "/nowhere"}, "DATA_FOLDER='/nowhere' is no folder"),
    ],
)
def test_a_server_without_what_it_needs_is_not_started(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        ServerConfig.read(Settings(environ))


def test_a_password_stays_within_its_statement() -> None:
    lines = statements("'; DROP DATABASE test; -- \\", 0).splitlines()
    assert "CREATE USER root@'%' IDENTIFIED BY '''; DROP DATABASE test; -- \\\\';" in lines
    assert all(line.endswith(";") for line in lines)


def test_a_slow_database_waits_in_every_query() -> None:
    assert "SLEEP(1.500)" in statements("a", 1.5)
    assert "SLEEP" not in statements("a", 0)
