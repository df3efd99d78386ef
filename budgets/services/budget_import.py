"""Budgets from a spreadsheet: what a table would do, told before anything is done, and then done as told, all or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from budgets.domain.budget_rules import limit_field, parse_limit, show_limit
from budgets.domain.budget_tables import RowError, TableRow, at_line, read_table
from budgets.domain.policy import EACH, Metric
from budgets.models import Budget, BudgetOverride
from budgets.services.budgets import BudgetChanges, NewBudget, References, limit_errors
from budgets.services.bulk import BudgetEdit, save_budgets
from budgets.services.overrides import (
    NewOverride,
    named_subject_errors,
    own_subject,
    set_overrides,
    template_errors,
)
from budgets.services.policy import one_publication
from budgets.services.standing import is_template
from noburn.kit import ids
from noburn.kit.problems import FieldError

FIXED: Final = ("scope", "tag", "metric", "window")


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What one line does: `create`, `change`, `override` or `unchanged`, to what, and its limit before and after."""

    line: int
    what: str
    name: str
    before: str = ""
    after: str = ""


@dataclass(kw_only=True, slots=True)
class Plan:
    """What a table does, and everything that is wrong with it; with errors nothing is done."""

    rows: list[Planned] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    budgets: list[NewBudget | BudgetEdit] = field(default_factory=list)
    overrides: dict[UUID, list[NewOverride]] = field(default_factory=lambda: defaultdict(list))

    @property
    def counts(self) -> dict[str, int]:
        """How many lines do what."""
        found: dict[str, int] = {}
        for row in self.rows:
            found[row.what] = found.get(row.what, 0) + 1
        return found


