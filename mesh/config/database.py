"""The store's SQLite file: documents by key, and the version counter. Knows nothing of what documents mean."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesh.config.keys import Key, StoreError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
INSERT OR IGNORE INTO counter VALUES (1, 0);
"""
_BUSY_SECONDS = 1.0


class Database:
    """One writer's connection, used from the thread that made it.

    WAL with `synchronous=NORMAL`: a write that returned survives the death of this process at any instant; a power cut
    may lose the last writes but leaves the file whole. The file is locked for as long as it is open.
    """

    def __init__(self, path: Path | None) -> None:
        self._where = str(path) if path else "memory"
        with self._translated():
            if path is not None:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
                path.chmod(0o600)
            self._connection = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            with self._translated():
                self._prepare()
        except StoreError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")
        found = int(run("PRAGMA user_version").fetchone()[0])
        if found not in (0, SCHEMA_VERSION):
            raise StoreError(f"{self._where} has schema {found}, this version reads {SCHEMA_VERSION}; move it away")
        self._connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreError(f"the store {self._where} is in use by another process") from error
            raise StoreError(f"the store {self._where} cannot be used: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the store {self._where} cannot be used: {error}") from error

    def load(self) -> tuple[int, list[dict[str, Any]]]:
        """The version, and every document."""
        with self._translated():
            version = int(self._connection.execute("SELECT version FROM counter").fetchone()[0])
            rows = self._connection.execute("SELECT document FROM objects").fetchall()
        return version, [json.loads(row[0]) for row in rows]

    def commit(self, changes: Mapping[Key, Mapping[str, Any] | None], version: int) -> None:
        """Writes documents, None being a deletion, and the version: all or nothing."""
        run = self._connection.execute
        with self._translated():
            run("BEGIN IMMEDIATE")
            try:
                for key, document in changes.items():
                    if document is None:
                        run("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", key)
                    else:
                        text = json.dumps(document, separators=(",", ":"))
                        run("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*key, text))
                run("UPDATE counter SET version=?", (version,))
                run("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def close(self) -> None:
        self._connection.close()
