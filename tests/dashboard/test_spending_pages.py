"""Pages of spending, budgets and customers, against what a gateway decided and the ledger holds."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from noburn.kit.clock import utc_now

if TYPE_CHECKING:
    from django.test import Client

    from tests.support.world import Account

pytestmark = pytest.mark.real_db


class Desk:
    """A tenant's dashboard as its owner sees it, and others as they do."""

    def __init__(self, account: Account) -> None:
        from tenants.models import Customer, Member, Tenant
        from tests.support.operators import signed_in

        self.account = account
        self.tenant = Tenant.objects.get(pk=account.tenant_id)
        owner = Member.objects.select_related("user").get(tenant=self.tenant)
        self.client: Client = signed_in(owner.user)
        self._customers = Customer.objects.filter(tenant=self.tenant)

    def as_role(self, role: str) -> Client:
        from tenants.models import Member, User
        from tests.support.operators import signed_in
        from tests.tenants.cast import unique

        user = User.objects.create_user(f"{unique(role)}@example.com", id=ids.new_uuid(utc_now()))
        Member.objects.create(tenant=self.tenant, user=user, role=role)
        return signed_in(user)

    def path(self, rest: str) -> str:
        return f"/t/{self.tenant.slug}/{rest}"

    def get(self, rest: str, *, client: Client | None = None, status: int = 200, part: str = "") -> str:
        """A page; of htmx, the part of it in the element of this id."""
        headers = {"HX-Request": "true", "HX-Target": part} if part else {}
        answer = (client or self.client).get(self.path(rest), headers=headers)
        assert answer.status_code == status, answer.content.decode()[:2_000]
        return str(answer.content.decode())

    def post(self, rest: str, data: dict[str, Any], *, status: int = 302) -> str:
        answer = self.client.post(self.path(rest), data)
        assert answer.status_code == status, answer.content.decode()[:3_000]
        return str(answer.content.decode())

    def budget(self, name: str) -> str:
        return ids.encode(ids.BUDGET, self.account.budgets[name].pk)

    def customer(self, name: str) -> str:
        return ids.encode(ids.CUSTOMER, self._customers.get(external_id=name).pk)

    def settled(self) -> None:
        """Lets the log of decisions be written and the ledger be rolled up."""
        from budgets.services import metering

        plane = self.account.world.app._plane
        self.account.world.run(plane.decisions.flush())
        self.account.world.run(plane.subjects._flush())
        metering.roll(now=utc_now())


@pytest.fixture
def empty(alice: Account) -> Desk:
    return Desk(alice)


@pytest.fixture
def desk(alice: Account) -> Desk:
    """Alice after some calls: acme spent 3 dollars, globex 1; poor was refused; a shadow would have refused acme."""
    from tenants.services.customers import ensure_customer

    alice.budget("each", "$4", subject="*", window="month")
    alice.budget("all", "$100", scope="tenant", window="month")
    alice.budget("poor", "$0.5")
    alice.budget("shadow", "$1", subject="acme", action="warn")
    for customer, amount in (("acme", "$3"), ("globex", "$1")):
        assert alice.settle(alice.place(amount, customer=customer), amount).status == 200
    assert alice.place("$0.75", customer="poor").decision == "budget_exceeded"
    made = Desk(alice)
    # A refused call makes no customer.
    ensure_customer(tenant_id=alice.tenant_id, external_id="poor", actor="test", now=utc_now())
    made.settled()
    return made


def words(html: str) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


class TestEmptyStates:
    @pytest.mark.parametrize(
        ("page", "says"),
        [
            ("overview", "Nothing is limited yet"),
            ("budgets", "Nothing is limited yet"),
            ("customers", "No customers yet"),
            ("usage", "Nothing was spent"),
            ("usage/ledger", "No entries"),
            ("usage/decisions", "No decisions"),
        ],
    )
    def test_say_what_to_do_next(self, empty: Desk, page: str, says: str) -> None:
        assert says in empty.get(page)
        assert "Make a budget" not in empty.get(page, client=empty.as_role("viewer"))


