"""Many budgets in one request: all or none, in one transaction, with one publication."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from budgets.domain.budget_rules import show_limit
from budgets.models import Budget
from budgets.services.budgets import (
    BudgetChanges,
    InvalidBudget,
    NewBudget,
    References,
    built,
    record_budget,
    save_next_version,
    seen,
)
from budgets.services.policy import one_publication, publish
from noburn.kit.problems import FieldError

BULK_MAX: Final = 1_000
"""The most items of one request."""


@dataclass(frozen=True, kw_only=True)
class BudgetEdit:
    """What to change of one budget."""

    budget_id: UUID
    changes: BudgetChanges


def at_item(number: int, errors: Iterable[FieldError]) -> list[FieldError]:
    """Returns errors under the name of their item: `items[3].limit_usd`."""
    return [FieldError(f"items[{number}].{error.field}", error.message) for error in errors]


def size_errors(items: Sequence[Any]) -> list[FieldError]:
    """Returns an error for too many items, or none at all."""
    if not 1 <= len(items) <= BULK_MAX:
        return [FieldError("items", f"must be 1 to {BULK_MAX}, not {len(items)}")]
    return []


def save_budgets(
    *, tenant_id: UUID, items: Sequence[NewBudget | BudgetEdit], actor: str, now: datetime
) -> list[Budget]:
    """Creates and edits up to 1,000 budgets, all or none; returns them in the order of the items.

    The policy is compiled once. Raises TenantNotFound, and InvalidBudget with the errors of every item, named
    `items[3].limit_usd`; a budget that the tenant does not have is one of them.
    """
    if too_many := size_errors(items):
        raise InvalidBudget(too_many)
    with one_publication(tenant_id=tenant_id, now=now):
        wanted = [item.budget_id for item in items if isinstance(item, BudgetEdit)]
        found = {
            budget.pk: budget
            for budget in Budget.objects.filter(
                tenant_id=tenant_id, pk__in=wanted, archived_at__isnull=True
            ).order_by("pk")
        }
        if errors := _errors(tenant_id, items, found):
            raise InvalidBudget(errors)
        rows = [
            built(tenant_id, item, now) if isinstance(item, NewBudget) else found[item.budget_id]
            for item in items
        ]
        new = [row for row, item in zip(rows, items, strict=True) if isinstance(item, NewBudget)]
        Budget.objects.bulk_create(new)
        for row in new:
            record_budget(row, "budget.create", actor=actor, now=now, after=seen(row))
        if new:
            publish(tenant_id=tenant_id, now=now)
        for row, item in zip(rows, items, strict=True):
            if isinstance(item, BudgetEdit):
                before = seen(row)
                item.changes.apply(row)
                if (after := seen(row)) != before:
                    save_next_version(row, "budget.edit", actor=actor, now=now, before=before, after=after)
    return rows


PERCENT_MIN: Final = -100
PERCENT_MAX: Final = 1_000


def change_budgets(
    *,
    tenant_id: UUID,
    budget_ids: Sequence[UUID],
    actor: str,
    now: datetime,
    limit: str | None = None,
    percent: int | None = None,
    action: str | None = None,
) -> list[Budget]:
    """Gives many budgets one limit or action, or raises each of their limits by so many percent (below 0: lowers it).

    All or none, as `save_budgets`; a share of a limit is rounded down to its unit. Raises TenantNotFound, InvalidBudget.
    """
    if [limit, percent, action].count(None) != 2:
        raise InvalidBudget([FieldError("change", "say one of limit, percent and action")])
    if percent is not None and not PERCENT_MIN <= percent <= PERCENT_MAX:
        raise InvalidBudget(
            [FieldError("percent", f"must be a whole number from {PERCENT_MIN} to {PERCENT_MAX}")]
        )
    with one_publication(tenant_id=tenant_id, now=now):
        limits: dict[UUID, str] = {}
        if percent is not None:
            live = Budget.objects.filter(tenant_id=tenant_id, pk__in=budget_ids, archived_at__isnull=True)
            limits = {b.pk: show_limit(b.metric, b.limit * (100 + percent) // 100) for b in live}
        return save_budgets(
            tenant_id=tenant_id,
            items=[
                BudgetEdit(
                    budget_id=budget_id,
                    changes=BudgetChanges(limit=limits.get(budget_id, limit), action=action),
                )
                for budget_id in budget_ids
            ],
            actor=actor,
            now=now,
        )


def _errors(
    tenant_id: UUID, items: Sequence[NewBudget | BudgetEdit], found: dict[UUID, Budget]
) -> list[FieldError]:
    errors: list[FieldError] = []
    references, edited = References(tenant_id), set[UUID]()
    for number, item in enumerate(items):
        if isinstance(item, NewBudget):
            errors += at_item(number, item.errors() or references.errors(item))
            references.live += 1
            continue
        budget = found.get(item.budget_id)
        if budget is None:
            errors += at_item(number, [FieldError("id", "is not a live budget of the tenant")])
        elif item.budget_id in edited:
            errors += at_item(number, [FieldError("id", "is given twice in this request")])
        else:
            errors += at_item(number, item.changes.errors(budget.metric))
            errors += at_item(number, item.changes.downgrade_errors(budget))
        edited.add(item.budget_id)
    return errors
