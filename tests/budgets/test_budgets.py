from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from budgets.domain.budget_rules import parse_limit, show_limit
from budgets.models import Budget, BudgetOverride
from budgets.services.budgets import (
    BudgetChanges,
    BudgetNotFound,
    InvalidBudget,
    NewBudget,
    archive_budget,
    create_budget,
    edit_budget,
)
from budgets.services.overrides import OverrideNotFound, remove_override, set_override
from noburn.kit import ids
from noburn.kit.money import NANO, BadAmount
from tenants.models import AuditEntry
from tenants.services.keys import issue_key
from tests.tenants.cast import ACTOR, NOW, Cast, make_cast

pytestmark = pytest.mark.real_db


@pytest.fixture
def cast(real_database: None) -> Cast:
    return make_cast()


def create(cast: Cast, **changes: Any) -> Budget:
    fields = {"scope": "customer", "window": "month", "limit": "10", **changes}
    return create_budget(tenant_id=cast.tenant.pk, budget=NewBudget(**fields), actor=ACTOR, now=NOW)


def edit(cast: Cast, budget: Budget, **changes: Any) -> Budget:
    return edit_budget(
        tenant_id=cast.tenant.pk, budget_id=budget.pk, changes=BudgetChanges(**changes), actor=ACTOR, now=NOW
    )


def override(cast: Cast, budget: Budget, subject: str, limit: Any) -> BudgetOverride:
    return set_override(
        tenant_id=cast.tenant.pk, budget_id=budget.pk, subject=subject, limit=limit, actor=ACTOR, now=NOW
    )


class TestParseLimit:
    @pytest.mark.parametrize(
        ("metric", "limit", "amount"),
        [
            ("usd", "10", 10 * NANO),
            ("usd", 10, 10 * NANO),
            ("usd", Decimal("0.000000001"), 1),
            ("usd", Decimal("1E+2"), 100 * NANO),
            ("usd", Decimal("10.000000000000"), 10 * NANO),
            ("usd", Decimal("-0"), 0),
            ("usd", "9000000", 9_000_000 * NANO),
            ("tokens", "100000", 100_000),
            ("tokens", 2**53, 2**53),
            ("requests", Decimal("4.0"), 4),
            ("requests", 0, 0),
        ],
    )
    def test_reads_what_a_person_means(self, metric: str, limit: Any, amount: int) -> None:
        assert parse_limit(metric, limit) == amount

    @pytest.mark.parametrize(
        ("metric", "limit"),
        [
            ("usd", "9000000.000000001"),
            ("usd", "-1"),
            ("usd", "1e3"),
            ("usd", "0.0000000001"),
            ("usd", ""),
            ("usd", "ten"),
            ("usd", "٣"),
            ("usd", 1.5),
            ("usd", True),
            ("usd", None),
            ("usd", Decimal("NaN")),
            ("usd", Decimal("Infinity")),
            ("usd", Decimal("1E+1000000")),
            ("usd", Decimal("1E-1000000")),
            ("tokens", "1.5"),
            ("tokens", Decimal("0.5")),
            ("tokens", -1),
            ("requests", 2**53 + 1),
            ("requests", "9" * 5000),
        ],
    )
    def test_refuses_the_rest_by_its_wire_name(self, metric: str, limit: Any) -> None:
        with pytest.raises(BadAmount) as refused:
            parse_limit(metric, limit)
        assert refused.value.field == f"limit_{metric}"

    @given(st.integers(0, 9_000_000 * NANO))
    def test_undoes_show_limit(self, amount: int) -> None:
        assert parse_limit("usd", show_limit("usd", amount)) == amount


