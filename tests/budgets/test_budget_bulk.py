"""Many budgets and overrides in one request, and many changes in one publication."""

from __future__ import annotations

from typing import Any

import pytest

from budgets.domain import policy as policies
from budgets.models import Budget, BudgetOverride, PolicySnapshot
from budgets.services.budgets import (
    BudgetChanges,
    InvalidBudget,
    NewBudget,
    archive_budget,
    create_budget,
    edit_budget,
)
from budgets.services.bulk import BudgetEdit, save_budgets
from budgets.services.overrides import NewOverride, set_override, set_overrides
from budgets.services.policy import one_publication
from noburn.kit import ids
from noburn.kit.money import NANO
from tenants.models import AuditEntry
from tenants.services.tenants import TenantNotFound
from tests.tenants.cast import ACTOR, NOW, Cast, make_cast

pytestmark = pytest.mark.real_db


@pytest.fixture
def cast(real_database: None) -> Cast:
    return make_cast()


def new(**changes: Any) -> NewBudget:
    return NewBudget(**{"scope": "customer", "window": "month", "limit": "10", **changes})


def create(cast: Cast, **changes: Any) -> Budget:
    return create_budget(tenant_id=cast.tenant.pk, budget=new(**changes), actor=ACTOR, now=NOW)


def save(cast: Cast, *items: NewBudget | BudgetEdit) -> list[Budget]:
    return save_budgets(tenant_id=cast.tenant.pk, items=items, actor=ACTOR, now=NOW)


def change(budget: Budget, **changes: Any) -> BudgetEdit:
    return BudgetEdit(budget_id=budget.pk, changes=BudgetChanges(**changes))


def version(cast: Cast) -> int:
    return PolicySnapshot.objects.get(pk=cast.tenant.pk).version


class TestSaveBudgets:
    def test_makes_and_changes_in_the_order_of_the_items_under_one_version(self, cast: Cast) -> None:
        known, same = create(cast), create(cast)
        before = version(cast)
        saved = save(cast, new(subject="a"), change(known, limit="25"), change(same, limit="10"), new())
        assert [b.subject for b in saved] == ["a", "*", "*", "*"]
        assert [b.version for b in saved] == [1, 2, 1, 1]
        assert Budget.objects.get(pk=known.pk).limit == 25 * NANO
        assert version(cast) == before + 1
        snapshot = policies.decode(bytes(PolicySnapshot.objects.get(pk=cast.tenant.pk).body))
        assert {b.budget_id for b in snapshot.budgets} == {b.pk for b in [*saved, same]}
        told = AuditEntry.objects.filter(tenant=cast.tenant, action__startswith="budget.")
        assert sorted(e.action for e in told) == ["budget.create"] * 4 + ["budget.edit"]

    def test_takes_a_thousand_and_not_one_more(self, cast: Cast) -> None:
        before = version(cast)
        made = save(cast, *(new(subject=f"c{n}") for n in range(1_000)))
        assert version(cast) == before + 1
        assert Budget.objects.filter(tenant=cast.tenant).count() == len(made) == 1_000
        with pytest.raises(InvalidBudget, match=r"items\[0\].budget: a tenant has at most 1000"):
            save(cast, new())
        with pytest.raises(InvalidBudget, match="items: must be 1 to 1000, not 1001"):
            save(cast, *(change(made[0]) for _ in range(1_001)))
        with pytest.raises(InvalidBudget, match="items: must be 1 to 1000, not 0"):
            save(cast)

    def test_names_every_error_by_item_and_does_nothing(self, cast: Cast) -> None:
        known, theirs = create(cast), ids.new_uuid(NOW)
        before = version(cast)
        with pytest.raises(InvalidBudget) as refused:
            save(
                cast,
                new(),
                new(limit="-1", window="decade"),
                change(known, limit="x"),
                change(known, limit="1"),
                BudgetEdit(budget_id=theirs, changes=BudgetChanges()),
                new(scope="project", subject="elsewhere"),
            )
        assert [e.field for e in refused.value.errors] == [
            "items[1].window",
            "items[1].limit_usd",
            "items[2].limit_usd",
            "items[3].id",
            "items[4].id",
            "items[5].subject",
        ]
        assert version(cast) == before
        assert Budget.objects.filter(tenant=cast.tenant).count() == 1

    def test_counts_its_own_new_ones_towards_the_most_that_a_tenant_may_have(self, cast: Cast) -> None:
        save(cast, *(new(subject=f"c{n}") for n in range(999)))
        with pytest.raises(InvalidBudget) as refused:
            save(cast, new(), new())
        assert [e.field for e in refused.value.errors] == ["items[1].budget"]

    def test_finds_no_archived_budget_and_none_of_another_tenant(self, cast: Cast) -> None:
        archived = create(cast)
        archive_budget(tenant_id=cast.tenant.pk, budget_id=archived.pk, actor=ACTOR, now=NOW)
        theirs = create_budget(tenant_id=cast.charlie.tenant.pk, budget=new(), actor=ACTOR, now=NOW)
        with pytest.raises(InvalidBudget) as refused:
            save(cast, change(archived, limit="1"), change(theirs, limit="1"))
        assert {(e.field, e.message) for e in refused.value.errors} == {
            ("items[0].id", "is not a live budget of the tenant"),
            ("items[1].id", "is not a live budget of the tenant"),
        }
        with pytest.raises(TenantNotFound):
            save_budgets(tenant_id=ids.new_uuid(NOW), items=[new()], actor=ACTOR, now=NOW)


