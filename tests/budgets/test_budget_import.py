"""Budgets from a spreadsheet: what a table would do is told first, every bad row is named, and all or none is done."""

from __future__ import annotations

from typing import Any

import pytest

from budgets.domain.budget_tables import CELL_CHARS_MAX, ROWS_MAX, RowError, read_table
from budgets.models import Budget, BudgetOverride, PolicySnapshot
from budgets.services.budget_import import BadTable, Plan, import_budgets, plan_import
from budgets.services.budgets import NewBudget, create_budget
from noburn.kit import ids
from tenants.models import AuditEntry
from tests.tenants.cast import ACTOR, NOW, Cast, make_cast

pytestmark = pytest.mark.real_db


@pytest.fixture
def cast(real_database: None) -> Cast:
    return make_cast()


def budget_of(cast: Cast, **changes: Any) -> Budget:
    fields = {"scope": "customer", "window": "month", "limit": "10", **changes}
    return create_budget(tenant_id=cast.tenant.pk, budget=NewBudget(**fields), actor=ACTOR, now=NOW)


def wire(budget: Budget) -> str:
    return ids.encode(ids.BUDGET, budget.pk)


def plan(cast: Cast, text: str) -> Plan:
    return plan_import(tenant_id=cast.tenant.pk, text=text)


def done(cast: Cast, text: str) -> Plan:
    return import_budgets(tenant_id=cast.tenant.pk, text=text, actor=ACTOR, now=NOW)


def named(errors: list[RowError]) -> list[tuple[int, str]]:
    return [(error.line, error.column) for error in errors]


class TestPlan:
    def test_tells_what_each_line_does_and_does_nothing(self, cast: Cast) -> None:
        each, one = budget_of(cast), budget_of(cast, subject="acme", limit="5")
        before = PolicySnapshot.objects.get(tenant=cast.tenant).version
        found = plan(
            cast,
            "scope,budget,subject,window,limit\n"
            f",{wire(each)},,,20\n"
            f",{wire(each)},globex,,30.5\n"
            f",{wire(one)},acme,month,5\n"
            "\n"
            "user,,*,day,0.75\n",
        )
        assert found.errors == []
        assert [(row.line, row.what, row.before, row.after) for row in found.rows] == [
            (2, "change", "10", "20"),
            (3, "override", "10", "30.5"),
            (4, "unchanged", "5", "5"),
            (6, "create", "", "0.75"),
        ]
        assert found.counts == {"change": 1, "override": 1, "unchanged": 1, "create": 1}
        assert PolicySnapshot.objects.get(tenant=cast.tenant).version == before
        assert Budget.objects.filter(tenant=cast.tenant).count() == 2

    def test_names_every_bad_row(self, cast: Cast) -> None:
        each, foreign = budget_of(cast), budget_of(Cast(cast.charlie, cast.bob, cast.alice))
        found = plan(
            cast,
            "budget,scope,subject,metric,window,limit,action\n"
            ",customers,,,fortnight,10,\n"
            ",customer,,,month,ten,\n"
            ",customer,,,,,\n"
            f"{wire(foreign)},,,,,10,\n"
            "bud_nonsense,,,,,10,\n"
            f"{wire(each)},user,,,day,1e3,explode\n"
            f"{wire(each)},,acme,,,,\n"
            f"{wire(each)},,,,,11,\n"
            ",customer,,tokens,month,1.5,\n"
            ",project,nowhere,,month,1,\n",
        )
        assert named(found.errors) == [
            (2, "scope"),
            (2, "window"),
            (3, "limit"),
            (4, "window"),
            (4, "limit"),
            (5, "budget"),
            (6, "budget"),
            (7, "scope"),
            (7, "window"),
            (7, "action"),
            (7, "limit"),
            (8, "limit"),
            (9, "budget"),
            (10, "limit"),
            (11, "subject"),
        ]

    @pytest.mark.parametrize(
        ("text", "errors"),
        [
            ("", [(1, "limit")]),
            ("limit", [(0, "")]),
            ("limit,price\n1,2", [(1, "price")]),
            ("limit,limit\n1,2", [(1, "limit")]),
            ("limit\n1,2", [(2, "")]),
            ('limit\n"1', [(2, "")]),
            ("limit\n\x00", [(0, "")]),
            ("limit\n" + "9" * (CELL_CHARS_MAX + 1), [(2, "limit")]),
            ("limit\n" + "1\n" * (ROWS_MAX + 1), [(ROWS_MAX + 2, "")]),
            ("x" * 600_000, [(0, "")]),
        ],
    )
    def test_says_what_is_no_such_table(self, text: str, errors: list[tuple[int, str]]) -> None:
        assert named(read_table(text)[1]) == errors

    def test_reads_what_a_spreadsheet_makes_of_our_own_tables(self) -> None:
        rows, errors = read_table("\ufeffLimit,Subject\r\n5,'=acme\r\n6,'quoted\r\n")
        assert errors == []
        assert [dict(row.cells) for row in rows] == [
            {"limit": "5", "subject": "=acme"},
            {"limit": "6", "subject": "'quoted"},
        ]


class TestImport:
    def test_does_what_was_planned_with_one_version_of_the_policy(self, cast: Cast) -> None:
        each = budget_of(cast)
        before = PolicySnapshot.objects.get(tenant=cast.tenant).version
        text = (
            "budget,scope,subject,window,limit,action,name\n"
            f"{wire(each)},,,,20,warn,\n"
            f"{wire(each)},,acme,,50,,\n"
            ",tenant,,month,1000,,Everything\n"
        )
        done(cast, text)
        each.refresh_from_db()
        assert (each.limit, each.action) == (20 * 10**9, "warn")
        assert BudgetOverride.objects.get(budget=each).limit == 50 * 10**9
        assert Budget.objects.get(tenant=cast.tenant, scope="tenant").name == "Everything"
        assert PolicySnapshot.objects.get(tenant=cast.tenant).version == before + 1
        actions = AuditEntry.objects.filter(tenant=cast.tenant, action__startswith="budget.").values_list(
            "action", flat=True
        )
        assert sorted(actions) == ["budget.create", "budget.create", "budget.edit", "budget.set_override"]
        again = done(cast, text.replace(",tenant,,month,1000,,Everything\n", ""))
        assert again.counts == {"unchanged": 2}
        assert PolicySnapshot.objects.get(tenant=cast.tenant).version == before + 1

    def test_does_nothing_of_a_table_with_a_bad_row(self, cast: Cast) -> None:
        with pytest.raises(BadTable) as raised:
            done(cast, "scope,window,limit\nuser,day,1\nuser,day,-1\n")
        assert named(raised.value.plan.errors) == [(3, "limit")]
        assert not Budget.objects.filter(tenant=cast.tenant).exists()
