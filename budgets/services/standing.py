"""How budgets stand now, for people: limit, spent, held, and where the pace of the window leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Q

from budgets.domain.demands import TENANT_SUBJECT
from budgets.domain.forecasts import Forecast, forecast
from budgets.domain.policy import EACH, Scope, WindowKind
from budgets.domain.windows import Window
from budgets.models import Budget, BudgetIncrease
from budgets.queries.fullness import Place, places, subjects
from budgets.services.figures import window_of
from tenants.models import Tenant

SHOWN_MAX: Final = 1_000
"""As many live budgets as a tenant may have."""

INCREASES_MAX: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One subject of one budget in its present window, in the budget's unit.

    `own_limit` is the subject's override, or None; `increased` is what increases add now; `held` is what gateways may
    still turn into spending. A rate by the minute has no figures: they live in Redis alone, and are 0 here.
    """

    budget: Budget
    subject: str
    window: Window
    limit: int
    own_limit: int | None = None
    increased: int = 0
    spent: int = 0
    held: int = 0
    stranded: int = 0
    remaining: int = 0
    forecast: Forecast | None = None

    @property
    def percent(self) -> int:
        """The part of the limit that is spent, in whole percents rounded down; 100 of a limit of nothing."""
        return 100 if self.limit <= 0 else self.spent * 100 // self.limit

    @property
    def counted(self) -> bool:
        """Whether PostgreSQL knows what was spent."""
        return self.budget.window != WindowKind.MINUTE


def own_subject_of(budget: Budget) -> str:
    """Returns the subject of a budget of one subject as its counters spell it."""
    if budget.scope == Scope.TENANT:
        return TENANT_SUBJECT
    return budget.subject.partition("=")[2] if budget.scope == Scope.TAG else budget.subject


def is_template(budget: Budget) -> bool:
    """Whether a budget counts each subject of its scope on its own."""
    return budget.subject == EACH and budget.scope != Scope.TENANT


def standings_of(*, tenant: Tenant, wanted: Sequence[tuple[Budget, str]], now: datetime) -> list[Standing]:
    """Returns how some subjects of budgets stand, in their order, by one question to the database."""
    windows = [window_of(budget, tenant, now) for budget, _ in wanted]
    asked = [
        Place(budget.pk, subject, window.starts_at)
        for (budget, subject), window in zip(wanted, windows, strict=True)
        if budget.window != WindowKind.MINUTE
    ]
    found = places(tenant_id=tenant.pk, wanted=asked, now=now) if asked else {}
    made = []
    for (budget, subject), window in zip(wanted, windows, strict=True):
        row = found.get((budget.pk, subject))
        if row is None:
            made.append(Standing(budget=budget, subject=subject, window=window, limit=budget.limit))
            continue
        made.append(
            Standing(
                budget=budget,
                subject=subject,
                window=window,
                limit=row["limit"],
                own_limit=row["own_limit"],
                increased=row["increased"],
                spent=row["spent"],
                held=row["authority"] - row["stranded"],
                stranded=row["stranded"],
                remaining=row["remaining"],
                forecast=forecast(
                    spent=row["spent"],
                    limit=row["limit"],
                    starts_at=window.starts_at,
                    ends_at=window.ends_at,
                    now=now,
                ),
            )
        )
    return made


def of_tenant(*, tenant: Tenant, now: datetime, limit: int) -> list[Standing]:
    """Returns the fullest `limit` of a tenant's live budgets that have one subject."""
    live = Budget.objects.filter(tenant=tenant, archived_at__isnull=True)
    budgets = [budget for budget in live.order_by("created_at", "pk")[:SHOWN_MAX] if not is_template(budget)]
    found = standings_of(tenant=tenant, wanted=[(b, own_subject_of(b)) for b in budgets], now=now)
    return sorted(found, key=lambda one: -one.percent)[:limit]


def of_customer(*, tenant: Tenant, customer: str, now: datetime) -> list[Standing]:
    """Returns how one customer stands under every live budget of customers that counts it, templates first."""
    live = Budget.objects.filter(tenant=tenant, archived_at__isnull=True, scope=Scope.CUSTOMER)
    budgets = live.filter(Q(subject=EACH) | Q(subject=customer)).order_by("subject", "created_at", "pk")[
        :SHOWN_MAX
    ]
    return standings_of(tenant=tenant, wanted=[(budget, customer) for budget in budgets], now=now)


def of_page(*, tenant: Tenant, budgets: Sequence[Budget], now: datetime) -> dict[UUID, Standing | int]:
    """Returns of each budget of a page how it stands, or of a template how many subjects have called in the window."""
    single = [(budget, own_subject_of(budget)) for budget in budgets if not is_template(budget)]
    found: dict[UUID, Standing | int] = {
        one.budget.pk: one for one in standings_of(tenant=tenant, wanted=single, now=now)
    }
    each = [(b.pk, window_of(b, tenant, now).starts_at) for b in budgets if is_template(b)]
    counted = subjects(tenant_id=tenant.pk, windows=each) if each else {}
    return found | {budget: counted.get(budget, 0) for budget, _ in each}


def increases_of(*, tenant_id: UUID, budget_id: UUID) -> list[BudgetIncrease]:
    """Returns a budget's newest increases."""
    rows = BudgetIncrease.objects.filter(tenant_id=tenant_id, budget_id=budget_id)
    return list(rows.order_by("-created_at", "-pk")[:INCREASES_MAX])