class TestOverview:
    def test_shows_spending_refusals_and_who_stands_how(self, desk: Desk) -> None:
        page = words(desk.get("overview"))
        for said in ("Spent today $4.00", "Refused today 1", "$0.75 not spent", "acme 1 $3.00", "of $100.00"):
            assert said in page, said
        assert page.index("acme") < page.index("globex")

    def test_every_number_leads_to_what_is_behind_it(self, desk: Desk) -> None:
        page = desk.get("overview")
        figures = re.findall(r'class="figure-value"><a href="([^"]+)"', page)
        assert len(figures) >= 5
        for url in figures:
            assert desk.client.get(url.replace("&amp;", "&")).status_code == 200, url

    def test_answers_htmx_with_the_slow_figures_alone(self, desk: Desk) -> None:
        part = desk.get("overview", part="slow-figures")
        assert part.strip().startswith('<div id="slow-figures"')
        assert "<html" not in part

    def test_is_the_tenants_own(self, desk: Desk) -> None:
        charlie = Desk(desk.account.world.account("charlie"))
        assert "acme" not in charlie.get("overview")


class TestFeed:
    def read(self, desk: Desk, after: str = "", *, polls: int = 1) -> str:
        from budgets.dashboard import feed

        async def some() -> str:
            wanted = ids.decode(ids.DECISION, after) if after else None
            events = feed.stream(desk.tenant, wanted)
            said = "".join([await anext(events) for _ in range(polls + 1)])
            await events.aclose()  # type: ignore[attr-defined]
            return said

        return str(desk.account.world.run(some()))

    def first(self, desk: Desk) -> str:
        found = re.search(r'data-feed="[^"]*after=(dec_\w+)"', desk.get("overview"))
        assert found is not None
        return found[1]

    def test_sends_what_was_decided_since(self, desk: Desk) -> None:
        newest = self.first(desk)
        assert "event:" not in self.read(desk, newest)
        desk.account.place("$0.25", customer="acme")
        desk.account.place("$0.90", customer="poor")
        desk.settled()
        said = self.read(desk, newest)
        assert said.count("event: decision") == 2
        assert said.index("for acme") < said.index("for poor")
        last = re.findall(r"id: (dec_\w+)", said)[-1]
        assert "event:" not in self.read(desk, last)

    def test_sends_nothing_of_another_tenants(self, desk: Desk) -> None:
        charlie = Desk(desk.account.world.account("charlie"))
        assert "event:" not in self.read(charlie, self.first(desk))
        assert "event:" not in self.read(charlie, ids.encode(ids.DECISION, ids.new_uuid(utc_now())))

    def test_is_bounded(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        from budgets.dashboard import feed

        monkeypatch.setattr(feed, "STREAMS_OF_TENANT_MAX", 0)
        answer = desk.client.get(desk.path("overview/feed"))
        assert answer.content == f"retry: {feed.BUSY_RETRY_MS}\n\n".encode()
        assert not feed._open
        assert desk.client.get(desk.path("overview/feed?after=nonsense")).status_code == 400


class TestUsage:
    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("by=day", "$4.00"),
            ("by=model", "own-tool"),
            ("by=customer", "acme 1"),
            ("by=customer&customer=acme", "$3.00"),
            ("by=project&days=7", "default"),
            ("by=api_key&days=90", "key_"),
            ("by=plan&days=1", "none named"),
        ],
    )
    def test_tells_spending_apart(self, desk: Desk, query: str, says: str) -> None:
        assert says in words(desk.get(f"usage?{query}"))

    def test_leads_down_to_the_entries_of_a_day(self, desk: Desk) -> None:
        page = desk.get("usage?by=day&customer=acme")
        (behind,) = re.findall(r'href="(/t/[^"]+/usage/ledger\?[^"]*from=[^"]+)"', page)
        entries = desk.client.get(behind.replace("&amp;", "&")).content.decode()
        assert ("acme" in entries, "globex" in entries) == (True, False)
        (hold,) = set(re.findall(r'href="(/t/[^"]+/usage/ledger/hold_\w+)"', entries))
        assert "$3.00" in words(desk.client.get(hold).content.decode())

    @pytest.mark.parametrize("form", ["csv", "json"])
    @pytest.mark.parametrize("by", ["day", "model", "customer"])
    def test_comes_as_a_file(self, desk: Desk, form: str, by: str) -> None:
        text = desk.get(f"usage?by={by}&format={form}")
        rows = list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)
        assert sum(float(row["cost_usd"]) for row in rows) == 4

    @pytest.mark.parametrize(
        ("page", "field"),
        [
            ("usage?by=colour", "by"),
            ("usage?days=2", "days"),
            ("usage?by=customer&cursor=x", "cursor"),
            ("usage/ledger?kind=spent", "kind"),
            ("usage/ledger?from=then", "from"),
            ("usage/decisions?reason=because", "reason"),
            ("usage/decisions?budget=cus_1", "budget"),
            ("usage?format=xml", "format"),
            ("customers?state=maybe", "state"),
            ("customers?search=%00", "search"),
            ("budgets?sort=colour", "sort"),
        ],
    )
    def test_names_a_bad_parameter(self, desk: Desk, page: str, field: str) -> None:
        assert re.search(rf"\b{field} \w", words(desk.get(page, status=400)))


