"""Budgets: created, edited, archived, one or many at once. Every edit publishes the policy anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import transaction

from budgets.domain.budget_rules import (
    BUDGETS_MAX,
    DEFAULT_THRESHOLDS,
    choice_errors,
    downgrade_errors,
    limit_field,
    name_errors,
    parse_limit,
    quota_errors,
    show_limit,
    subject_errors,
    thresholds_errors,
    window_errors,
)
from budgets.domain.policy import BUDGET_METRICS, BUDGET_SCOPES, EACH, Action, Metric, Scope, WindowKind
from budgets.models import Budget, Estimate, OnEpochClose, OnExpiry
from budgets.services.policy import publish
from noburn.kit import ids
from noburn.kit.money import BadAmount
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.domain.time_zones import is_time_zone
from tenants.models import ApiKey, Project
from tenants.services import audit
from tenants.services.tenants import lock_tenant

Limit = Decimal | int | str
"""A limit as people write it: USD with up to nine places, or a whole number of tokens or requests."""


class InvalidBudget(Invalid):
    """A budget, edit or override that breaks rules; `errors` names every one."""


class BudgetNotFound(Missing):
    """The tenant has no such budget, or it is archived."""


@dataclass(frozen=True, kw_only=True)
class NewBudget:
    """A budget to be made. Scope, metric, window and the choices are words as on the wire.

    `limit` is in the metric's unit (USD, not nano-USD). `subject` is `*` for each subject, and always for the
    tenant itself; a tag's subject is `name=value`, and a tag template names its tag in `tag`; an API key's is
    its id. `name` is made from the rest when it is empty, `time_zone` None is the tenant's.
    """

    scope: str
    metric: str = Metric.USD.value
    window: str
    limit: Limit
    subject: str = EACH
    tag: str | None = None
    name: str = ""
    anchor_day: int | None = None
    time_zone: str | None = None
    action: str = Action.BLOCK.value
    downgrade_model: str | None = None
    estimate: str = Estimate.CEILING.value
    on_expiry: str = OnExpiry.PRESUME.value
    on_epoch_close: str = OnEpochClose.STRICT.value
    thresholds: tuple[int, ...] = DEFAULT_THRESHOLDS
    plan: str | None = None
    upgrade_to: str | None = None

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with it, as far as it can be told without the database."""
        errors = [
            *choice_errors("scope", self.scope, BUDGET_SCOPES),
            *choice_errors("metric", self.metric, BUDGET_METRICS),
            *choice_errors("window", self.window, WindowKind),
            *_choices_errors(self.action, self.estimate, self.on_expiry, self.on_epoch_close),
            *subject_errors(self.scope, self.subject, self.tag),
            *window_errors(self.scope, self.window, self.anchor_day),
            *thresholds_errors(self.thresholds),
            *quota_errors(self.scope, self.plan, self.upgrade_to),
            *downgrade_errors(self.action, self.downgrade_model),
        ]
        if self.name:
            errors += name_errors(self.name)
        if self.time_zone is not None and not is_time_zone(self.time_zone):
            errors.append(FieldError("time_zone", "must be an IANA time zone such as Europe/Berlin"))
        return errors + limit_errors(self.metric, self.limit)


@dataclass(frozen=True, kw_only=True)
class BudgetChanges:
    """What to change of a budget; None leaves a field as it is.

    What a budget counts (scope, subject, tag, metric, window, anchor, zone) cannot change: its counters would
    mean something else half-way. Archive it and make another, which begins with what was spent so far.
    """

    limit: Limit | None = None
    name: str | None = None
    action: str | None = None
    downgrade_model: str | None = None
    estimate: str | None = None
    on_expiry: str | None = None
    on_epoch_close: str | None = None
    thresholds: tuple[int, ...] | None = None
    upgrade_to: str | None = None

    def errors(self, metric: str) -> list[FieldError]:
        """Returns everything that is wrong with the changes to a budget of this metric."""
        errors = _choices_errors(self.action, self.estimate, self.on_expiry, self.on_epoch_close)
        if self.name is not None:
            errors += name_errors(self.name)
        if self.thresholds is not None:
            errors += thresholds_errors(self.thresholds)
        if self.limit is not None:
            errors += limit_errors(metric, self.limit)
        return errors

    def downgrade_errors(self, budget: Budget) -> list[FieldError]:
        """Returns what would be wrong with the model that the budget downgrades to."""
        action = self.action or budget.action
        kept = budget.downgrade_model if action == Action.DOWNGRADE else None
        return downgrade_errors(action, self.downgrade_model or kept)

    def apply(self, budget: Budget) -> None:
        """Writes the changes, which have no errors, into a budget that the caller saves."""
        for field in dataclass_fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "limit":
                value = parse_limit(budget.metric, value)
            if field.name == "action" and value != Action.DOWNGRADE:
                budget.downgrade_model = None
            setattr(budget, field.name, list(value) if field.name == "thresholds" else value)


