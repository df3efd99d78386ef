"""Increases: so much more than a limit for a while, with who and why.

PostgreSQL is the truth: `nb_limit` adds what is in force wherever a counter's limit is read. Counters that are
loaded already are told by the budget's next version: at once when an increase is made or cancelled, and by
`turn_increases` when one starts or ends by itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import Q

from budgets.domain.budget_rules import amount_field, parse_limit, reason_errors, show_limit
from budgets.domain.policy import EACH, Scope, WindowKind
from budgets.domain.windows import window_at
from budgets.models import Budget, BudgetIncrease
from budgets.services.budgets import InvalidBudget, Limit, find_budget, limit_errors, record_budget
from budgets.services.overrides import named_subject_errors, own_subject, rate_errors
from budgets.services.policy import one_publication, publish
from noburn.kit import ids
from noburn.kit.problems import FieldError, Missing
from tenants.models import Tenant
from tenants.services.tenants import lock_tenant

log = logging.getLogger(__name__)

WINDOWS_MAX: Final = 100
YEARS_MAX: Final = 10
OPEN_MAX: Final = 100
"""The most increases of one subject of a budget that are not over: a limit is a sum of few rows."""

OPEN_OF_BUDGET_MAX: Final = 10_000
TENANTS_PER_TURN: Final = 1_000
ROWS_PER_TENANT: Final = 1_000
ACTOR: Final = "system"


class IncreaseNotFound(Missing):
    """The budget has no such increase."""


@dataclass(frozen=True, kw_only=True)
class NewIncrease:
    """So much more until `ends_at`, or to the end of the Nth window from its start (`windows`: 1 is the present one).

    `amount` is in the budget's unit, as a limit is. `subject` EACH: every subject of the budget. `starts_at` None: now.
    """

    amount: Limit
    reason: str
    subject: str = EACH
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    windows: int | None = None

    def errors(self, budget: Budget, now: datetime) -> list[FieldError]:
        """Returns everything that is wrong with it as an increase of this budget."""
        field = amount_field(budget.metric)
        errors = limit_errors(budget.metric, self.amount, field=field)
        if not errors and not parse_limit(budget.metric, self.amount, field=field):
            errors.append(FieldError(field, "must be more than 0"))
        errors += reason_errors(self.reason)
        template = budget.subject == EACH and budget.scope != Scope.TENANT
        if template and self.subject != EACH:
            errors += named_subject_errors(budget, self.subject)
        elif not template and self.subject not in (EACH, budget.subject):
            errors.append(FieldError("subject", "must be left out: this budget has one subject"))
        return errors + self._period_errors(budget, now) + rate_errors(budget)

    def _period_errors(self, budget: Budget, now: datetime) -> list[FieldError]:
        errors = []
        if self.starts_at is not None and self.starts_at < now:
            errors.append(FieldError("starts_at", "must not be past; leave it out to start now"))
        elif self.starts_at is not None and self.starts_at > now + timedelta(days=366 * YEARS_MAX):
            errors.append(FieldError("starts_at", f"must be within {YEARS_MAX} years"))
        if (self.ends_at is None) == (self.windows is None):
            return [*errors, FieldError("ends_at", "say either ends_at or windows")]
        if self.windows is not None:
            if WindowKind(budget.window) in (WindowKind.TOTAL, WindowKind.RUN):
                errors.append(FieldError("windows", "this budget's window has no end; say ends_at instead"))
            elif not 1 <= self.windows <= WINDOWS_MAX:
                errors.append(FieldError("windows", f"must be between 1 and {WINDOWS_MAX}"))
        elif self.ends_at is not None and self.ends_at <= max(now, self.starts_at or now):
            errors.append(FieldError("ends_at", "must be later than now and than starts_at"))
        elif self.ends_at is not None and self.ends_at > now + timedelta(days=366 * YEARS_MAX):
            errors.append(FieldError("ends_at", f"must be within {YEARS_MAX} years; edit the limit instead"))
        return errors


def create_increase(
    *, tenant_id: UUID, budget_id: UUID, increase: NewIncrease, actor: str, now: datetime
) -> BudgetIncrease:
    """Grants an increase; one that starts now counts from the next call on.

    Raises TenantNotFound, BudgetNotFound, InvalidBudget with every error.
    """
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        budget = find_budget(tenant_id, budget_id)
        errors = increase.errors(budget, now)
        subject = EACH if budget.subject != EACH else own_subject(budget, increase.subject)
        if not errors:
            errors = _room_errors(budget, subject)
        if errors:
            raise InvalidBudget(errors)
        starts_at = increase.starts_at or now
        made = BudgetIncrease.objects.create(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            budget_id=budget.pk,
            subject=subject,
            amount=parse_limit(budget.metric, increase.amount, field=amount_field(budget.metric)),
            starts_at=starts_at,
            ends_at=increase.ends_at or _end_of_window(budget, tenant, starts_at, increase.windows or 1),
            reason=increase.reason,
            created_by=actor,
            created_at=now,
            started_at=now if starts_at <= now else None,
        )
        record_budget(budget, "budget.increase", actor=actor, now=now, after=_seen(budget, made))
        if made.started_at is not None:
            _refresh(budget, now)
    return made


def cancel_increase(
    *, tenant_id: UUID, budget_id: UUID, increase_id: UUID, actor: str, now: datetime
) -> BudgetIncrease:
    """Ends an increase before its time; what is held already stays held. Cancelling it again changes nothing.

    Raises TenantNotFound, BudgetNotFound, IncreaseNotFound, and InvalidBudget when it ended by itself.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        budget = find_budget(tenant_id, budget_id)
        increase = BudgetIncrease.objects.filter(
            tenant_id=tenant_id, budget_id=budget_id, pk=increase_id
        ).first()
        if increase is None:
            raise IncreaseNotFound(str(increase_id))
        if increase.cancelled_at is not None:
            return increase
        if increase.ended_at is not None or increase.ends_at <= now:
            raise InvalidBudget([FieldError("increase", f"ended already, at {increase.ends_at.isoformat()}")])
        before = _seen(budget, increase)
        increase.cancelled_at, increase.cancelled_by = now, actor
        increase.save(update_fields=["cancelled_at", "cancelled_by"])
        record_budget(
            budget,
            "budget.cancel_increase",
            actor=actor,
            now=now,
            before=before,
            after=_seen(budget, increase),
        )
        # One that is still to start by our mark may have started by the clock that counters are loaded under.
        _refresh(budget, now)
    return increase


