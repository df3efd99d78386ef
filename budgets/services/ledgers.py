"""The ledger as operators read it: pages of one tenant's entries and resolutions, and the life of one hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from budgets.queries import ledger as query
from budgets.queries.bounded import Row, limited
from budgets.queries.ledger import LedgerFilter as LedgerFilter
from budgets.queries.ledger import Place as Place

LIST_MS = 3_000
REVISIONS_MAX = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerPage:
    """Rows from the newest on, and where the next page begins."""

    entries: list[Row]
    before: Place | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldLife:
    """How a hold was resolved, and every entry that this made."""

    resolution: Row
    entries: list[Row]


def ledger_page(*, wanted: LedgerFilter, before: Place | None, limit: int) -> LedgerPage:
    """A page of ledger entries. Raises TookTooLong."""
    with limited(milliseconds=LIST_MS):
        return _page(query.entries(wanted=wanted, before=before, limit=limit + 1), limit)


def resolution_page(*, wanted: LedgerFilter, before: Place | None, limit: int) -> LedgerPage:
    """A page of resolutions; `wanted.kind` is their state. Raises TookTooLong."""
    with limited(milliseconds=LIST_MS):
        return _page(query.resolutions(wanted=wanted, before=before, limit=limit + 1), limit)


def hold_life(*, tenant_id: UUID, hold_id: UUID, placed_month: date) -> HoldLife | None:
    """One hold of a tenant, or None. Raises TookTooLong."""
    with limited(milliseconds=LIST_MS):
        resolution = query.resolution(tenant_id=tenant_id, hold_id=hold_id, placed_month=placed_month)
        if resolution is None:
            return None
        entries = query.entries_of(
            tenant_id=tenant_id, hold_id=hold_id, placed_month=placed_month, limit=REVISIONS_MAX
        )
    return HoldLife(resolution=resolution, entries=entries)


def _page(rows: list[Row], limit: int) -> LedgerPage:
    if len(rows) <= limit:
        return LedgerPage(entries=rows, before=None)
    last = rows[limit - 1]
    return LedgerPage(entries=rows[:limit], before=(last["placed_at"], last["hold_id"], last["revision"]))