class TestSetOverrides:
    def set(self, budget: Budget, *items: NewOverride) -> list[BudgetOverride]:
        return set_overrides(
            tenant_id=budget.tenant_id, budget_id=budget.pk, items=items, actor=ACTOR, now=NOW
        )

    def test_raises_the_budgets_version_once(self, cast: Cast) -> None:
        budget = create(cast)
        set_override(
            tenant_id=cast.tenant.pk, budget_id=budget.pk, subject="a", limit=1, actor=ACTOR, now=NOW
        )
        before = version(cast)
        items = [
            NewOverride(subject="a", limit=5),
            *(NewOverride(subject=f"s{n}", limit=n) for n in range(999)),
        ]
        made = self.set(budget, *items)
        assert [o.subject for o in made[:3]] == ["a", "s0", "s1"]
        assert (made[0].limit, made[0].version) == (5 * NANO, 2)
        assert Budget.objects.get(pk=budget.pk).version == 3
        assert version(cast) == before + 1
        self.set(budget, *items)
        assert version(cast) == before + 1

    def test_names_every_error_by_item_and_does_nothing(self, cast: Cast) -> None:
        budget = create(cast)
        with pytest.raises(InvalidBudget) as refused:
            self.set(
                budget,
                NewOverride(subject="a", limit=1),
                NewOverride(subject="a", limit="x"),
                NewOverride(subject="*", limit=1),
            )
        assert [e.field for e in refused.value.errors] == [
            "items[1].limit_usd",
            "items[1].subject",
            "items[2].subject",
        ]
        assert not BudgetOverride.objects.filter(budget_id=budget.pk).exists()

    @pytest.mark.parametrize("fields", [{"subject": "acme"}, {"scope": "tenant"}, {"window": "minute"}])
    def test_are_refused_where_all_have_one_limit(self, cast: Cast, fields: dict[str, Any]) -> None:
        with pytest.raises(InvalidBudget) as refused:
            self.set(create(cast, **fields), NewOverride(subject="acme", limit=1))
        assert "budget" in [e.field for e in refused.value.errors]


class TestOnePublication:
    def test_publishes_many_changes_once_when_all_are_made(self, cast: Cast) -> None:
        before = version(cast)
        with one_publication(tenant_id=cast.tenant.pk, now=NOW):
            budget = create(cast)
            with one_publication(tenant_id=cast.tenant.pk, now=NOW):
                edit_budget(
                    tenant_id=cast.tenant.pk,
                    budget_id=budget.pk,
                    changes=BudgetChanges(limit="1"),
                    actor=ACTOR,
                    now=NOW,
                )
            assert version(cast) == before
            create_budget(tenant_id=cast.charlie.tenant.pk, budget=new(), actor=ACTOR, now=NOW)
        assert version(cast) == before + 1
        snapshot = policies.decode(bytes(PolicySnapshot.objects.get(pk=cast.tenant.pk).body))
        assert [(b.version, b.limit) for b in snapshot.budgets] == [(2, NANO)]

    def test_publishes_nothing_without_a_change(self, cast: Cast) -> None:
        before = version(cast)
        with one_publication(tenant_id=cast.tenant.pk, now=NOW):
            pass
        assert version(cast) == before

    def test_undoes_everything_and_gathers_no_more_after_a_failure(self, cast: Cast) -> None:
        before = version(cast)

        def fail() -> None:
            with one_publication(tenant_id=cast.tenant.pk, now=NOW):
                create(cast)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert version(cast) == before
        assert not Budget.objects.filter(tenant=cast.tenant).exists()
        create(cast)
        assert version(cast) == before + 1
