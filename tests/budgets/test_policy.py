from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from budgets.domain import policy as policies
from budgets.domain.policy import Policy
from budgets.models import Budget, PolicySnapshot
from budgets.services.budgets import (
    BudgetChanges,
    NewBudget,
    archive_budget,
    create_budget,
    edit_budget,
)
from budgets.services.overrides import set_override
from budgets.services.policy import compile_policy, policy_published, publish
from noburn.kit import ids
from tenants.domain import api_keys
from tenants.services.customers import ensure_customer, resume_customer, suspend_customer
from tenants.services.keys import issue_key, revoke_key, rotate_key
from tenants.services.projects import create_project
from tenants.services.tenants import TenantNotFound
from tests.tenants.cast import ACTOR, NOW, Cast, make_cast

pytestmark = pytest.mark.real_db


@pytest.fixture
def cast(real_database: None) -> Cast:
    return make_cast()


@pytest.fixture
def published(cast: Cast) -> Iterator[list[tuple[UUID, int, bool]]]:
    heard: list[tuple[UUID, int, bool]] = []

    def hear(tenant_id: UUID, version: int, **_: Any) -> None:
        heard.append((tenant_id, version, connection.in_atomic_block))

    policy_published.connect(hear)
    yield heard
    policy_published.disconnect(hear)


def stored(cast: Cast) -> Policy:
    snapshot = PolicySnapshot.objects.get(pk=cast.tenant.pk)
    policy = policies.decode(bytes(snapshot.body))
    assert policy.version == snapshot.version
    return policy


def create(cast: Cast, **changes: Any) -> Budget:
    fields = {"scope": "customer", "window": "month", "limit": "10", **changes}
    return create_budget(tenant_id=cast.tenant.pk, budget=NewBudget(**fields), actor=ACTOR, now=NOW)


def issue(cast: Cast, *, project_id: UUID | None = None, expires_at: datetime | None = None) -> Any:
    return issue_key(
        tenant_id=cast.tenant.pk,
        name="k",
        scopes=["preflight", "settle"],
        project_id=project_id,
        expires_at=expires_at,
        actor=ACTOR,
        now=NOW,
    )


