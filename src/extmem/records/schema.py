"""The tables of records.db, by format: how they are made, and how an older file becomes a newer one.

Knows: SQL. Does not know: threads, transactions of callers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from extmem.records.base import short_name
from extmem.records.connection import number

FORMAT = 2
APPLICATION = 0x6578746D  # "extm", in the header of the file

# `due` and NOTHING (kind 3) are rare: their indexes hold only the rows that have them.
TABLES = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL, born INTEGER, key TEXT NOT NULL, kind INTEGER NOT NULL, value NOT NULL,
    version INTEGER NOT NULL DEFAULT 1, created REAL NOT NULL, updated REAL NOT NULL,
    metadata TEXT, author TEXT, trust REAL NOT NULL DEFAULT 1,
    expires REAL, valid_from REAL, valid_to REAL, due REAL,
    UNIQUE (namespace, key)
);
CREATE INDEX records_due ON records (namespace, due) WHERE due IS NOT NULL;
CREATE INDEX records_waiting ON records (namespace) WHERE kind = 3;
CREATE TABLE states (
    namespace TEXT NOT NULL, key TEXT NOT NULL, kind INTEGER NOT NULL, value NOT NULL,
    version INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    metadata TEXT, author TEXT, trust REAL NOT NULL,
    expires REAL, valid_from REAL, valid_to REAL, due REAL,
    UNIQUE (namespace, key, version)
);
CREATE TABLE ledger (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
    UNIQUE (namespace, kind, name)
);
CREATE TABLE files (namespace TEXT NOT NULL, name TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (namespace, name));
"""


# Format 1 kept kinds as words and values as UTF-8 bytes, and its indexes in tables of their own words.
FROM_1 = """
ALTER TABLE records RENAME TO old_records;
ALTER TABLE ledger RENAME TO old_ledger;
{tables}
INSERT INTO records (id, namespace, key, kind, value, created, updated)
    SELECT id, namespace, key, CASE kind WHEN 'text' THEN 0 WHEN 'bytes' THEN 1 ELSE 2 END,
        CASE kind WHEN 'bytes' THEN value ELSE CAST(value AS TEXT) END, {now}, {now}
    FROM old_records ORDER BY id;
UPDATE sqlite_sequence SET seq = (SELECT max(seq) FROM sqlite_sequence WHERE name LIKE '%records')
    WHERE name = 'records';
INSERT INTO ledger (namespace, kind, name, note) SELECT namespace, kind, name, note FROM old_ledger ORDER BY place;
DROP TABLE old_records;
DROP TABLE old_ledger;
"""


def create(connection: apsw.Connection) -> tuple[int, int]:
    """Makes the tables in an empty file, whoever comes first; (application, format) of what is there."""
    with locked(connection):
        if not connection.execute("SELECT count(*) FROM sqlite_master").get:
            connection.execute(TABLES).fetchall()
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={FORMAT}")
    return marks(connection)


def marks(connection: apsw.Connection) -> tuple[int, int]:
    """(application, format) of a file, both as of one moment: another may be making its tables."""
    with connection:
        found = number(connection, "application_id"), number(connection, "user_version")
    return found


def migrate(connection: apsw.Connection, folder: Path) -> None:
    """Makes a file of format 1 one of this format, in one transaction; the keyword index is derived
    anew at the next search. When a record was stored is not known there: it counts as now."""
    with locked(connection):
        if connection.execute("PRAGMA user_version").get == FORMAT:
            return
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%USING fts5%'").fetchall():
            connection.execute(f"DROP TABLE {name}")
        connection.execute(FROM_1.format(tables=TABLES, now=time.time())).fetchall()
        names = connection.execute("SELECT DISTINCT namespace FROM records WHERE namespace <> ''").fetchall()
        for space in ["", *(str(name) for (name,) in names)]:
            end = f"-{short_name(space)[:16]}" if space else ""
            for old in (folder / "datastores").glob(f"*{end}"):
                if space or "-" not in old.name:
                    _take_over(connection, folder, space, old)
        connection.execute(f"PRAGMA user_version={FORMAT}")


def _take_over(connection: apsw.Connection, folder: Path, space: str, old: Path) -> None:
    """Enters the files of a folder of format 1; those of a namespace are copied to where format 2 has them, and
    what lay there before is then a stray."""
    top = Path("namespaces") / short_name(space) if space else Path()
    new = top / "datastores" / old.name.partition("-")[0]
    if space:
        shutil.copytree(old, folder / new, dirs_exist_ok=True)
    for file in old.iterdir():
        row = (space, f"datastores/{new.name}/{file.name}", (new / file.name).as_posix())
        connection.execute("INSERT INTO files (namespace, name, path) VALUES (?, ?, ?)", row)


@contextmanager
def locked(connection: apsw.Connection) -> Iterator[None]:
    """A transaction that has the write lock from its beginning."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(apsw.Error):  # a full disk: SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


def excise(connection: apsw.Connection) -> list[str]:
    """Takes out keyword indexes that cannot be read, though not even dropping them works; their names. They
    are derived anew. Pages that nothing names any more leave the file with VACUUM."""
    named = "name GLOB 'words_*' AND (sql LIKE '%USING fts5%' OR name NOT GLOB 'words_*_*')"
    names = connection.execute(f"SELECT name FROM sqlite_master WHERE type = 'table' AND {named}").fetchall()
    damaged = [str(name) for (name,) in names if not _whole(connection, str(name))]
    if not damaged:
        return []
    with locked(connection):
        connection.execute("PRAGMA writable_schema=ON").fetchall()
        for name in damaged:
            # An index of FTS5, as earlier versions made them, lies in tables words_…_data, _idx, _docsize, _config.
            connection.execute("DELETE FROM sqlite_master WHERE name = ?1 OR name GLOB ?1 || '_*'", (name,))
            connection.execute("DELETE FROM ledger WHERE kind = 'keyword' AND name = ?", (name,))
    connection.execute("PRAGMA writable_schema=RESET").fetchall()
    connection.execute("VACUUM").fetchall()
    return damaged


def _whole(connection: apsw.Connection, name: str) -> bool:
    try:
        for _ in connection.execute(f"SELECT * FROM {name}"):
            pass
        return True
    except apsw.Error:
        return False
