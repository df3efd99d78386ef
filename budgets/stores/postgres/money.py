"""The money path's PostgreSQL: every statement is one of the functions in sql/. No ORM, no transaction kept open."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

CONNECT_SECONDS = 2.0
RECONNECT_SECONDS = 3.0
STATEMENT_MS = 5_000
ANSWER_SECONDS = 7.0
"""When an answer is no longer waited for: a server that is frozen or cut off keeps no limit of its own."""

_HALF_CLOSED = getattr(select, "POLLRDHUP", 0)
"""Linux tells when the other side closed; elsewhere only that both did, which poll() tells unasked."""

Row = dict[str, Any]


class StorageUnavailable(Exception):
    """PostgreSQL cannot be reached or did not answer in time; nothing is known to have happened."""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch that is not closed."""

    epoch_id: UUID
    shard: int
    state: str
    valid_until: datetime
    scripts: dict[str, str]


_json = msgspec.json.Encoder().encode


def as_json(value: object) -> str:
    """JSON text of plain values, UUIDs included."""
    return _json(value).decode()


def _hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    """Breaks a connection on our side, so that whoever waits on it is told; to cancel would be to wait for the server."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


def _hung_up(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server ended an idle connection, by a restart for example. Costs no round trip."""
    idle = select.poll()
    idle.register(connection.fileno(), _HALF_CLOSED)
    return bool(idle.poll(0))


class MoneyStore:
    """Calls the money path's functions on a small pool of connections of one role."""

    def __init__(self, url: str, *, connections: int = 4, role: str | None = None) -> None:
        self._pool = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=CONNECT_SECONDS,
            # Give up soon: the next request then tries at once, instead of waiting for a backed-off attempt.
            reconnect_timeout=RECONNECT_SECONDS,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 1,
                "options": f"-c statement_timeout={STATEMENT_MS}" + (f" -c role={role}" if role else ""),
                "connect_timeout": 2,
                # What is not acknowledged on the wire for so long was cut off; without it TCP goes on for minutes.
                "tcp_user_timeout": int(ANSWER_SECONDS * 1000),
            },
        )

    async def open(self) -> None:
        """Starts the pool; it connects in the background."""
        await self._pool.open()

    async def close(self) -> None:
        """Closes every connection."""
        await self._pool.close(timeout=2)

    @asynccontextmanager
    async def connection(
        self, *, seconds: float = ANSWER_SECONDS
    ) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """A connection in autocommit mode, for so long. Raises StorageUnavailable for no fault of the statement's."""
        try:
            async with self._living() as connection:
                hanging_up = asyncio.get_running_loop().call_later(seconds, _hang_up, connection)
                try:
                    yield connection
                finally:
                    hanging_up.cancel()
        except psycopg.errors.ObjectNotInPrerequisiteState:
            # psycopg calls it operational, but it is a function's answer: not yet, or not in this state.
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            raise StorageUnavailable(str(error).strip() or type(error).__name__) from error

    @asynccontextmanager
    async def _living(self) -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
        """One of the pool's connections that the server did not end while it lay idle."""
        for _ in range(self._pool.max_size):
            async with self._pool.connection() as connection:
                if _hung_up(connection):
                    await connection.close()  # The pool makes another in its place.
                    continue
                yield connection
                return
        async with self._pool.connection() as connection:
            yield connection

    async def _rows(self, sql: str, params: Sequence[object]) -> list[tuple[Any, ...]]:
        async with self.connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(sql, params)
            return await cursor.fetchall()

    async def grant(self, asks: Sequence[Row]) -> list[Row]:
        """Grants authority; sql/grant.sql tells the shapes."""
        return list((await self._rows("SELECT nb_grant(%s::jsonb)", [as_json(asks)]))[0][0])

    async def peek(self, asks: Sequence[Row]) -> list[Row]:
        """Limit and remaining amount of counters that Redis does not hold; makes nothing."""
        return list((await self._rows("SELECT nb_peek(%s::jsonb)", [as_json(asks)]))[0][0])

    async def ack(self, acks: Sequence[Row]) -> None:
        """Books acknowledged load messages."""
        await self._rows("SELECT nb_ack(%s::jsonb)", [as_json(acks)])

    async def unacked(self, *, age_ms: int, limit: int) -> list[Row]:
        """Load messages to send again."""
        sql = "SELECT nb_unacked(make_interval(secs => %s), %s)"
        return list((await self._rows(sql, [age_ms / 1000, limit]))[0][0])

    async def resolve(self, items: Sequence[Row]) -> Row:
        """Books resolutions in one commit; sql/resolve.sql tells the shapes."""
        return dict((await self._rows("SELECT nb_resolve(%s::jsonb)", [as_json(items)]))[0][0])

    async def draw(self, lease: Row, draws: Sequence[Row], total: int | None) -> Row:
        """Books draws of one lease, and closes it if `total` is how many it has; sql/leases.sql tells the shapes."""
        params = [as_json(lease), as_json(draws), total]
        return dict((await self._rows("SELECT nb_draw(%s::jsonb, %s::jsonb, %s)", params))[0][0])

    async def epochs(self) -> list[EpochRow]:
        """The epochs that are not closed."""
        sql = "SELECT epoch_id, shard, state, valid_until, scripts FROM epochs WHERE state <> 'closed' ORDER BY shard"
        return [EpochRow(*row) for row in await self._rows(sql, [])]

    async def policy_by_key(self, digest: bytes) -> tuple[UUID, int, bytes] | None:
        """Tenant, version and body of the policy that knows an API key's digest."""
        rows = await self._rows("SELECT tenant_id, version, body FROM nb_policy_by_key(%s)", [digest])
        return (rows[0][0], rows[0][1], bytes(rows[0][2])) if rows else None

    async def policies_newer(self, held: Sequence[tuple[UUID, int]]) -> list[tuple[UUID, int, bytes]]:
        """The policies that are newer than the versions held."""
        rows = await self._rows(
            "SELECT tenant_id, version, body FROM nb_policies_newer(%s, %s::bigint[])",
            [[tenant for tenant, _ in held], [version for _, version in held]],
        )
        return [(row[0], row[1], bytes(row[2])) for row in rows]

    async def touch_subjects(self, tenant_id: UUID, customers: Sequence[str], users: Sequence[str]) -> int:
        """Registers subjects on their first call; returns how many were new."""
        sql = "SELECT nb_touch_subjects(%s, %s::text[], %s::text[])"
        return int((await self._rows(sql, [tenant_id, list(customers), list(users)]))[0][0])
