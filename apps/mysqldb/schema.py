"""What the server is to hold: Bookinfo's table and rows, and one account. One statement a line, for --init-file."""

from __future__ import annotations

_TABLE = """\
CREATE DATABASE test;
USE test;
CREATE TABLE ratings (ReviewID INT NOT NULL, Rating INT, PRIMARY KEY (ReviewID));
INSERT INTO ratings (ReviewID, Rating) VALUES (1, 5);
INSERT INTO ratings (ReviewID, Rating) VALUES (2, 4);
"""
# The accounts that a fresh server has want no password. `mariadb.sys` owns its views, and nobody can log in with it.
_ACCOUNTS = """\
DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';
FLUSH PRIVILEGES;
CREATE USER root@'%' IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;
"""
# A view of the table that waits. The subquery is asked once, not for each row.
_DELAY = """\
RENAME TABLE ratings TO stored_ratings;
CREATE SQL SECURITY INVOKER VIEW ratings AS\
 SELECT ReviewID, Rating FROM stored_ratings JOIN (SELECT SLEEP({seconds}) AS waited) AS first;
"""


def statements(password: str, delay_seconds: float) -> str:
    """The SQL that a fresh server runs before it takes its first connection."""
    escaped = password.replace("\\", "\\\\").replace("'", "''")
    delay = _DELAY.format(seconds=f"{delay_seconds:.3f}") if delay_seconds else ""
    return _TABLE + delay + _ACCOUNTS.format(password=escaped)
