"""Decisions as pages and the feed show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from budgets.api.decisions import decision_of
from budgets.dashboard.params import amount
from budgets.domain.refusal_words import SHORT, explain
from budgets.models import Budget, Guard, RoutingPolicy
from budgets.queries.bounded import Row
from noburn.kit import ids


def shown(tenant_id: UUID, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns decisions with wire ids, the names of their budgets and, of refusals, why in words."""
    wanted = {row["budget_id"] for row in rows} | {each for row in rows for each in row["shadow"] or []}
    known = Budget.objects.filter(tenant_id=tenant_id, pk__in=wanted - {None}) if wanted - {None} else ()
    names = {budget.pk: budget.name for budget in known}
    guards = _guards(tenant_id, rows)
    return [_shown(row, names, guards) for row in rows]


def _guards(tenant_id: UUID, rows: Sequence[Row]) -> dict[UUID, tuple[str, str]]:
    """Ids on the wire and names of the guards that decisions name; archived ones too."""
    wanted = {row["guard_id"] for row in rows} | {
        each for row in rows for each in row["guards_observed"] or []
    }
    wanted.discard(None)
    if not wanted:
        return {}
    named = Guard.objects.filter(tenant_id=tenant_id, pk__in=wanted).values_list("pk", "name")
    return {pk: (ids.encode(ids.GUARD, pk), name) for pk, name in named}


def routed(tenant_id: UUID, decision: dict[str, Any]) -> dict[str, Any] | None:
    """Which rule of which policy chose the model of a decision; None where no rule matched."""
    said = decision["routing"]
    if said is None or said["policy"] is None:
        return None
    found = RoutingPolicy.objects.filter(tenant_id=tenant_id, pk=said["policy"]).first()
    return {
        "wire": ids.encode(ids.POLICY, said["policy"]),
        "name": found.name if found else "a policy",
        "rule": said["rule"],
        "asked_model": said["asked_model"],
    }


def _shown(row: Row, names: dict[UUID, str], guards: dict[UUID, tuple[str, str]]) -> dict[str, Any]:
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
        "guard": guards.get(row["guard_id"]) if row["guard_id"] else None,
        "observed": [guards[each] for each in row["guards_observed"] or [] if each in guards],
        "why": why,
    }
