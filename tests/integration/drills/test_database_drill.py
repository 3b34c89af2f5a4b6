"""The drill that brings a database along and loses it passes on either engine."""

import os
import shutil
from pathlib import Path

import pytest
from bookinfo_mesh import Bookinfo

pytestmark = pytest.mark.bookinfo


@pytest.mark.parametrize(
    "fixture", ["bookinfo", pytest.param("envoy_bookinfo", marks=pytest.mark.envoy, id="envoy_bookinfo")]
)
def test_ratings_lose_their_database_and_find_it_again(request: pytest.FixtureRequest, fixture: str, out: Path) -> None:
    pytest.importorskip("pymysql", reason="no MySQL driver: pip install meshdrill[mysql]")
    if shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("no MariaDB on this machine (Debian: mariadb-server)")
    mesh: Bookinfo = request.getfixturevalue(fixture)
    run = mesh.drill("database-lost", out=out)
    assert run.code == 0, run.output
    assert set(run.outcomes.values()) == {"held"}
    assert [phase["name"] for phase in run.journal[0]["run"]][:4] == [
        "stars from the database",
        "the database is lost",
        "the database is back",
        "the database is slow",
    ]
    assert mesh.faults() == []