class BadTable(ValueError):
    """A table that cannot be taken over; `plan.errors` names every bad row."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(f"{len(plan.errors)} errors")
        self.plan = plan


def plan_import(*, tenant_id: UUID, text: str) -> Plan:
    """Returns what a table would do; nothing is changed."""
    rows, errors = read_table(text)
    plan = Plan(errors=errors)
    if not rows:
        return plan
    known = _known(tenant_id, rows)
    own = _own_limits(tenant_id, rows, known)
    references, seen = References(tenant_id), dict[tuple[UUID, str], int]()
    for row in rows:
        wanted = row.cells.get("budget")
        if wanted is None:
            _plan_new(plan, row, references)
            continue
        budget = known.get(wanted)
        if budget is None:
            plan.errors += at_line(row.line, [FieldError("id", "is not a live budget of the tenant")])
            continue
        subject = row.cells.get("subject", EACH)
        single = is_template(budget) and subject != EACH
        key = (budget.pk, own_subject(budget, subject) if single else "")
        if key in seen:
            plan.errors += at_line(row.line, [FieldError("id", f"stands in line {seen[key]} too")])
            continue
        seen[key] = row.line
        if single:
            _plan_override(plan, row, budget, own)
        else:
            _plan_change(plan, row, budget)
    return plan


def import_budgets(*, tenant_id: UUID, text: str, actor: str, now: datetime) -> Plan:
    """Does what a table says, in one transaction with one publication, and returns what that was. Raises BadTable."""
    with one_publication(tenant_id=tenant_id, now=now):
        plan = plan_import(tenant_id=tenant_id, text=text)
        if plan.errors:
            raise BadTable(plan)
        if plan.budgets:
            save_budgets(tenant_id=tenant_id, items=plan.budgets, actor=actor, now=now)
        for budget_id, items in plan.overrides.items():
            set_overrides(tenant_id=tenant_id, budget_id=budget_id, items=items, actor=actor, now=now)
    return plan


def _known(tenant_id: UUID, rows: list[TableRow]) -> dict[str, Budget]:
    wanted: dict[UUID, str] = {}
    for row in rows:
        text = row.cells.get("budget", "")
        try:
            wanted[ids.decode(ids.BUDGET, text)] = text
        except ids.BadId:
            continue
    found = Budget.objects.filter(tenant_id=tenant_id, pk__in=wanted, archived_at__isnull=True)
    return {wanted[budget.pk]: budget for budget in found}


def _own_limits(
    tenant_id: UUID, rows: list[TableRow], known: Mapping[str, Budget]
) -> dict[tuple[UUID, str], int]:
    found = BudgetOverride.objects.filter(
        tenant_id=tenant_id,
        budget_id__in={budget.pk for budget in known.values() if is_template(budget)},
        subject__in={
            own_subject(known[row.cells["budget"]], row.cells["subject"])
            for row in rows
            if row.cells.get("budget") in known and "subject" in row.cells
        },
    )
    return {(row.budget_id, row.subject): row.limit for row in found}


def _plan_new(plan: Plan, row: TableRow, references: References) -> None:
    cells = row.cells
    missing = [FieldError(name, "is missing") for name in ("scope", "window", "limit") if name not in cells]
    if missing:
        plan.errors += at_line(row.line, missing)
        return
    budget = NewBudget(
        scope=cells["scope"],
        window=cells["window"],
        limit=cells["limit"],
        metric=cells.get("metric", Metric.USD.value),
        subject=cells.get("subject", EACH),
        tag=cells.get("tag"),
        name=cells.get("name", ""),
        action=cells.get("action", "block"),
    )
    errors = budget.errors() or references.errors(budget)
    references.live += 1
    if errors:
        plan.errors += at_line(row.line, errors)
        return
    plan.budgets.append(budget)
    name = budget.name or f"{budget.scope} {budget.subject} per {budget.window}"
    plan.rows.append(Planned(line=row.line, what="create", name=name, after=str(budget.limit)))


def _plan_change(plan: Plan, row: TableRow, budget: Budget) -> None:
    cells = row.cells
    errors = [
        FieldError(name, "cannot change: archive the budget and make another")
        for name in FIXED
        if name in cells and cells[name] != (getattr(budget, name) or "")
    ]
    if cells.get("subject", budget.subject) != budget.subject:
        errors.append(FieldError("subject", "cannot change: archive the budget and make another"))
    changes = BudgetChanges(limit=cells.get("limit"), name=cells.get("name"), action=cells.get("action"))
    errors += changes.errors(budget.metric)
    if errors:
        plan.errors += at_line(row.line, errors)
        return
    before = show_limit(budget.metric, budget.limit)
    limit = parse_limit(budget.metric, cells["limit"]) if "limit" in cells else budget.limit
    same = (limit, changes.name or budget.name, changes.action or budget.action) == (
        budget.limit,
        budget.name,
        budget.action,
    )
    if not same:
        plan.budgets.append(BudgetEdit(budget_id=budget.pk, changes=changes))
    plan.rows.append(
        Planned(
            line=row.line,
            what="unchanged" if same else "change",
            name=budget.name,
            before=before,
            after=show_limit(budget.metric, limit),
        )
    )


def _plan_override(plan: Plan, row: TableRow, budget: Budget, own: Mapping[tuple[UUID, str], int]) -> None:
    cells, subject = row.cells, row.cells["subject"]
    errors = [*template_errors(budget), *named_subject_errors(budget, subject)]
    errors += [
        FieldError(name, "belongs to the budget, not to one subject of it")
        for name in ("name", "action")
        if name in cells and cells[name] != getattr(budget, name)
    ]
    if "limit" not in cells:
        errors.append(FieldError(limit_field(budget.metric), "is missing"))
    else:
        errors += limit_errors(budget.metric, cells["limit"])
    if errors:
        plan.errors += at_line(row.line, errors)
        return
    before = own.get((budget.pk, own_subject(budget, subject)))
    limit = parse_limit(budget.metric, cells["limit"])
    if before != limit:
        plan.overrides[budget.pk].append(NewOverride(subject=subject, limit=cells["limit"]))
    plan.rows.append(
        Planned(
            line=row.line,
            what="unchanged" if before == limit else "override",
            name=f"{budget.name}: {subject}",
            before=show_limit(budget.metric, budget.limit if before is None else before),
            after=show_limit(budget.metric, limit),
        )
    )
