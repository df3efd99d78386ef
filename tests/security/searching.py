"""Looks for words in everything that noburn keeps: tables, Redis, the broker, files, lines of logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql

from tests.support.processes import administrators

FILES_MAX = 10_000
CHUNK = 1 << 20

TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1
"""


def in_tables(database: psycopg.Connection[Any], words: Iterable[str]) -> list[str]:
    """Returns `table: word` for each word that stands in any column of any table: text, JSON, or bytes."""
    wanted = list(words)
    patterns = [f"%{spelled}%" for word in wanted for spelled in (word, word.encode().hex())]
    found = []
    tables = [table for (table,) in database.execute(TABLES).fetchall()]
    assert len(tables) > 50, tables
    for table in tables:
        # A row as text has every column: JSON as it is written, bytes as hexadecimal digits.
        statement = sql.SQL("SELECT t::text FROM {} t WHERE t::text ILIKE ANY(%s) LIMIT 5").format(
            sql.SQL(table)
        )
        for (row,) in database.execute(statement, [patterns]).fetchall():
            found += [f"{table}: {word}" for word in wanted if word in row or word.encode().hex() in row]
    return found


def in_redis(url: str, words: Iterable[str]) -> list[str]:
    """Returns `key: word` for each word in a key or value of a server."""
    wanted = [word.encode() for word in words]
    found = []
    with server_at(url) as server:
        for key in server.scan_iter(count=1_000):
            held = key + b"\n" + _value(server, key)
            found += [f"{key.decode(errors='replace')}: {word.decode()}" for word in wanted if word in held]
    return found


def server_at(url: str) -> redis.Redis:
    """A client of a server, as its administrator; Celery has a spelling of its own for sockets."""
    return redis.Redis.from_url(
        administrators(url).replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
    )


def _value(server: Any, key: bytes) -> bytes:
    reading: dict[bytes, Callable[[], Any]] = {
        b"string": lambda: server.get(key),
        b"hash": lambda: server.hgetall(key),
        b"list": lambda: server.lrange(key, 0, -1),
        b"set": lambda: server.smembers(key),
        b"zset": lambda: server.zrange(key, 0, -1, withscores=True),
        b"stream": lambda: server.xrange(key),
        b"none": lambda: b"",
    }
    value = reading[server.type(key)]()
    # A value in Python's spelling keeps printable characters as they are.
    return value if isinstance(value, bytes) else repr(value).encode()


def in_files(folders: Iterable[Path], words: Iterable[str]) -> list[str]:
    """Returns `file: word` for each word in a file below the folders, and in the files' names."""
    wanted = [word.encode() for word in words]
    found, looked = [], 0
    for folder in folders:
        assert folder.exists(), folder
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            looked += 1
            assert looked < FILES_MAX, f"there are too many files in {folder}"
            found += [f"{path}: {word.decode()}" for word in wanted if _holds(path, word)]
    return found


def _holds(path: Path, word: bytes) -> bool:
    if word in str(path).encode():
        return True
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            if word in rest + piece:
                return True
            rest = piece[-len(word) :]
    return False


def in_lines(lines: Iterable[str], words: Iterable[str]) -> list[str]:
    """Returns `line: word` for each word in lines of a log."""
    wanted = list(words)
    return [f"{line.strip()[:200]}: {word}" for line in lines for word in wanted if word in line]