class TestPolicy:
    def test_exists_from_the_tenants_first_moment(self, cast: Cast) -> None:
        policy = stored(cast)
        assert policy.version == 1
        assert policy.tenant_id == cast.tenant.pk
        assert policy.projects == ("default",)
        assert (policy.suspended, policy.time_zone, policy.unknown_model) == (False, "UTC", "refuse")
        assert (policy.keys, policy.budgets, policy.suspended_customers) == ((), (), frozenset())

    def test_rises_by_one_with_every_change(self, cast: Cast) -> None:
        who: dict[str, Any] = {"tenant_id": cast.tenant.pk, "actor": ACTOR, "now": NOW}
        key = issue(cast).key
        ensure_customer(external_id="acme", **who)
        budget = create(cast)
        steps: list[Callable[[], object]] = [
            lambda: create_project(slug="web", name="Web", **who),
            lambda: rotate_key(key_id=key.pk, overlap=timedelta(hours=1), **who),
            lambda: revoke_key(key_id=key.pk, **who),
            lambda: suspend_customer(external_id="acme", **who),
            lambda: resume_customer(external_id="acme", **who),
            lambda: edit_budget(budget_id=budget.pk, changes=BudgetChanges(limit=1), **who),
            lambda: set_override(budget_id=budget.pk, subject="acme", limit=2, **who),
            lambda: archive_budget(budget_id=budget.pk, **who),
        ]
        before = stored(cast).version
        for number, step in enumerate(steps, start=1):
            step()
            assert stored(cast).version == before + number

    def test_shows_keys_as_the_gateway_looks_them_up(self, cast: Cast, settings: Any) -> None:
        ends_at = NOW + timedelta(days=1)
        ours, whole = issue(cast, project_id=cast.project.pk, expires_at=ends_at), issue(cast)
        by_id = {key.key_id: key for key in stored(cast).keys}
        found = by_id[ours.key.pk]
        assert found.digest == api_keys.digest(settings.NOBURN_PEPPER, ours.secret)
        assert found.project == "default"
        assert found.scopes == ("preflight", "settle")
        assert found.expires_at == ends_at
        assert by_id[whole.key.pk].project == ""

    def test_remembers_a_revoked_key_for_400_days(self, cast: Cast) -> None:
        key = issue(cast).key
        revoke_key(tenant_id=cast.tenant.pk, key_id=key.pk, actor=ACTOR, now=NOW)
        for days, kept in ((399, True), (401, False)):
            policy = compile_policy(tenant_id=cast.tenant.pk, version=1, now=NOW + timedelta(days=days))
            assert bool(policy.keys) is kept

    def test_names_suspended_customers(self, cast: Cast) -> None:
        who: dict[str, Any] = {"tenant_id": cast.tenant.pk, "external_id": "acme", "actor": ACTOR, "now": NOW}
        ensure_customer(**who)
        suspend_customer(**who)
        assert stored(cast).suspended_customers == {"acme"}

    def test_shows_a_budget_with_all_that_its_counters_need(self, cast: Cast) -> None:
        budget = create(
            cast, scope="tag", tag="feature", anchor_day=15, time_zone="Asia/Tokyo", on_expiry="release"
        )
        (rule,) = stored(cast).budgets
        assert rule == policies.BudgetRule(
            budget_id=budget.pk,
            version=1,
            scope=policies.Scope.TAG,
            subject="*",
            tag="feature",
            metric=policies.Metric.USD,
            window=policies.WindowKind.MONTH,
            anchor_day=15,
            limit=10_000_000_000,
            action=policies.Action.BLOCK,
            time_zone="Asia/Tokyo",
            release_on_expiry=True,
        )

    def test_does_not_grow_with_overrides(self, cast: Cast) -> None:
        budget = create(cast)
        before = len(policies.encode(stored(cast)))
        for number in range(5):
            set_override(
                tenant_id=cast.tenant.pk,
                budget_id=budget.pk,
                subject=f"c{number}",
                limit=1,
                actor=ACTOR,
                now=NOW,
            )
        assert len(policies.encode(stored(cast))) == before
        assert stored(cast).budgets[0].version == 6

    def test_forgets_archived_budgets(self, cast: Cast) -> None:
        budget = create(cast)
        archive_budget(tenant_id=cast.tenant.pk, budget_id=budget.pk, actor=ACTOR, now=NOW)
        assert stored(cast).budgets == ()

    def test_holds_nothing_of_another_tenant(self, cast: Cast) -> None:
        issue(cast)
        create(cast)
        theirs = compile_policy(tenant_id=cast.charlie.tenant.pk, version=1, now=NOW)
        assert (theirs.keys, theirs.budgets) == ((), ())


class TestPublish:
    def test_announces_after_the_commit(self, cast: Cast, published: list[Any]) -> None:
        with transaction.atomic():
            create(cast)
            assert published == []
        assert published == [(cast.tenant.pk, 2, False)]

    def test_announces_nothing_when_the_edit_is_undone(self, cast: Cast, published: list[Any]) -> None:
        with transaction.atomic():
            create(cast)
            transaction.set_rollback(True)
        assert published == []
        assert stored(cast).version == 1

    def test_keeps_the_edit_when_an_announcement_fails(
        self, cast: Cast, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(**_: Any) -> None:
            raise ConnectionError("Redis is away")

        policy_published.connect(fail)
        try:
            create(cast)
        finally:
            policy_published.disconnect(fail)
        assert len(stored(cast).budgets) == 1
        assert "Redis is away" in caplog.text

    def test_refuses_an_unknown_tenant(self) -> None:
        with pytest.raises(TenantNotFound):
            publish(tenant_id=ids.new_uuid(NOW), now=NOW)

    def test_loses_no_edit_when_many_are_made_at_once(self, cast: Cast) -> None:
        budgets = [create(cast, subject=f"c{number}") for number in range(4)]
        start = threading.Barrier(8, timeout=30)
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                start.wait()
                with transaction.atomic():
                    # Two budgets in opposite orders: the tenant's lock keeps this from being a deadlock.
                    for place in (number, number + 1 + number % 3):
                        edit_budget(
                            tenant_id=cast.tenant.pk,
                            budget_id=budgets[place % 4].pk,
                            changes=BudgetChanges(limit=100 + number),
                            actor=ACTOR,
                            now=NOW,
                        )
            except BaseException as failure:
                failures.append(failure)
            finally:
                connection.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        policy = stored(cast)
        in_database = dict(Budget.objects.filter(tenant=cast.tenant).values_list("pk", "limit"))
        assert {rule.budget_id: rule.limit for rule in policy.budgets} == in_database
        assert policy.version == 1 + 4 + sum(rule.version - 1 for rule in policy.budgets)
