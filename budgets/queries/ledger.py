"""The ledger of one tenant, newest first, and the life of one hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from budgets.queries.bounded import Row, rows

Place = tuple[datetime, UUID, int]
"""Where a page ends: when the hold was placed, the hold, and the entry's revision."""

_ENTRY = """l.hold_id, l.placed_month, l.revision, l.tenant_id, l.kind, l.flags, l.placed_at, l.recorded_at, l.api_key,
    l.project, l.customer, l.end_user, l.run, l.plan, l.tags, l.provider, l.model, l.reported_model, l.price_id,
    l.cost_origin, l.cost_nano, l.tokens, l.requests, l.usage, l.outcome, l.latency_ms, l.note, l.rerating_id, l.counters,
    l.deltas"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerFilter:
    """Whose entries, and which of them; times are those at which holds were placed, half-open."""

    tenant_id: UUID
    kind: str = ""
    customer: str = ""
    end_user: str = ""
    project: str = ""
    model: str = ""
    run: str = ""
    hold_id: UUID | None = None
    counter_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


def entries(*, wanted: LedgerFilter, before: Place | None, limit: int) -> list[Row]:
    """Ledger entries, the newest first, from the one before `before` on."""
    conditions: list[str] = ["l.tenant_id = %s"]
    parameters: list[object] = [wanted.tenant_id]
    for condition, value in (
        ("l.kind = %s", wanted.kind or None),
        ("l.customer = %s", wanted.customer or None),
        ("l.end_user = %s", wanted.end_user or None),
        ("l.project = %s", wanted.project or None),
        ("l.model = %s", wanted.model or None),
        ("l.run = %s", wanted.run or None),
        ("l.hold_id = %s", wanted.hold_id),
        ("%s = ANY (l.counters)", wanted.counter_id),
        ("l.placed_at >= %s", wanted.since),
        ("l.placed_at < %s", wanted.until),
        # The same once more, in the words by which partitions are left out.
        ("l.placed_month >= %s", _month(wanted.since)),
        ("l.placed_month <= %s", _month(wanted.until)),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    if before is not None:
        conditions.append("(l.placed_at, l.hold_id, l.revision) < (%s, %s, %s)")
        parameters += before
    return rows(
        f"""SELECT {_ENTRY} FROM ledger_entries l WHERE {" AND ".join(conditions)}
        ORDER BY l.placed_at DESC, l.hold_id DESC, l.revision DESC LIMIT %s""",  # noqa: S608
        [*parameters, limit],
    )


def resolutions(*, wanted: LedgerFilter, before: Place | None, limit: int) -> list[Row]:
    """Resolutions by the time at which their holds were placed, the newest first.

    Found through the first entry of each, since only the ledger is in the order of time.
    """
    conditions: list[str] = ["l.tenant_id = %s", "l.revision = 1"]
    parameters: list[object] = [wanted.tenant_id]
    for condition, value in (
        ("r.state = %s", wanted.kind or None),
        ("l.customer = %s", wanted.customer or None),
        ("l.placed_at >= %s", wanted.since),
        ("l.placed_at < %s", wanted.until),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    if before is not None:
        conditions.append("(l.placed_at, l.hold_id, l.revision) < (%s, %s, %s)")
        parameters += before
    return rows(
        f"""SELECT l.placed_at, l.customer, l.model, l.revision, {_RESOLUTION}
        FROM ledger_entries l JOIN hold_resolutions r ON r.hold_id = l.hold_id AND r.placed_month = l.placed_month
        WHERE {" AND ".join(conditions)}
        ORDER BY l.placed_at DESC, l.hold_id DESC, l.revision DESC LIMIT %s""",  # noqa: S608
        [*parameters, limit],
    )


def _month(at: datetime | None) -> date | None:
    return at.astimezone(UTC).date().replace(day=1) if at is not None else None


_RESOLUTION = """r.hold_id, r.placed_month, r.tenant_id, r.epoch_id, r.state, r.flags, r.counters, r.incarnations,
    r.held, r.live, r.first, r.posted, r.held_cost_nano, r.cost_nano, r.tokens, r.requests,
    r.revision AS revisions, r.resolved_at, r.updated_at"""


def resolution(*, tenant_id: UUID, hold_id: UUID, placed_month: date) -> Row | None:
    """How one hold was resolved, or None."""
    found = rows(
        f"""SELECT {_RESOLUTION} FROM hold_resolutions r
        WHERE r.hold_id = %s AND r.placed_month = %s AND r.tenant_id = %s""",  # noqa: S608
        [hold_id, placed_month, tenant_id],
    )
    return found[0] if found else None


def entries_of(*, tenant_id: UUID, hold_id: UUID, placed_month: date, limit: int) -> list[Row]:
    """All entries of one hold, the first one first."""
    return rows(
        f"""SELECT {_ENTRY} FROM ledger_entries l WHERE l.hold_id = %s AND l.placed_month = %s AND l.tenant_id = %s
        ORDER BY l.revision LIMIT %s""",  # noqa: S608
        [hold_id, placed_month, tenant_id, limit],
    )


def entries_of_hold(*, tenant_id: UUID, hold_id: UUID, limit: int) -> list[Row]:
    """All entries of one hold whose month nobody knows, the first one first."""
    return rows(
        f"""SELECT {_ENTRY} FROM ledger_entries l WHERE l.hold_id = %s AND l.tenant_id = %s
        ORDER BY l.placed_month, l.revision LIMIT %s""",  # noqa: S608
        [hold_id, tenant_id, limit],
    )
