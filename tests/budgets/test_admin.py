"""The operators' pages of the money path: figures beside their sources, bounded, and one that changes money."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from budgets.queries.bounded import TookTooLong, limited, rows
from budgets.services import inspection
from noburn.kit import ids
from tenants.models import AuditEntry, Tenant
from tests.support.operators import money_pages, queries_by_page, staff, superuser
from tests.support.world import Account, World

pytestmark = pytest.mark.real_db


@pytest.fixture
def operator() -> Client:
    return superuser()


def slug(account: Account) -> str:
    return Tenant.objects.get(pk=account.tenant_id).slug


def text_of(client: Client, name: str, *args: object, **query: str) -> str:
    answer = client.get(reverse(f"money:{name}", args=args), query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def table_of(client: Client, name: str, **query: str) -> list[list[str]]:
    answer = client.get(reverse(f"money:{name}"), query)
    assert answer.status_code == 200
    return [[str(cell) for cell in row] for row in answer.context["table"]["rows"]]


def counter_id(account: Account, name: str) -> Any:
    return account.counter(name)["id"]


class TestPages:
    def test_are_open_to_operators_when_there_is_nothing(self, operator: Client, alice: Account) -> None:
        for url in money_pages():
            assert operator.get(url).status_code == 200, url
            assert operator.get(url, {"tenant": slug(alice)}).status_code == 200, url

    def test_say_what_is_wrong_with_a_filter(self, operator: Client) -> None:
        assert "There is no such tenant." in text_of(operator, "counters", tenant="nobody")
        assert "must be a budget" in text_of(operator, "counters", budget="bud_x")
        assert "Select a valid choice" in text_of(operator, "epochs", state="lost")
        assert "There is no such tenant." in text_of(operator, "ledger", tenant="nobody")
        assert "Enter a valid UUID" in text_of(operator, "ledger", tenant="nobody", counter="x")

    def test_bear_cursors_that_nobody_gave_out(self, operator: Client, alice: Account) -> None:
        assert text_of(operator, "counters", after_tenant="x", after_counter="y")
        for at in ("x", "2026-01-01", "2026-01-01T00:00:00+00:00"):
            assert text_of(operator, "ledger", tenant=slug(alice), at=at, hold=uuid4().hex, revision="1")

    def test_answer_that_there_is_nothing(self, operator: Client, alice: Account) -> None:
        nothing = [
            reverse("money:counter", args=[alice.tenant_id, uuid4()]),
            reverse("money:epoch", args=[uuid4()]),
            reverse("money:writeoff", args=[uuid4()]),
            reverse("money:hold", args=[alice.tenant_id, "2026-01", uuid4()]),
            reverse("money:hold", args=[alice.tenant_id, "2026-13", uuid4()]),
        ]
        assert [operator.get(url).status_code for url in nothing] == [404] * 5

    def test_stop_the_database_in_time(self, world: World) -> None:
        with pytest.raises(TookTooLong), limited(milliseconds=20):
            rows("SELECT pg_sleep(5)")

    def test_say_so_when_it_took_too_long(
        self, operator: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def slow(**_: object) -> None:
            with limited(milliseconds=20):
                rows("SELECT pg_sleep(5)")

        monkeypatch.setattr("budgets.admin.money.counters.counter_page", slow)
        answer = operator.get(reverse("money:counters"))
        assert answer.status_code == 503
        assert "no answer in 20 ms" in answer.content.decode()


class TestCounters:
    def test_stand_beside_what_the_ledger_says(self, operator: Client, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        alice.settle(alice.place("$0.40"), "$0.25")
        alice.place("$0.10")
        alice.acknowledged()
        (line,) = table_of(operator, "counters", tenant=slug(alice))
        name, subject, ends, limit, spent, ledger, authority, derived, stranded, held, verified = line
        assert "acme" in name
        assert (subject, ends, limit) == ("acme", "never", "1 USD")
        assert spent == ledger == "0.25 USD"
        assert authority == derived != "0 USD"
        assert (stranded, held) == ("none", "0.1 USD")
        assert "exact" in verified

    def test_have_a_page_with_their_last_entries(self, operator: Client, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        alice.settle(alice.place("$0.40"), "$0.25")
        page = text_of(operator, "counter", alice.tenant_id, counter_id(alice, "acme"))
        assert "0.25 USD" in page
        assert "settled" in page
        assert "exact" in page

    def test_show_drift_and_can_be_searched_for_it(
        self, operator: Client, alice: Account, world: World
    ) -> None:
        alice.budget("acme", "$1.00")
        alice.budget("other", "$1.00")
        alice.settle(alice.place("$0.40"), "$0.25")
        alice.settle(alice.place("$0.40", customer="other"), "$0.25")
        world.sql("UPDATE counters SET spent = spent + 7 WHERE counter_id = %s", counter_id(alice, "acme"))
        try:
            (line,) = table_of(operator, "counters", tenant=slug(alice), drift="only")
            assert (line[4], line[5]) == ("0.250000007 USD", "0.25 USD")
            assert "drift" in line[-1]
            assert len(table_of(operator, "counters", tenant=slug(alice))) == 2
        finally:
            world.sql(
                "UPDATE counters SET spent = spent - 7 WHERE counter_id = %s", counter_id(alice, "acme")
            )

    def test_show_a_grant_that_drifted(self, operator: Client, alice: Account, world: World) -> None:
        alice.budget("acme", "$1.00")
        alice.settle(alice.place("$0.40"), "$0.25")
        change = "UPDATE grants SET authority = authority + %s WHERE tenant_id = %s"
        world.sql(change, 5, alice.tenant_id)
        try:
            (line,) = table_of(operator, "counters", tenant=slug(alice))
            assert "drift" in line[-1]
        finally:
            world.sql(change, -5, alice.tenant_id)

    def test_do_not_call_unchecked_exact(
        self, operator: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice.budget("acme", "$1.00")
        alice.settle(alice.place("$0.40"), "$0.25")

        def slow(**_: object) -> dict[object, int]:
            rows("SELECT pg_sleep(5)")
            return {}

        monkeypatch.setattr("budgets.queries.counters.posted", slow)
        monkeypatch.setattr(inspection, "VERIFY_MS", 20)
        page = text_of(operator, "counters", tenant=slug(alice))
        assert "not checked" in page
        assert "too long to add up" in page
        assert "exact" not in page

    def test_show_nothing_of_a_redis_that_is_away(
        self, operator: Client, alice: Account, settings: Any
    ) -> None:
        alice.budget("acme", "$1.00")
        alice.place("$0.40")
        settings.REDIS_URL = "unix:///nowhere.sock"
        (line,) = table_of(operator, "counters", tenant=slug(alice))
        assert line[9] == "not there"

    def test_come_in_pages(self, operator: Client, alice: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        alice.budget("each", "$1.00", subject="*")
        for number in range(5):
            alice.place("$0.10", customer=f"c{number}")
        monkeypatch.setattr("budgets.admin.money.counters.PAGE_ROWS", 2)
        url, seen = reverse("money:counters") + f"?tenant={slug(alice)}", []
        for _ in range(4):
            page = operator.get(url)
            seen += [row[1] for row in page.context["table"]["rows"]]
            if not page.context["next_url"]:
                break
            url = reverse("money:counters") + page.context["next_url"]
        assert sorted(seen) == [f"c{number}" for number in range(5)]

    def test_are_found_by_budget_and_subject(self, operator: Client, alice: Account) -> None:
        alice.budget("each", "$1.00", subject="*")
        for number in range(3):
            alice.place("$0.10", customer=f"c{number}")
        budget = ids.encode(ids.BUDGET, alice.budgets["each"].pk)
        assert len(table_of(operator, "counters", budget=budget)) == 3
        (line,) = table_of(operator, "counters", tenant=slug(alice), subject="c1")
        assert line[1] == "c1"

    def test_cost_as_many_queries_however_many_there_are(self, operator: Client, alice: Account) -> None:
        alice.budget("each", "$10.00", subject="*")
        alice.place("$0.10", customer="c0")
        url = reverse("money:counters") + f"?tenant={slug(alice)}"
        operator.get(url)
        with CaptureQueriesContext(connection) as one:
            assert len(operator.get(url).context["table"]["rows"]) == 1
        for number in range(1, 30):
            alice.place("$0.10", customer=f"c{number}")
        with CaptureQueriesContext(connection) as thirty:
            assert len(operator.get(url).context["table"]["rows"]) == 30
        assert len(one) == len(thirty)


class TestLedger:
    def test_is_one_tenants_alone(self, operator: Client, alice: Account, world: World) -> None:
        charlie = world.account("charlie")
        for account in (alice, charlie):
            account.budget("acme", "$1.00")
            account.settle(account.place("$0.40"), "$0.25")
        assert "Name a tenant" in text_of(operator, "ledger")
        for name in ("ledger", "resolutions"):
            (line,) = table_of(operator, name, tenant=slug(alice))
            assert "settled" in line

    def test_is_filtered_and_paged(
        self, operator: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice.budget("acme", "$9.00")
        for number in range(5):
            alice.settle(alice.place("$0.40"), f"$0.0{number + 1}")
        alice.void(alice.place("$0.40"))
        monkeypatch.setattr("budgets.admin.money.ledger.PAGE_ROWS", 2)
        for name in ("ledger", "resolutions"):
            url, costs = reverse(f"money:{name}") + f"?tenant={slug(alice)}&kind=settled", []
            while url:
                page = operator.get(url)
                costs += [row[6] for row in page.context["table"]["rows"]]
                url = page.context["next_url"] and reverse(f"money:{name}") + page.context["next_url"]
            assert sorted(costs) == [f"0.0{number + 1} USD" for number in range(5)], name
            assert table_of(operator, name, tenant=slug(alice), until="2020-01-01") == []
            assert len(table_of(operator, name, tenant=slug(alice), since="2020-01-01")) == 2

    def test_tells_a_holds_whole_life(self, operator: Client, alice: Account) -> None:
        alice.budget("acme", "$1.00")
        placed = alice.place("$0.40")
        alice.settle(placed)
        alice.settle(placed, "$0.25")
        hold = alice.hold_of(placed)
        month = datetime.fromtimestamp(hold.placed_ms / 1000, UTC).strftime("%Y-%m")
        page = text_of(operator, "hold", alice.tenant_id, month, hold.body.hold_id)
        assert "presumed" in page
        assert "settled" in page
        assert "0.25 USD" in page
        other = reverse("money:hold", args=[uuid4(), month, hold.body.hold_id])
        assert operator.get(other).status_code == 404


class TestVerify:
    def test_recomputes_a_tenant_when_it_is_asked(
        self, operator: Client, alice: Account, world: World
    ) -> None:
        alice.budget("acme", "$1.00")
        alice.settle(alice.place("$0.40"), "$0.25")
        alice.acknowledged()
        url = reverse("money:verify")
        assert operator.get(url, {"tenant": slug(alice)}).context["found"] is None
        assert "0 differences" in operator.post(url, {"tenant": slug(alice)}).content.decode()
        world.sql("UPDATE counters SET spent = spent + 7 WHERE tenant_id = %s", alice.tenant_id)
        try:
            page = operator.post(url, {"tenant": slug(alice)}).content.decode()
            assert "1 differences" in page
            assert "250,000,007" in page
        finally:
            world.sql("UPDATE counters SET spent = spent - 7 WHERE tenant_id = %s", alice.tenant_id)

    def test_gives_up_in_time(
        self, operator: Client, alice: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("budgets.admin.money.verify.SECONDS_MAX", 0)
        page = operator.post(reverse("money:verify"), {"tenant": slug(alice)}).content.decode()
        assert "manage.py verify --tenant" in page


class TestWriteoff:
    def stranded(self, world: World, alice: Account) -> Any:
        """An epoch whose Redis was lost so long ago that its holds can no longer be settled."""
        alice.budget("acme", "$1.00")
        alice.place("$0.40")
        epoch = alice.epoch().epoch_id
        world.lose_redis()
        world.recover()
        world.sql("UPDATE epochs SET valid_until = now() - interval '1 hour' WHERE epoch_id = %s", epoch)
        return epoch

    def test_is_shown_with_the_epoch(self, operator: Client, world: World, alice: Account) -> None:
        epoch = self.stranded(world, alice)
        page = text_of(operator, "epoch", epoch)
        assert slug(alice) in page
        assert "Write off all of these" in page
        assert any("USD" in row[-1] for row in table_of(operator, "epochs", state="closed"))
        assert "Stranded" in operator.get(reverse("admin:index")).content.decode()

    def test_needs_a_reason_and_leaves_names(self, operator: Client, world: World, alice: Account) -> None:
        epoch = self.stranded(world, alice)
        url, counter = reverse("money:writeoff", args=[epoch]), counter_id(alice, "acme")
        assert slug(alice) in operator.get(url, {"counter": str(counter)}).content.decode()
        operator.post(url, {"counter": str(counter), "reason": " "})
        (before,) = alice.stranded()
        assert before["authority"] > 0
        done = operator.post(url, {"counter": str(counter), "reason": "the server is gone"}, follow=True)
        assert "Wrote off" in done.content.decode()
        assert alice.stranded() == []
        (entry,) = [entry for entry in alice.ledger() if entry["kind"] == "written_off"]
        logged = LogEntry.objects.get(object_id=str(alice.budgets["acme"].pk))
        assert entry["note"] == f"operator:{logged.user_id}: the server is gone"
        audited = AuditEntry.objects.get(tenant=alice.tenant_id, action="counter.write_off")
        assert audited.before is not None
        assert (audited.actor, audited.before["stranded"]) == (
            f"operator:{logged.user_id}",
            before["authority"],
        )
        again = operator.post(url, {"counter": str(counter), "reason": "again"}, follow=True)
        assert "Nothing of this is stranded" in again.content.decode()

    def test_reaches_redis_by_the_next_sweep(self, operator: Client, world: World, alice: Account) -> None:
        epoch = self.stranded(world, alice)
        alice.place("$0.10")
        operator.post(reverse("money:writeoff", args=[epoch]), {"reason": "the server is gone"})
        # The sweep sends what nobody has acknowledged for a while.
        world.sql(
            "UPDATE grants SET sent_at = now() - interval '1 minute' WHERE tenant_id = %s", alice.tenant_id
        )
        world.sweep()
        assert alice.place("$0.85")["decision"] == "allow"
        assert alice.verify().differences == ()

    def test_is_refused_while_holds_may_still_be_settled(
        self, operator: Client, world: World, alice: Account
    ) -> None:
        epoch = self.stranded(world, alice)
        world.sql("UPDATE epochs SET valid_until = now() WHERE epoch_id = %s", epoch)
        page = operator.post(reverse("money:writeoff", args=[epoch]), {"reason": "too soon"}).content.decode()
        assert "may still be settled until" in page
        assert alice.stranded()
        assert not AuditEntry.objects.filter(tenant=alice.tenant_id, action="counter.write_off").exists()

    def test_is_for_superusers_alone(self, world: World, alice: Account) -> None:
        epoch = self.stranded(world, alice)
        reader = staff("budgets.view_budget", "budgets.change_budget")
        url = reverse("money:writeoff", args=[epoch])
        assert reader.get(url).status_code == 403
        assert reader.post(url, {"reason": "mine"}).status_code == 403
        assert "Write off all" not in text_of(reader, "epoch", epoch)
        assert alice.stranded()


class TestTables:
    def test_are_listed_in_as_many_queries_however_many_rows(self, operator: Client, alice: Account) -> None:
        for number in range(30):
            alice.budget(f"b{number}", "$1.00", subject="*")
            alice.override(f"b{number}", "acme", "$2.00")
        compared = queries_by_page(operator, "budgets")
        assert {"admin:budgets_budget", "admin:budgets_budgetoverride", "admin:budgets_pricerow"} <= set(
            compared
        )
        assert {name: found for name, found in compared.items() if len(set(found)) > 1} == {}

    def test_show_limits_in_their_own_unit(self, operator: Client, alice: Account) -> None:
        alice.budget("money", "$1.50")
        alice.budget("calls", 1500, metric="requests")
        page = operator.get(reverse("admin:budgets_budget_changelist"), {"q": slug(alice)}).content.decode()
        assert "1.5 USD" in page
        assert "1,500 requests" in page

    def test_show_prices_by_date(self, operator: Client, world: World) -> None:
        url = reverse("admin:budgets_pricerow_changelist")
        assert "gpt-4o-mini" in operator.get(url, {"q": "gpt-4o-mini", "in_force": "now"}).content.decode()
        for when in ("past", "future"):
            assert operator.get(url, {"in_force": when}).status_code == 200
        day = date(2026, 1, 1).isoformat()
        assert operator.get(url, {"effective_from_from_0": day}).status_code == 200