class TestCreateBudget:
    def test_makes_a_template_for_each_customer(self, cast: Cast) -> None:
        budget = create(cast)
        assert (budget.scope, budget.subject, budget.limit, budget.version) == ("customer", "*", 10 * NANO, 1)
        assert (budget.action, budget.estimate, budget.on_expiry, budget.on_epoch_close) == (
            "block",
            "ceiling",
            "presume",
            "strict",
        )
        assert budget.thresholds == [50, 80, 100]
        assert budget.effective_at == NOW
        assert budget.name == "customer *: 10 USD per month"

    @pytest.mark.parametrize(
        ("fields", "subject", "tag"),
        [
            ({"scope": "tenant"}, "*", None),
            ({"scope": "project", "subject": "default"}, "default", None),
            ({"scope": "user", "subject": "u:1"}, "u:1", None),
            ({"scope": "run", "window": "run"}, "*", None),
            ({"scope": "plan", "subject": "free"}, "free", None),
            ({"scope": "provider", "subject": "openai"}, "openai", None),
            ({"scope": "model", "subject": "gpt-4o-mini"}, "gpt-4o-mini", None),
            ({"scope": "tag", "tag": "feature"}, "*", "feature"),
            ({"scope": "tag", "subject": "feature=chat"}, "feature=chat", "feature"),
            ({"scope": "tag", "subject": "feature=a=b", "tag": "feature"}, "feature=a=b", "feature"),
            ({"window": "quarter", "anchor_day": 31, "time_zone": "Asia/Tokyo"}, "*", None),
            ({"window": "minute", "metric": "requests"}, "*", None),
        ],
    )
    def test_takes_every_scope(self, cast: Cast, fields: Any, subject: str, tag: str | None) -> None:
        budget = create(cast, **fields)
        budget.refresh_from_db()
        assert (budget.subject, budget.tag) == (subject, tag)

    def test_takes_an_api_key_of_the_tenant(self, cast: Cast) -> None:
        ours = issue_key(tenant_id=cast.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW).key
        theirs = issue_key(
            tenant_id=cast.charlie.tenant.pk, name="k", scopes=["read"], actor=ACTOR, now=NOW
        ).key
        assert create(cast, scope="api_key", subject=ids.encode("key", ours.pk)).scope == "api_key"
        for subject in (ids.encode("key", theirs.pk), str(ours.pk), "nonsense"):
            with pytest.raises(InvalidBudget, match="subject: must be the id"):
                create(cast, scope="api_key", subject=subject)

    def test_refuses_a_project_that_is_not_the_tenants(self, cast: Cast) -> None:
        with pytest.raises(InvalidBudget, match="subject: must be the slug of a project"):
            create(cast, scope="project", subject="elsewhere")

    def test_names_every_error_at_once(self, cast: Cast) -> None:
        with pytest.raises(InvalidBudget) as refused:
            create(
                cast,
                scope="galaxy",
                metric="usd",
                window="decade",
                limit="9000001",
                subject="",
                tag="t",
                name="\n",
                anchor_day=5,
                time_zone="Mars/Olympus",
                action="shout",
                estimate="guess",
                on_expiry="forget",
                on_epoch_close="forget",
                thresholds=(80, 50),
            )
        assert [error.field for error in refused.value.errors] == [
            "scope",
            "window",
            "action",
            "estimate",
            "on_expiry",
            "on_epoch_close",
            "tag",
            "anchor_day",
            "thresholds",
            "name",
            "time_zone",
            "limit_usd",
        ]

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"scope": "tenant", "subject": "acme"}, "subject"),
            ({"scope": "tag"}, "tag"),
            ({"scope": "tag", "subject": "chat"}, "subject"),
            ({"scope": "tag", "subject": "feature=*"}, "subject"),
            ({"scope": "tag", "subject": "feature="}, "subject"),
            ({"scope": "tag", "subject": "feature=x", "tag": "other"}, "tag"),
            ({"scope": "customer", "tag": "feature"}, "tag"),
            ({"subject": "x" * 201}, "subject"),
            ({"subject": "a\x00b"}, "subject"),
            ({"window": "run"}, "window"),
            ({"window": "day", "anchor_day": 5}, "anchor_day"),
            ({"anchor_day": 0}, "anchor_day"),
            ({"anchor_day": 32}, "anchor_day"),
            ({"thresholds": (0,)}, "thresholds"),
            ({"thresholds": tuple(range(1, 12))}, "thresholds"),
            ({"limit": "9000001"}, "limit_usd"),
            ({"metric": "tokens", "limit": "0.5"}, "limit_tokens"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, cast: Cast, fields: Any, field: str) -> None:
        with pytest.raises(InvalidBudget) as refused:
            create(cast, **fields)
        assert [error.field for error in refused.value.errors] == [field]

    def test_says_how_large_a_limit_may_be(self, cast: Cast) -> None:
        with pytest.raises(InvalidBudget, match="limit_usd: must be at most 9000000 USD"):
            create(cast, limit=Decimal("9000000.01"))


class TestEditBudget:
    def test_raises_the_version_and_tells_what_changed(self, cast: Cast) -> None:
        budget = create(cast)
        edited = edit(cast, budget, limit=Decimal("2.5"), action="warn", name="Renamed")
        edited.refresh_from_db()
        assert (edited.version, edited.limit, edited.action) == (2, 2_500_000_000, "warn")
        assert edited.effective_at == NOW
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="budget.edit")
        assert entry.before is not None
        assert entry.after is not None
        assert (entry.before["limit_usd"], entry.after["limit_usd"]) == ("10", "2.5")
        assert entry.object == ids.encode("bud", budget.pk)

    def test_does_nothing_without_a_difference(self, cast: Cast) -> None:
        budget = create(cast)
        assert edit(cast, budget, limit="10.00", thresholds=(50, 80, 100)).version == 1
        assert not AuditEntry.objects.filter(tenant=cast.tenant, action="budget.edit").exists()

    def test_names_every_error_and_changes_nothing(self, cast: Cast) -> None:
        budget = create(cast)
        with pytest.raises(InvalidBudget) as refused:
            edit(cast, budget, limit="-1", action="shout", name="", thresholds=(101,))
        assert [error.field for error in refused.value.errors] == [
            "action",
            "name",
            "thresholds",
            "limit_usd",
        ]
        assert Budget.objects.get(pk=budget.pk).version == 1

    def test_does_not_find_another_tenants_budget(self, cast: Cast) -> None:
        budget = create(cast)
        for tenant_id, budget_id in (
            (cast.charlie.tenant.pk, budget.pk),
            (cast.tenant.pk, ids.new_uuid(NOW)),
        ):
            with pytest.raises(BudgetNotFound):
                edit_budget(
                    tenant_id=tenant_id,
                    budget_id=budget_id,
                    changes=BudgetChanges(limit=1),
                    actor=ACTOR,
                    now=NOW,
                )


