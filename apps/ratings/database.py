"""The stars that a MySQL server keeps, as Bookinfo's ratings v2 reads them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from apps.common.settings import Settings

from .store import MAX_REVIEWERS, Stars

_DATABASE = "test"
_QUERY = f"SELECT Rating FROM ratings ORDER BY ReviewID LIMIT {MAX_REVIEWERS}"  # noqa: S608 - a number of ours


class DatabaseError(Exception):
    """The database gave no ratings. The message is Bookinfo's, the cause the driver's."""


class NoRatingsError(Exception):
    """The database knows no ratings."""


@dataclass(frozen=True)
class DatabaseConfig:
    """Where the server is. `timeout_seconds` bounds the connection's making, and each wait for an answer."""

    host: str
    port: int
    user: str
    password: str
    timeout_seconds: float

    @classmethod
    def read(cls, settings: Settings) -> DatabaseConfig:
        """Bookinfo's variables. Of its databases there is one here, so DB_TYPE can only be `mysql`."""
        settings.choice("DB_TYPE", "mysql", ("mysql",))
        return cls(
            host=settings.text("MYSQL_DB_HOST", "mysqldb"),
            port=settings.integer("MYSQL_DB_PORT", 3306, 1, 65535),
            user=settings.text("MYSQL_DB_USER", "root"),
            password=settings.text("MYSQL_DB_PASSWORD", ""),
            timeout_seconds=settings.number("MYSQL_DB_TIMEOUT_SECONDS", 1, 0.01, 60),
        )

    def __repr__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


class Database:
    """The ratings of every product, which are the same rows for all, as in Bookinfo.

    A connection is made for each request, as Bookinfo makes it: when the server was lost and has come back, the next
    request is answered.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        # The versions that keep their ratings in memory run without a driver.
        import pymysql  # noqa: PLC0415

        self._driver = pymysql
        self._config = config

    def get(self, _: int) -> Stars:
        """Raises DatabaseError and NoRatingsError."""
        connection = self._connect()
        try:
            with closing(connection), connection.cursor() as cursor:
                cursor.execute(_QUERY)
                rows = cursor.fetchall()
        except self._driver.MySQLError as error:
            raise DatabaseError("could not perform select") from error
        if not rows:
            raise NoRatingsError("ratings not found")
        return {f"Reviewer{number}": rating for number, (rating,) in enumerate(rows, 1)}

    def _connect(self) -> Any:
        config = self._config
        try:
            return self._driver.connect(
                host=config.host,
                port=config.port,
                user=config.user,
                password=config.password,
                database=_DATABASE,
                connect_timeout=config.timeout_seconds,
                read_timeout=config.timeout_seconds,
                write_timeout=config.timeout_seconds,
                autocommit=None,  # what the server has: one round trip less
            )
        except (self._driver.MySQLError, OSError) as error:
            raise DatabaseError("could not connect to ratings database") from error