class TestDecisions:
    def test_says_in_words_why_a_call_was_refused(self, desk: Desk) -> None:
        page = desk.get("usage/decisions?decision=deny")
        (decision,) = set(re.findall(r'href="(/t/[^"]+/usage/decisions/dec_\w+)"', page))
        said = words(desk.client.get(decision).content.decode())
        assert "could have cost up to $0.75" in said
        assert "allows $0.50 for poor in its window, of which $0.50 was free" in said

    def test_shows_what_a_budget_would_have_refused(self, desk: Desk) -> None:
        page = words(desk.get(f"usage/decisions?budget={desk.budget('shadow')}"))
        assert "would be refused" in page
        assert "poor" not in page

    def test_comes_as_a_file(self, desk: Desk) -> None:
        rows = list(csv.DictReader(io.StringIO(desk.get("usage/decisions?format=csv"))))
        assert sorted((row["decision"], row["customer"]) for row in rows) == [
            ("allow", "acme"),
            ("allow", "globex"),
            ("deny", "poor"),
        ]


class TestBudgets:
    def test_are_made_by_a_form_that_names_what_is_wrong(self, empty: Desk) -> None:
        wrong = {"scope": "customer", "metric": "usd", "window": "month", "limit": "ten", "action": "block"}
        page = empty.post("budgets/new", wrong, status=400)
        assert "Must be a decimal string in USD" in page.split('id="id_limit-errors"')[1][:300]
        empty.post("budgets/new", {**wrong, "limit": "10", "thresholds": "50, 90"})
        assert "customer *: 10 USD per month" in empty.get("budgets")

    def test_are_edited_and_the_history_says_by_whom(self, desk: Desk) -> None:
        form = {"limit": "5.5", "action": "warn", "name": "Everybody", "thresholds": "80"}
        desk.post(f"budgets/{desk.budget('each')}/edit", form)
        page = words(desk.get(f"budgets/{desk.budget('each')}"))
        assert "Everybody" in page
        assert "limit_usd: 4 5.5" in page
        assert "@example.com budget.edit" in page
        assert "History" not in words(
            desk.get(f"budgets/{desk.budget('each')}", client=desk.as_role("viewer"))
        )

    def test_show_each_subject_with_overrides_and_increases(self, desk: Desk) -> None:
        budget = f"budgets/{desk.budget('each')}"
        desk.post(f"{budget}/overrides/new", {"subject": "globex", "limit": "50"})
        desk.post(
            f"{budget}/increases/new", {"amount": "2", "subject": "acme", "windows": "1", "reason": "launch"}
        )
        page = words(desk.get(budget))
        assert "acme $3.00 of $6.00" in page
        assert "globex $1.00 of $50.00" in page
        assert "launch active" in page
        increase = re.findall(r"increases/(inc_\w+)/cancel", desk.get(budget))[0]
        override = re.findall(r"overrides/(ovr_\w+)/remove", desk.get(budget))[0]
        assert "End the increase of $2.00 now?" in desk.get(f"{budget}/increases/{increase}/cancel")
        desk.post(f"{budget}/increases/{increase}/cancel", {})
        assert "$4.00 instead of $50.00" in desk.get(f"{budget}/overrides/{override}/remove")
        desk.post(f"{budget}/overrides/{override}/remove", {})
        page = words(desk.get(budget))
        assert "acme $3.00 of $4.00" in page
        assert "globex $1.00 of $4.00" in page

    @pytest.mark.parametrize(
        ("form", "field"),
        [
            ({"amount": "0", "windows": "1", "reason": "x"}, "amount"),
            ({"amount": "1", "reason": ""}, "reason"),
        ],
    )
    def test_name_what_is_wrong_with_an_increase(self, desk: Desk, form: dict[str, str], field: str) -> None:
        page = desk.post(f"budgets/{desk.budget('each')}/increases/new", form, status=400)
        assert f'id="id_{field}-errors"' in page

    def test_say_what_they_would_have_refused(self, desk: Desk) -> None:
        assert "1 call , which could have cost $3.00" in words(desk.get(f"budgets/{desk.budget('shadow')}"))

    def test_are_changed_many_at_once_all_or_none(self, desk: Desk) -> None:
        chosen = [desk.budget("each"), desk.budget("poor")]
        desk.post("budgets", {"budget": chosen, "change": "percent", "value": "50%"})
        limits = {n: desk.account.budgets[n].pk for n in ("each", "poor")}
        from budgets.models import Budget

        assert {n: Budget.objects.get(pk=pk).limit for n, pk in limits.items()} == {
            "each": 6 * 10**9,
            "poor": 75 * 10**7,
        }
        for bad, said in (
            ({"budget": chosen, "change": "limit", "value": "x"}, "Value: Must be a decimal string"),
            ({"budget": chosen, "change": "percent", "value": "much"}, "Value: Must be a whole number"),
            ({"change": "limit", "value": "1"}, "Choose the budgets"),
            ({"budget": [*chosen, "bud_x"], "change": "limit", "value": "1"}, "Choose the budgets"),
        ):
            assert said in words(desk.post("budgets", bad, status=400)), bad
        assert Budget.objects.get(pk=limits["poor"]).limit == 75 * 10**7

    def test_are_archived_after_a_question(self, desk: Desk) -> None:
        path = f"budgets/{desk.budget('poor')}/archive"
        assert "refuses and counts nothing" in desk.get(path)
        desk.post(path, {})
        assert "No such budget" in desk.get("budgets?search=poor")
        assert "poor" in words(desk.get("budgets?archived=1"))
        desk.get(path, status=404)

    def test_go_to_a_spreadsheet_and_come_back(self, desk: Desk) -> None:
        table = desk.get("budgets?format=csv")
        assert "Nothing is changed yet" in desk.post("budgets/import", {"text": table}, status=200)
        wrong = table.replace(",100,", ",1e2,")
        page = words(desk.post("budgets/import", {"text": wrong}, status=400))
        assert "Nothing is changed." in page
        assert re.search(r"\d limit must be a decimal string", page)
        right = table.replace(",100,", ",120,")
        assert "1 change" in words(desk.post("budgets/import", {"text": right}, status=200))
        desk.post("budgets/import", {"text": right, "confirmed": "1"})
        assert "of $120.00" in words(desk.get("budgets"))
        assert "Choose a file" in desk.post("budgets/import", {"text": " "}, status=400)

    def test_take_a_file(self, empty: Desk) -> None:
        for content, status in ((b"scope,window,limit\nuser,day,1\n", 200), (b"\xff\xfe\x00", 400)):
            file = io.BytesIO(content)
            file.name = "budgets.csv"
            empty.post("budgets/import", {"file": file}, status=status)