class TestOverrides:
    def test_give_one_subject_its_own_limit(self, cast: Cast) -> None:
        budget = create(cast)
        first = override(cast, budget, "acme", "50")
        second = override(cast, budget, "acme", 60)
        assert first.pk == second.pk
        stored = BudgetOverride.objects.get(budget_id=budget.pk)
        assert (stored.limit, stored.version) == (60 * NANO, 2)
        assert Budget.objects.get(pk=budget.pk).version == 3

    def test_change_nothing_when_repeated(self, cast: Cast) -> None:
        budget = create(cast)
        override(cast, budget, "acme", "50")
        override(cast, budget, "acme", "50.0")
        assert Budget.objects.get(pk=budget.pk).version == 2

    def test_leave_when_removed(self, cast: Cast) -> None:
        budget = create(cast)
        override(cast, budget, "acme", "50")
        who: dict[str, Any] = {
            "tenant_id": cast.tenant.pk,
            "budget_id": budget.pk,
            "actor": ACTOR,
            "now": NOW,
        }
        remove_override(subject="acme", **who)
        assert Budget.objects.get(pk=budget.pk).version == 3
        with pytest.raises(OverrideNotFound):
            remove_override(subject="acme", **who)

    def test_name_a_tags_value_with_or_without_the_tag(self, cast: Cast) -> None:
        budget = create(cast, scope="tag", tag="feature")
        assert override(cast, budget, "feature=chat", 1).subject == "chat"
        assert override(cast, budget, "chat", 2).subject == "chat"
        assert BudgetOverride.objects.filter(budget_id=budget.pk).count() == 1

    def test_are_refused_where_there_is_one_subject(self, cast: Cast) -> None:
        for budget in (create(cast, scope="tenant"), create(cast, subject="acme")):
            with pytest.raises(InvalidBudget, match="budget: has one subject"):
                override(cast, budget, "acme", 1)

    def test_name_every_error_at_once(self, cast: Cast) -> None:
        with pytest.raises(InvalidBudget) as refused:
            override(cast, create(cast), "*", "ten")
        assert [error.field for error in refused.value.errors] == ["limit_usd", "subject"]

    def test_cannot_reach_another_tenants_budget(self, cast: Cast) -> None:
        budget = create(cast)
        with pytest.raises(BudgetNotFound):
            set_override(
                tenant_id=cast.charlie.tenant.pk,
                budget_id=budget.pk,
                subject="a",
                limit=1,
                actor=ACTOR,
                now=NOW,
            )
        with pytest.raises(IntegrityError, match="budget_same_tenant"), transaction.atomic():
            BudgetOverride.objects.create(
                tenant=cast.charlie.tenant, budget_id=budget.pk, subject="a", limit=1, updated_at=NOW
            )


class TestArchiveBudget:
    def test_ends_a_budget_for_good(self, cast: Cast) -> None:
        budget = create(cast)
        archived = archive_budget(tenant_id=cast.tenant.pk, budget_id=budget.pk, actor=ACTOR, now=NOW)
        assert archived.archived_at == NOW
        with pytest.raises(BudgetNotFound):
            edit(cast, budget, limit=1)


class TestConstraints:
    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"scope": "galaxy"}, "budgets_budget_scope"),
            ({"metric": "euro"}, "budgets_budget_metric"),
            ({"window": "decade"}, "budgets_budget_window"),
            ({"action": "shout"}, "budgets_budget_action"),
            ({"limit": -1}, "budgets_budget_limit"),
            ({"limit": 2**53 + 1}, "budgets_budget_limit"),
            ({"anchor_day": 32}, "budgets_budget_anchor_day"),
            ({"subject": ""}, "budgets_budget_subject"),
            ({"tag": "t"}, "budgets_budget_tag"),
            ({"window": "run"}, "budgets_budget_run_window"),
            ({"thresholds": list(range(11))}, "budgets_budget_thresholds"),
        ],
    )
    def test_hold_without_the_services(self, cast: Cast, changes: Any, name: str) -> None:
        budget = create(cast)
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            Budget.objects.filter(pk=budget.pk).update(**changes)