def create_budget(*, tenant_id: UUID, budget: NewBudget, actor: str, now: datetime) -> Budget:
    """Creates a budget and publishes it. Raises TenantNotFound, or InvalidBudget with every error.

    Made inside its window it begins with what the ledger holds for that window.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        errors = budget.errors() or References(tenant_id).errors(budget)
        if errors:
            raise InvalidBudget(errors)
        made = built(tenant_id, budget, now)
        made.save(force_insert=True)
        record_budget(made, "budget.create", actor=actor, now=now, after=seen(made))
        publish(tenant_id=tenant_id, now=now)
    return made


def edit_budget(
    *, tenant_id: UUID, budget_id: UUID, changes: BudgetChanges, actor: str, now: datetime
) -> Budget:
    """Changes a budget, raises its version and publishes it; without a difference nothing happens.

    A lowered limit revokes nothing that is held already. Raises TenantNotFound, BudgetNotFound, InvalidBudget.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        budget = find_budget(tenant_id, budget_id)
        errors = [*changes.errors(budget.metric), *changes.downgrade_errors(budget)]
        if changes.upgrade_to is not None:
            errors += quota_errors(budget.scope, budget.plan, changes.upgrade_to)
        if errors:
            raise InvalidBudget(errors)
        before = seen(budget)
        changes.apply(budget)
        after = seen(budget)
        if after != before:
            save_next_version(budget, "budget.edit", actor=actor, now=now, before=before, after=after)
    return budget


def archive_budget(*, tenant_id: UUID, budget_id: UUID, actor: str, now: datetime) -> Budget:
    """Ends a budget: it counts and refuses nothing from the next policy on. Raises TenantNotFound, BudgetNotFound.

    Its history stays, and so do its overrides and increases.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        budget = find_budget(tenant_id, budget_id)
        before = seen(budget)
        budget.archived_at = now
        save_next_version(budget, "budget.archive", actor=actor, now=now, before=before, after=seen(budget))
    return budget


def find_budget(tenant_id: UUID, budget_id: UUID) -> Budget:
    """Returns a live budget of the tenant. Raises BudgetNotFound."""
    budget = Budget.objects.filter(tenant_id=tenant_id, pk=budget_id, archived_at__isnull=True).first()
    if budget is None:
        raise BudgetNotFound(str(budget_id))
    return budget


def save_next_version(
    budget: Budget,
    action: str,
    *,
    actor: str,
    now: datetime,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    """Saves a budget under its next version, so that gateways refresh its counters, and publishes it."""
    budget.version += 1
    budget.save()
    record_budget(budget, action, actor=actor, now=now, before=before, after=after)
    publish(tenant_id=budget.tenant_id, now=now)


def record_budget(
    budget: Budget,
    action: str,
    *,
    actor: str,
    now: datetime,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Writes what happened to a budget into the audit log."""
    audit.record(
        tenant_id=budget.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.BUDGET, budget.pk),
        before=before,
        after=after,
        now=now,
    )


def limit_errors(metric: str, limit: Limit, *, field: str | None = None) -> list[FieldError]:
    """Returns what is wrong with a limit; `field` is its name on the wire, if it is not the limit's own."""
    if metric not in BUDGET_METRICS:
        return []  # Named already; its limit has no unit yet.
    try:
        parse_limit(metric, limit, field=field)
    except BadAmount as bad:
        return [FieldError(bad.field, bad.message)]
    return []