class TestCustomers:
    def test_are_found_by_a_part_of_their_id(self, desk: Desk) -> None:
        page = words(desk.get("customers?search=CM"))
        assert "acme" in page
        assert "globex" not in page
        assert "Nobody by that name" in desk.get("customers?search=nobody")

    def test_answer_htmx_with_rows_alone(self, desk: Desk) -> None:
        part = desk.get("customers?search=acme", part="customer-rows")
        assert part.strip().startswith('<div id="customer-rows"')

    def test_come_as_a_file_with_their_month(self, desk: Desk) -> None:
        rows = {row["id"]: row for row in csv.DictReader(io.StringIO(desk.get("customers?format=csv")))}
        assert {name: row["month_cost_usd"] for name, row in rows.items()} == {
            "acme": "3",
            "globex": "1",
            "poor": "0",
        }

    def test_have_an_account(self, desk: Desk) -> None:
        page = words(desk.get(f"customers/{desk.customer('acme')}"))
        for said in ("Spent this month $3.00", "each", "$3.00 of $4.00", "no rate card", "shadow"):
            assert said in page, said
        refused = words(desk.get(f"customers/{desk.customer('poor')}"))
        assert "allows $0.50 for poor in its window" in refused

    def test_are_led_to_by_their_id(self, desk: Desk) -> None:
        answer = desk.client.get(desk.path("customers/named?id=acme"))
        assert answer["Location"] == desk.path(f"customers/{desk.customer('acme')}")
        unknown = desk.client.get(desk.path("customers/named?id=a%26b"))
        assert unknown["Location"] == desk.path("usage/decisions?customer=a%26b")
        desk.get("customers/named?id=%00", status=404)

    def test_have_their_limits_edited_in_place(self, desk: Desk) -> None:
        path = f"customers/{desk.customer('acme')}/budgets/{desk.budget('each')}"
        part = desk.get(path, part=f"limit-{desk.budget('each')}")
        assert part.strip().startswith("<form")
        assert 'value="4"' in part
        assert 'id="id_limit-errors"' in desk.post(path, {"limit": "-1"}, status=400)
        desk.post(path, {"limit": "9"})
        page = words(desk.get(f"customers/{desk.customer('acme')}"))
        assert "own limit" in page
        assert "$3.00 of $9.00" in page
        assert desk.account.place("$5", customer="acme").decision == "allow"
        desk.get(f"customers/{desk.customer('globex')}/budgets/{desk.budget('poor')}", status=404)

    def test_are_suspended_and_resumed_after_a_question(self, desk: Desk) -> None:
        path = f"customers/{desk.customer('acme')}"
        assert "Suspend acme?" in desk.get(f"{path}/suspend")
        desk.post(f"{path}/suspend", {})
        assert "suspended" in words(desk.get("customers?state=suspended"))
        assert desk.account.place("$0.1", customer="acme").decision == "customer_suspended"
        desk.post(f"{path}/resume", {})
        assert desk.account.place("$0.1", customer="acme").decision == "allow"

    def test_show_their_charge_margin_and_wallet(self, desk: Desk) -> None:
        from billing.domain.rate_card_reading import read_terms
        from billing.services.rate_cards import NewVersion, assign_card, create_rate_card
        from billing.services.wallets import NewGrant, create_wallet, grant_credit

        # Cards never begin in the past, and calls of this hour are there already.
        month = utc_now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        said: dict[str, Any] = {"tenant_id": desk.tenant.pk, "actor": "test", "now": month}
        terms = read_terms({"markup_percent": "20"})
        card, _ = create_rate_card(
            name="standard", version=NewVersion(terms=terms, effective_from=month), **said
        )
        assign_card(card_id=card.pk, customers=None, effective_from=month, **said)
        page = words(desk.get(f"customers/{desk.customer('acme')}"))
        assert "It owes for this month $3.60" in page
        assert "Margin this month $0.60 after $3.00" in page
        now = {**said, "now": utc_now()}
        wallet = create_wallet(customer="acme", **now)
        grant_credit(wallet_id=wallet.pk, grant=NewGrant(kind="paid", amount_nano=7 * 10**9), **now)
        assert "Balance $7.00" in words(desk.get(f"customers/{desk.customer('acme')}"))


class TestQueries:
    @pytest.mark.parametrize(
        "page", ["overview", "customers", "budgets", "usage?by=customer", "usage/decisions", "usage/ledger"]
    )
    def test_are_as_many_however_many_rows(self, desk: Desk, page: str) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        def asked() -> int:
            with CaptureQueriesContext(connection) as queries:
                desk.get(page)
            return len(queries)

        # The first request of a test finds out whether its connection is still good.
        asked()
        before = asked()
        for number in range(6):
            desk.account.budget(f"more-{number}", "$1")
            desk.account.settle(desk.account.place("$0.1", customer=f"more-{number}"), "$0.1")
        desk.settled()
        assert asked() == before
