"""The operator's side of the money path: epochs, retirement, write-offs, verification. Runs as the application role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import psycopg

from budgets.stores.postgres.money import ANSWER_SECONDS, EpochRow, MoneyStore, Row, as_json
from noburn.runtime.names import ACROSS

SLOW_SECONDS = 90.0
"""For the few statements that read everything there is; below what a task may take."""

LIVE_MAX = 200_000
"""Live counters of one epoch that are compared with Redis: a shard with more needs a Redis of its own first."""


class ControlStore(MoneyStore):
    """What the recovery controller and operators may do beyond a gateway. All of it spans tenants."""

    def __init__(self, url: str, *, connections: int = 4) -> None:
        super().__init__(url, connections=connections, role=ACROSS)

    async def replace(
        self,
        shard: int,
        old: UUID | None,
        new: UUID,
        *,
        validity_seconds: int,
        reason: str,
        scripts: Mapping[str, str],
    ) -> UUID:
        """Closes `old` and prepares `new`; returns the shard's current epoch, another's if somebody was faster."""
        sql = "SELECT nb_epoch_replace(%s, %s, %s, make_interval(secs => %s), %s, %s::jsonb)"
        return UUID(
            str((await self._rows(sql, [shard, old, new, validity_seconds, reason, as_json(scripts)]))[0][0])
        )

    async def renew(self, epochs: Sequence[UUID], validity_seconds: int) -> dict[UUID, int]:
        """Records a later valid_until; returns it in milliseconds for the epochs still in use."""
        sql = "SELECT nb_epoch_renew(%s, make_interval(secs => %s))"
        found = (await self._rows(sql, [list(epochs), validity_seconds]))[0][0]
        return {UUID(epoch): int(until) for epoch, until in found.items()}

    async def opened(self, epoch_id: UUID) -> bool:
        """Marks an epoch open; False if it was replaced meanwhile."""
        return bool((await self._rows("SELECT nb_epoch_opened(%s)", [epoch_id]))[0][0])

    async def closing(self, epoch_id: UUID) -> bool:
        """Begins a planned close; False if the epoch is not open."""
        return bool((await self._rows("SELECT nb_epoch_closing(%s)", [epoch_id]))[0][0])

    async def swept_epochs(self) -> list[EpochRow]:
        """The epochs whose expired holds may still lie in Redis: all that were not cleaned up."""
        sql = """SELECT epoch_id, shard, state, valid_until, scripts FROM epochs
            WHERE cleaned_at IS NULL AND state <> 'opening' ORDER BY shard, created_at"""
        return [EpochRow(*row) for row in await self._rows(sql, [])]

    async def closed_epochs(self, limit: int) -> list[EpochRow]:
        """Closed epochs, none of whose holds can be placed any more, that were not cleaned up yet."""
        sql = """SELECT epoch_id, shard, state, valid_until, scripts FROM epochs
            WHERE state = 'closed' AND cleaned_at IS NULL AND valid_until < now() - interval '60 seconds'
            ORDER BY closed_at LIMIT %s"""
        return [EpochRow(*row) for row in await self._rows(sql, [limit])]

    async def cleaned(self, epoch_id: UUID) -> None:
        """Notes that Redis holds nothing of a closed epoch any more."""
        await self._rows("SELECT nb_epoch_cleaned(%s)", [epoch_id])

    async def live_grants(self, epoch_id: UUID, limit: int) -> list[Row]:
        """Incarnations of an epoch that Redis must still give up: live ones, and marked ones without an answer."""
        sql = """SELECT tenant_id, counter_id, epoch_id, incarnation FROM grants
            WHERE epoch_id = %s AND (state = 'live' OR state = 'retired' AND answered_at IS NULL)
            LIMIT %s"""
        return _incarnations(await self._rows(sql, [epoch_id, limit]))

    async def ended_grants(self, grace_seconds: int, limit: int) -> list[Row]:
        """Live incarnations in open epochs whose window ended longer ago than `grace_seconds`, with their shard."""
        sql = """SELECT g.tenant_id, g.counter_id, g.epoch_id, g.incarnation, e.shard, e.scripts
            FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id AND e.state = 'open'
            JOIN counters c ON c.tenant_id = g.tenant_id AND c.counter_id = g.counter_id
            WHERE (g.state = 'live' OR g.state = 'retired' AND g.answered_at IS NULL)
                AND c.ends_at < now() - make_interval(secs => %s)
            ORDER BY e.shard, g.counter_id LIMIT %s"""
        rows = await self._rows(sql, [grace_seconds, limit])
        return [
            {**row, "shard": raw[4], "scripts": raw[5]}
            for row, raw in zip(_incarnations(rows), rows, strict=True)
        ]

    async def retire(self, shard: int, rows: Sequence[Row]) -> None:
        """Marks incarnations retired, before Redis is told."""
        await self._rows("SELECT nb_retire(%s, %s::jsonb)", [shard, as_json(rows)])

    async def retired(self, rows: Sequence[Row]) -> list[Row]:
        """Books what Redis had used of retired incarnations; returns load messages for their counters' live rows."""
        return list((await self._rows("SELECT nb_retired(%s::jsonb)", [as_json(rows)]))[0][0])

    async def make_partitions(self, months: int) -> int:
        """Makes this month's and the next months' partitions; returns how many were new."""
        return int((await self._rows("SELECT nb_make_partitions(current_date, %s)", [months]))[0][0])

    async def _slow_rows(
        self, sql: str, params: Sequence[object], *, seconds: float = SLOW_SECONDS
    ) -> list[tuple[Any, ...]]:
        """Rows of a statement that reads a whole ledger: what a request may take is no measure for it."""
        waited = seconds + ANSWER_SECONDS
        async with self.connection(seconds=waited) as connection, connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}")
            return await (await connection.execute(sql, params)).fetchall()

    async def _named_rows(self, sql: str, params: Mapping[str, object]) -> list[tuple[Any, ...]]:
        async with self.connection() as connection:
            return await (await connection.execute(sql, params)).fetchall()

    async def verify(self, tenant_id: UUID | None, *, seconds: float = SLOW_SECONDS) -> list[Row]:
        """Every figure that is not what ledger and resolutions say, as of one moment."""
        sql = "SELECT tenant_id, object, figure, stored, derived FROM nb_verify(%s)"
        names = ("tenant", "object", "figure", "stored", "derived")
        rows = await self._slow_rows(sql, [tenant_id], seconds=seconds)
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def live_counters(self, epoch_id: UUID, tenant_id: UUID | None) -> list[tuple[UUID, UUID, int]]:
        """Tenant, counter and incarnation of what is live in an epoch, at most LIVE_MAX."""
        sql = """SELECT tenant_id, counter_id, incarnation FROM grants
            WHERE epoch_id = %s AND state = 'live' AND (%s::uuid IS NULL OR tenant_id = %s)
            ORDER BY tenant_id, counter_id LIMIT %s"""
        rows = await self._rows(sql, [epoch_id, tenant_id, tenant_id, LIVE_MAX])
        return [(row[0], row[1], int(row[2])) for row in rows]

    async def live_figures(
        self,
        epoch_id: UUID,
        counters: Sequence[tuple[UUID, UUID]],
        holds: Sequence[tuple[UUID, date]],
        seen_at: datetime,
    ) -> list[Row]:
        """What PostgreSQL knows of live incarnations, as of one moment after Redis was looked at.

        `holds` are those that Redis had at `seen_at`, with the months in which they were placed. `due` is what first
        postings took of an incarnation's authority although Redis had the hold then, or placed it later; `unapplied`
        counts the former.
        """
        sql = """WITH mine AS (SELECT * FROM unnest(%(tenants)s::uuid[], %(counters)s::uuid[]) AS x (tenant, counter)),
            open AS (SELECT * FROM unnest(%(holds)s::uuid[], %(months)s::date[]) AS x (hold, month)),
            applies AS (
                SELECT r.hold_id, r.counters, r.incarnations, r.live, r.first, r.held, r.leased, true AS seen
                FROM open o JOIN hold_resolutions r ON r.hold_id = o.hold AND r.placed_month = o.month
                WHERE r.epoch_id = %(epoch)s
                UNION ALL
                SELECT r.hold_id, r.counters, r.incarnations, r.live, r.first, r.held, NULL::bigint[], false
                FROM ledger_entries l JOIN hold_resolutions r
                    ON r.hold_id = l.hold_id AND r.placed_month = l.placed_month AND r.epoch_id = %(epoch)s
                WHERE l.tenant_id IN (SELECT tenant FROM mine) AND l.placed_at > %(seen)s AND l.revision = 1
                    AND l.hold_id NOT IN (SELECT hold FROM open)),
            -- Of a lease that Redis has whole its draws have taken some already, whatever became of the rest.
            due AS (SELECT p.counter, p.inc,
                    sum(CASE WHEN p.live THEN least(p.first, p.held) ELSE 0 END + coalesce(p.leased - p.held, 0))::bigint
                        AS amount
                FROM applies a, unnest(a.counters, a.incarnations, a.live, a.first, a.held, a.leased)
                    AS p (counter, inc, live, first, held, leased)
                GROUP BY 1, 2)
            SELECT g.tenant_id, g.counter_id, g.incarnation, g.authority, g.granted, g.clamped, g.seq, g.acked_seq,
                b.action = 'warn', coalesce(d.amount, 0), (SELECT count(*) FROM applies WHERE seen)
            FROM mine m JOIN grants g ON g.tenant_id = m.tenant AND g.counter_id = m.counter
            JOIN counters c ON c.tenant_id = g.tenant_id AND c.counter_id = g.counter_id
            JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
            LEFT JOIN due d ON d.counter = g.counter_id AND d.inc = g.incarnation
            WHERE g.epoch_id = %(epoch)s AND g.state = 'live'
            ORDER BY g.counter_id"""
        params = {
            "tenants": [tenant for tenant, _ in counters],
            "counters": [counter for _, counter in counters],
            "holds": [hold for hold, _ in holds],
            "months": [month for _, month in holds],
            "epoch": epoch_id,
            "seen": seen_at,
        }
        names = ("tenant", "counter", "inc", "authority", "granted", "clamped", "seq", "acked_seq", "warns", "due",
            "unapplied")  # fmt: skip
        return [dict(zip(names, row, strict=True)) for row in await self._named_rows(sql, params)]

    async def verify_changes(self, limit: int, *, seconds: float) -> Row:
        """Adds new entries to the checker's sums and compares what they touched; sql/verify_changes.sql."""
        return dict((await self._slow_rows("SELECT nb_verify_changes(%s)", [limit], seconds=seconds))[0][0])

    async def verify_next(self, limit: int) -> list[UUID]:
        """The tenants whose turn it is to be recomputed from nothing."""
        return [row[0] for row in await self._rows("SELECT * FROM nb_verify_next(%s)", [limit])]

    async def verify_turn(self, tenant_id: UUID, differences: int | None) -> None:
        """Notes a tenant's turn; None: it was not done in time."""
        await self._rows("SELECT nb_verify_turn(%s, %s)", [tenant_id, differences])

    async def verify_note(
        self, part: str, *, took_ms: int, looked_at: int, differences: int, behind: int, details: Row
    ) -> None:
        """Notes the end of one part of a round of the checker."""
        params = [part, took_ms, looked_at, differences, behind, as_json(details)]
        await self._rows("SELECT nb_verify_note(%s, %s, %s, %s, %s, %s::jsonb)", params)

    async def verify_noted(self, part: str) -> Row:
        """The details that the part's last round noted; empty before the first."""
        rows = await self._rows("SELECT details FROM verify_checks WHERE part = %s", [part])
        return dict(rows[0][0]) if rows else {}

    async def totals(self, tenant_id: UUID | None) -> tuple[int, int, int, int]:
        """Counters, ledger entries, stranded authority and overrun of a tenant, or of all."""
        sql = """WITH c AS (SELECT c.*, coalesce(g.authority, 0) AS authority, coalesce(g.stranded, 0) AS stranded
            FROM counters c LEFT JOIN (SELECT g.tenant_id, g.counter_id, sum(g.authority) AS authority,
                    sum(g.authority) FILTER (WHERE e.state <> 'open' OR g.state <> 'live') AS stranded
                FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id GROUP BY 1, 2) AS g
                ON g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id
            WHERE %s::uuid IS NULL OR c.tenant_id = %s)
            SELECT count(*), (SELECT count(*) FROM ledger_entries WHERE %s::uuid IS NULL OR tenant_id = %s),
                coalesce(sum(stranded), 0)::bigint,
                coalesce(sum(greatest(0, spent + authority - limit_amount)), 0)::bigint FROM c"""
        row = (await self._slow_rows(sql, [tenant_id] * 4))[0]
        return (int(row[0]), int(row[1]), int(row[2]), int(row[3]))

    async def stranded(self, limit: int) -> list[Row]:
        """Authority that closed epochs, retired and lost incarnations still lock, largest first."""
        sql = """SELECT g.tenant_id, g.counter_id, g.epoch_id, g.incarnation, g.authority, c.subject, c.budget_id, b.name,
                b.metric, c.ends_at, e.valid_until, e.state, g.state
            FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id
            JOIN counters c ON c.tenant_id = g.tenant_id AND c.counter_id = g.counter_id
            JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
            WHERE g.authority > 0 AND (e.state <> 'open' OR g.state <> 'live')
                AND (c.ends_at IS NULL OR c.ends_at > now())
            ORDER BY g.authority DESC, g.counter_id LIMIT %s"""
        names = ("tenant", "counter", "epoch", "inc", "authority", "subject", "budget_id", "budget", "metric",
            "ends_at", "valid_until", "epoch_state", "grant_state")  # fmt: skip
        return [dict(zip(names, row, strict=True)) for row in await self._rows(sql, [limit])]

    async def releasable(self, wait_seconds: int, limit: int) -> list[Row]:
        """Stranded authority of budgets that release it by timer, once nothing can be settled from it any more."""
        sql = """SELECT g.tenant_id, g.counter_id, g.epoch_id, g.incarnation
            FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id AND e.state = 'closed'
            JOIN counters c ON c.tenant_id = g.tenant_id AND c.counter_id = g.counter_id
            JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id AND b.on_epoch_close = 'release'
            WHERE g.authority > 0 AND e.valid_until < now() - make_interval(secs => %s)
                AND (c.ends_at IS NULL OR c.ends_at > now())
            ORDER BY g.counter_id LIMIT %s"""
        return _incarnations(await self._rows(sql, [wait_seconds, limit]))

    async def used_epochs(self) -> list[int]:
        """The shards whose open epoch holds authority that a planned close would give back."""
        sql = """SELECT DISTINCT e.shard FROM epochs e JOIN grants g ON g.epoch_id = e.epoch_id AND g.state = 'live'
            WHERE e.state = 'open' ORDER BY e.shard"""
        return [int(row[0]) for row in await self._rows(sql, [])]

    async def writeoff(
        self, *, row: Row, hold_id: UUID, wait_seconds: int, actor: str, reason: str
    ) -> tuple[int, Row | None]:
        """Writes off what one incarnation locks; returns the amount, and a load message if there is one to send.

        Raises WriteoffTooEarly with the time from which it may be done.
        """
        sql = "SELECT nb_writeoff(%s, %s, %s, %s, %s, make_interval(secs => %s), %s, %s)"
        params = [
            row["tenant"],
            row["counter"],
            row["epoch"],
            row["inc"],
            hold_id,
            wait_seconds,
            actor,
            reason,
        ]
        try:
            answer = (await self._rows(sql, params))[0][0]
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise WriteoffTooEarly(error.diag.message_primary or str(error)) from error
        return int(answer["amount"]), answer["message"]


class WriteoffTooEarly(Exception):
    """The holds may still be settled; the text says from when on a write-off is possible."""


def _incarnations(rows: Sequence[tuple[object, ...]]) -> list[Row]:
    return [{"tenant": r[0], "counter": r[1], "epoch": r[2], "inc": r[3]} for r in rows]
