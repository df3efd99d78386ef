"""Decisions as pages and the feed show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from budgets.api.decisions import decision_of
from budgets.dashboard.params import amount
from budgets.domain.refusal_words import SHORT, explain
from budgets.models import Budget
from budgets.queries.bounded import Row
from noburn.kit import ids


def shown(tenant_id: UUID, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns decisions with wire ids, the names of their budgets and, of refusals, why in words."""
    wanted = {row["budget_id"] for row in rows} | {each for row in rows for each in row["shadow"] or []}
    known = Budget.objects.filter(tenant_id=tenant_id, pk__in=wanted - {None}) if wanted - {None} else ()
    names = {budget.pk: budget.name for budget in known}
    return [_shown(row, names) for row in rows]


def _shown(row: Row, names: dict[UUID, str]) -> dict[str, Any]:
    budget = row["budget_id"]
    name = names.get(budget, "a wallet" if budget else "")
    why = (
        explain(
            reason=row["reason"],
            budget=name,
            subject=row["subject"] or "",
            metric={"charge": "usd"}.get(row["metric"], row["metric"]),
            limit=row["limit_amount"],
            remaining=row["remaining"],
            room=row["room"],
            estimate_nano=row["estimate_nano"],
            say=amount,
        )
        if row["reason"]
        else []
    )
    return {
        **decision_of(row),
        "wire_id": ids.encode(ids.DECISION, row["id"]),
        "allowed": row["reason"] is None,
        "short": SHORT.get(row["reason"], row["reason"]),
        "hold": ids.encode(ids.HOLD, row["hold_id"]) if row["hold_id"] else None,
        "budget_name": name,
        "budget_wire": ids.encode(ids.BUDGET, budget) if budget in names else None,
        "shadows": [
            (ids.encode(ids.BUDGET, each), names.get(each, "a budget")) for each in row["shadow"] or []
        ],
        "why": why,
    }