@dataclass(frozen=True, slots=True)
class Turned:
    """How many increases were marked as started and as ended, and for how many tenants that failed."""

    started: int = 0
    ended: int = 0
    failed: int = 0


def turn_increases(*, now: datetime) -> Turned:
    """Tells counters of increases that start or end by themselves, in one transaction for each tenant.

    A tenant that somebody else is changing is left to the next turn, so two turns at once never do a thing twice.
    The marks are kept on the rows: after a time without turns nothing is missed. Raises OperationalError.
    """
    due = (
        BudgetIncrease.objects.filter(_due(now))
        .order_by("tenant_id")
        .values_list("tenant_id", flat=True)
        .distinct()
    )
    started = ended = failed = 0
    for tenant_id in due[:TENANTS_PER_TURN]:
        try:
            turned = _turn_tenant(tenant_id, now)
        except OperationalError:
            raise
        except Exception:
            # One tenant's trouble must not keep the others' budgets from changing.
            log.exception("the increases of tenant %s were not turned", tenant_id)
            failed += 1
        else:
            started, ended = started + turned.started, ended + turned.ended
    return Turned(started, ended, failed)


def _due(now: datetime) -> Q:
    return BudgetIncrease.OPEN & (Q(ends_at__lte=now) | Q(started_at__isnull=True, starts_at__lte=now))


def _turn_tenant(tenant_id: UUID, now: datetime) -> Turned:
    with transaction.atomic():
        free = Tenant.objects.select_for_update(no_key=True, skip_locked=True).filter(pk=tenant_id).exists()
        if not free:
            return Turned()
        # Read under the lock: another turn may have done them meanwhile.
        rows = list(
            BudgetIncrease.objects.filter(_due(now), tenant_id=tenant_id).order_by("ends_at", "pk")[
                :ROWS_PER_TENANT
            ]
        )
        budgets = {
            budget.pk: budget
            for budget in Budget.objects.filter(
                tenant_id=tenant_id, pk__in={row.budget_id for row in rows}
            ).order_by("pk")
        }
        ended = 0
        for row in rows:
            budget, before = budgets[row.budget_id], _seen(budgets[row.budget_id], row)
            row.started_at = row.started_at or now
            over = row.ends_at <= now
            if over:
                row.ended_at = now
                ended += 1
            row.save(update_fields=["started_at", "ended_at"])
            record_budget(
                budget,
                "budget.increase_end" if over else "budget.increase_start",
                actor=ACTOR,
                now=now,
                before=before,
                after=_seen(budget, row),
            )
        with one_publication(tenant_id=tenant_id, now=now):
            for budget in budgets.values():
                if budget.archived_at is None:
                    _refresh(budget, now)
    return Turned(len(rows) - ended, ended)


def _refresh(budget: Budget, now: datetime) -> None:
    """Has every counter of a budget loaded anew before its next hold."""
    budget.version += 1
    budget.save(update_fields=["version"])
    publish(tenant_id=budget.tenant_id, now=now)


def _room_errors(budget: Budget, subject: str) -> list[FieldError]:
    standing = BudgetIncrease.objects.filter(
        BudgetIncrease.OPEN, tenant_id=budget.tenant_id, budget_id=budget.pk
    )
    if standing.filter(subject=subject).count() >= OPEN_MAX or standing.count() >= OPEN_OF_BUDGET_MAX:
        return [
            FieldError(
                "budget",
                f"has {OPEN_MAX} increases of this subject, or {OPEN_OF_BUDGET_MAX} in all, that are not over",
            )
        ]
    return []


def _end_of_window(budget: Budget, tenant: Tenant, starts_at: datetime, windows: int) -> datetime:
    """Returns the end of the Nth window from the one that holds `starts_at` on."""
    at = starts_at
    for _ in range(windows):
        window = window_at(
            WindowKind(budget.window),
            now=at,
            zone=budget.time_zone or tenant.time_zone,
            anchor_day=budget.anchor_day,
        )
        assert window.ends_at is not None
        at = window.ends_at
    return at


def _seen(budget: Budget, increase: BudgetIncrease) -> dict[str, Any]:
    """What the audit log shows of an increase."""
    return {
        "increase": ids.encode(ids.BUDGET_INCREASE, increase.pk),
        "subject": increase.subject,
        amount_field(budget.metric): show_limit(budget.metric, increase.amount),
        "starts_at": increase.starts_at.isoformat(),
        "ends_at": increase.ends_at.isoformat(),
        "reason": increase.reason,
        "state": increase.state,
    }
