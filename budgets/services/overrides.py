"""Overrides: another limit for single subjects of a template, set one or many at once, and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from budgets.domain.budget_rules import limit_field, parse_limit, show_limit, subject_errors
from budgets.domain.policy import EACH, Scope, WindowKind
from budgets.models import Budget, BudgetOverride
from budgets.services.budgets import (
    InvalidBudget,
    Limit,
    find_budget,
    limit_errors,
    record_budget,
    save_next_version,
)
from budgets.services.bulk import BULK_MAX, at_item, size_errors
from budgets.services.policy import publish
from noburn.kit import ids
from noburn.kit.problems import FieldError, Missing
from tenants.services.tenants import lock_tenant


class OverrideNotFound(Missing):
    """The budget has no override for this subject."""


@dataclass(frozen=True, kw_only=True)
class NewOverride:
    """A limit of its own for one subject; for a tag the subject may be the value or `name=value`."""

    subject: str
    limit: Limit


def set_override(
    *, tenant_id: UUID, budget_id: UUID, subject: str, limit: Limit, actor: str, now: datetime
) -> BudgetOverride:
    """Gives one subject of a template its own limit. Raises TenantNotFound, BudgetNotFound, InvalidBudget.

    `subject` is one of the budget's scope; for a tag it may be the value or `name=value`.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        budget = find_budget(tenant_id, budget_id)
        wanted = NewOverride(subject=subject, limit=limit)
        errors = _errors(budget, wanted) + template_errors(budget)
        if errors:
            raise InvalidBudget(errors)
        known = _known(budget, [wanted])
        before = _seen_of(budget, known.get(own_subject(budget, subject)))
        override, changed = _set(budget, wanted, known, now)
        if changed:
            after = _seen(budget, override)
            save_next_version(budget, "budget.set_override", actor=actor, now=now, before=before, after=after)
    return override


def set_overrides(
    *, tenant_id: UUID, budget_id: UUID, items: Sequence[NewOverride], actor: str, now: datetime
) -> list[BudgetOverride]:
    """Sets up to 1,000 overrides of one template, all or none; the budget's version rises once.

    Raises TenantNotFound, BudgetNotFound, InvalidBudget whose errors are named `items[3].limit_usd`.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        budget = find_budget(tenant_id, budget_id)
        errors = [*size_errors(items), *template_errors(budget)]
        seen: set[str] = set()
        for number, item in enumerate(items[:BULK_MAX]):
            errors += at_item(number, _errors(budget, item))
            if (subject := own_subject(budget, item.subject)) in seen:
                errors += at_item(number, [FieldError("subject", "is given twice in this request")])
            seen.add(subject)
        if errors:
            raise InvalidBudget(errors)
        known, made, any_changed = _known(budget, items), [], False
        for item in items:
            before = _seen_of(budget, known.get(own_subject(budget, item.subject)))
            override, changed = _set(budget, item, known, now)
            made.append(override)
            if changed:
                any_changed = True
                record_budget(
                    budget,
                    "budget.set_override",
                    actor=actor,
                    now=now,
                    before=before,
                    after=_seen(budget, override),
                )
        if any_changed:
            budget.version += 1
            budget.save(update_fields=["version"])
            publish(tenant_id=tenant_id, now=now)
    return made


def remove_override(*, tenant_id: UUID, budget_id: UUID, subject: str, actor: str, now: datetime) -> None:
    """Puts a subject back under the template's limit. Raises TenantNotFound, BudgetNotFound, OverrideNotFound."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        budget = find_budget(tenant_id, budget_id)
        override = BudgetOverride.objects.filter(
            tenant_id=tenant_id, budget_id=budget_id, subject=own_subject(budget, subject)
        ).first()
        if override is None:
            raise OverrideNotFound(subject)
        before = _seen(budget, override)
        override.delete()
        save_next_version(budget, "budget.remove_override", actor=actor, now=now, before=before, after=None)


def own_subject(budget: Budget, subject: str) -> str:
    """Returns the subject as counters spell it: for a tag its value alone."""
    if budget.scope == Scope.TAG and budget.tag:
        return subject.removeprefix(f"{budget.tag}=")
    return subject


def named_subject_errors(budget: Budget, subject: str) -> list[FieldError]:
    """Returns what is wrong with the name of one subject of a template."""
    subject = own_subject(budget, subject)
    if subject == EACH:
        return [FieldError("subject", "must name one subject, not *")]
    return subject_errors(
        budget.scope, f"{budget.tag}={subject}" if budget.scope == Scope.TAG else subject, budget.tag
    )


def rate_errors(budget: Budget) -> list[FieldError]:
    """Returns an error for a rate by the minute, which lives in Redis alone and has one limit for everybody."""
    if budget.window == WindowKind.MINUTE:
        return [
            FieldError("budget", "is a rate by the minute, whose limit is the same for all; edit the limit")
        ]
    return []


def template_errors(budget: Budget) -> list[FieldError]:
    """Returns an error unless subjects of this budget may have limits of their own."""
    if budget.subject != EACH or budget.scope == Scope.TENANT:
        return [FieldError("budget", "has one subject; edit its limit instead")]
    return rate_errors(budget)


def _errors(budget: Budget, wanted: NewOverride) -> list[FieldError]:
    return [*limit_errors(budget.metric, wanted.limit), *named_subject_errors(budget, wanted.subject)]


def _known(budget: Budget, items: Sequence[NewOverride]) -> dict[str, BudgetOverride]:
    subjects = [own_subject(budget, item.subject) for item in items]
    rows = BudgetOverride.objects.filter(
        tenant_id=budget.tenant_id, budget_id=budget.pk, subject__in=subjects
    ).order_by("subject", "pk")
    return {row.subject: row for row in rows}


def _set(
    budget: Budget, wanted: NewOverride, known: dict[str, BudgetOverride], now: datetime
) -> tuple[BudgetOverride, bool]:
    """Writes one override; returns it, and whether that changed anything."""
    subject, amount = own_subject(budget, wanted.subject), parse_limit(budget.metric, wanted.limit)
    override = known.get(subject)
    if override is None:
        override = BudgetOverride(
            id=ids.new_uuid(now),
            tenant_id=budget.tenant_id,
            budget_id=budget.pk,
            subject=subject,
            version=0,
        )
    elif override.limit == amount:
        return override, False
    override.limit = amount
    override.version += 1
    override.updated_at = now
    override.save()
    return override, True


def _seen_of(budget: Budget, override: BudgetOverride | None) -> dict[str, Any] | None:
    return _seen(budget, override) if override is not None else None


def _seen(budget: Budget, override: BudgetOverride) -> dict[str, Any]:
    return {
        "subject": override.subject,
        limit_field(budget.metric): show_limit(budget.metric, override.limit),
    }