def _choices_errors(
    action: str | None, estimate: str | None, on_expiry: str | None, on_epoch_close: str | None
) -> list[FieldError]:
    return [
        *choice_errors("action", action, Action),
        *choice_errors("estimate", estimate, Estimate),
        *choice_errors("on_expiry", on_expiry, OnExpiry),
        *choice_errors("on_epoch_close", on_epoch_close, OnEpochClose),
    ]


class References:
    """What the budgets of a tenant may refer to, and how many there are: read once for many new ones."""

    def __init__(self, tenant_id: UUID) -> None:
        self._tenant_id = tenant_id
        self.live = Budget.objects.filter(tenant_id=tenant_id, archived_at__isnull=True).count()

    @cached_property
    def _projects(self) -> frozenset[str]:
        return frozenset(Project.objects.filter(tenant_id=self._tenant_id).values_list("slug", flat=True))

    @cached_property
    def _keys(self) -> frozenset[str]:
        keys = ApiKey.objects.filter(tenant_id=self._tenant_id).values_list("pk", flat=True)
        return frozenset(ids.encode(ids.API_KEY, key) for key in keys)

    def errors(self, budget: NewBudget) -> list[FieldError]:
        """Returns what is wrong with one more budget in the light of what the tenant has."""
        errors = []
        if budget.subject != EACH and budget.scope == Scope.PROJECT:
            if budget.subject not in self._projects:
                errors.append(FieldError("subject", "must be the slug of a project of the tenant, or *"))
        elif budget.subject != EACH and budget.scope == Scope.API_KEY and budget.subject not in self._keys:
            errors.append(FieldError("subject", "must be the id (key_…) of an API key of the tenant, or *"))
        if self.live >= BUDGETS_MAX:
            errors.append(
                FieldError("budget", f"a tenant has at most {BUDGETS_MAX}; archive those not in use")
            )
        return errors


def built(tenant_id: UUID, budget: NewBudget, now: datetime) -> Budget:
    """Returns a row, not saved yet, of a new budget without errors."""
    limit = parse_limit(budget.metric, budget.limit)
    return Budget(
        id=ids.new_uuid(now),
        tenant_id=tenant_id,
        version=1,
        name=budget.name or _default_name(budget, limit),
        scope=budget.scope,
        subject=budget.subject,
        tag=(budget.tag or budget.subject.partition("=")[0]) if budget.scope == Scope.TAG else None,
        metric=budget.metric,
        window=budget.window,
        anchor_day=budget.anchor_day,
        time_zone=budget.time_zone,
        limit=limit,
        action=budget.action,
        downgrade_model=budget.downgrade_model,
        estimate=budget.estimate,
        on_expiry=budget.on_expiry,
        on_epoch_close=budget.on_epoch_close,
        thresholds=list(budget.thresholds),
        plan=budget.plan,
        upgrade_to=budget.upgrade_to,
        effective_at=now,
        created_at=now,
    )


def _default_name(budget: NewBudget, limit: int) -> str:
    whose = budget.scope if budget.scope == Scope.TENANT else f"{budget.scope} {budget.subject}"
    if budget.scope == Scope.TAG and budget.subject == EACH:
        whose = f"tag {budget.tag}=*"
    if budget.plan is not None:
        whose += f" on plan {budget.plan}"
    unit = {"usd": "USD", "tokens": "tokens", "requests": "requests"}[budget.metric]
    per = {"total": "in total", "run": "a run"}.get(budget.window, f"per {budget.window}")
    return f"{whose}: {show_limit(budget.metric, limit)} {unit} {per}"[:200]


def seen(budget: Budget) -> dict[str, Any]:
    """What the audit log shows of a budget."""
    return {
        "name": budget.name,
        "scope": budget.scope,
        "subject": budget.subject,
        "tag": budget.tag,
        "metric": budget.metric,
        "window": budget.window,
        "anchor_day": budget.anchor_day,
        "time_zone": budget.time_zone,
        limit_field(budget.metric): show_limit(budget.metric, budget.limit),
        "action": budget.action,
        "downgrade_model": budget.downgrade_model,
        "estimate": budget.estimate,
        "on_expiry": budget.on_expiry,
        "on_epoch_close": budget.on_epoch_close,
        "thresholds": list(budget.thresholds),
        "plan": budget.plan,
        "upgrade_to": budget.upgrade_to,
        "archived_at": budget.archived_at.isoformat() if budget.archived_at else None,
    }
