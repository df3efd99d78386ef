"""Sets up a tenant with a key and budgets in one transaction; doing it again changes only what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from budgets.domain.budget_rules import parse_limit
from budgets.domain.policy import EACH, Scope
from budgets.models import Budget
from budgets.services.budgets import BudgetChanges, NewBudget, create_budget, edit_budget
from budgets.services.policy import one_publication
from tenants.models import ApiKey, KeyScope, Project, Tenant
from tenants.services.keys import IssuedKey, issue_key
from tenants.services.projects import create_project
from tenants.services.tenants import DEFAULT_PROJECT, create_tenant, slug_errors

BUDGETS_PER_ORDER_MAX = 100


class ConflictingBudgets(ValueError):
    """Two budgets of one order differ in their limit alone."""


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """What exists afterwards. `issued` is None when no new key was made."""

    tenant: Tenant
    project: Project
    issued: IssuedKey | None
    budgets: tuple[Budget, ...]


def provision(
    *, slug: str, email: str, budgets: Sequence[NewBudget], new_key: bool, actor: str, now: datetime
) -> Provisioned:
    """Makes tenant, owner, project `default`, key and budgets, as far as they are missing.

    A budget is the same when scope, subject, tag, metric and window are, without an anchor or a zone of its
    own; its limit is then edited. A key is issued for a tenant that never had one, or when `new_key` says so.
    All or nothing. Raises ConflictingBudgets, InvalidTenant, InvalidKey, InvalidBudget.
    """
    _refuse_conflicts(budgets)
    with transaction.atomic():
        if not slug_errors("slug", slug):
            _one_at_a_time(slug)
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            tenant = create_tenant(slug=slug, name=slug, email=email, actor=actor, now=now).tenant
        project = Project.objects.filter(tenant_id=tenant.pk, slug=DEFAULT_PROJECT).first()
        if project is None:
            project = create_project(
                tenant_id=tenant.pk, slug=DEFAULT_PROJECT, name="Default", actor=actor, now=now
            )
        issued = None
        if new_key or not ApiKey.objects.filter(tenant_id=tenant.pk).exists():
            issued = issue_key(
                tenant_id=tenant.pk,
                # Of the whole tenant: the first key is what everything else can be managed with.
                name=f"Provisioned {now:%Y-%m-%d %H:%M}",
                scopes=KeyScope.values,
                actor=actor,
                now=now,
            )
        with one_publication(tenant_id=tenant.pk, now=now):
            made = tuple(_ensure(tenant.pk, wanted, actor=actor, now=now) for wanted in budgets)
    return Provisioned(tenant=tenant, project=project, issued=issued, budgets=made)


def _one_at_a_time(slug: str) -> None:
    """Waits for another order for the same tenant, which has no row to lock before it exists."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"noburn.provision:{slug}"])


def _identity(budget: NewBudget) -> tuple[str, ...]:
    tag = budget.tag or ""
    if budget.scope == Scope.TAG and budget.subject != EACH:
        tag = budget.subject.partition("=")[0]
    return budget.scope, budget.subject, tag, budget.metric, budget.window


def _refuse_conflicts(budgets: Sequence[NewBudget]) -> None:
    if len(budgets) > BUDGETS_PER_ORDER_MAX:
        raise ConflictingBudgets(f"at most {BUDGETS_PER_ORDER_MAX} budgets may be ordered at once")
    seen: dict[tuple[str, ...], NewBudget] = {}
    for budget in budgets:
        other = seen.setdefault(_identity(budget), budget)
        if not budget.errors() and parse_limit(budget.metric, budget.limit) != parse_limit(
            other.metric, other.limit
        ):
            raise ConflictingBudgets(
                f"{budget.scope}:{budget.subject} per {budget.window} in {budget.metric} is given twice, "
                f"with the limits {other.limit} and {budget.limit}"
            )


def _ensure(tenant_id: UUID, wanted: NewBudget, *, actor: str, now: datetime) -> Budget:
    scope, subject, tag, metric, window = _identity(wanted)
    found = (
        Budget.objects.filter(
            tenant_id=tenant_id,
            scope=scope,
            subject=subject,
            tag=tag or None,
            metric=metric,
            window=window,
            anchor_day__isnull=True,
            time_zone__isnull=True,
            plan__isnull=True,
            archived_at__isnull=True,
        )
        .order_by("created_at", "pk")
        .first()
    )
    if found is None:
        return create_budget(tenant_id=tenant_id, budget=wanted, actor=actor, now=now)
    changes = BudgetChanges(limit=wanted.limit)
    return edit_budget(tenant_id=tenant_id, budget_id=found.pk, changes=changes, actor=actor, now=now)
