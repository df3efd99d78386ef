"""Pages of guards, runs, re-ratings and presumed spending, against what a gateway decided."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from noburn.kit.clock import utc_now
from tests.dashboard.test_spending_pages import Desk, words

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

BIG = "gpt-4o"
RULE: dict[str, Any] = {"name": "all", "then": {"action": "allow"}}


@pytest.fixture
def desk(alice: Account) -> Desk:
    return Desk(alice)


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def call(desk: Desk, *, tokens: int = 1_000, **fields: Any) -> Any:
    """A pre-flight of a real model."""
    asked: dict[str, Any] = {
        "provider": "openai",
        "model": BIG,
        "input_tokens": tokens,
        "max_output_tokens": 100,
        **fields,
    }
    return desk.account.place(**asked)


class TestEmpty:
    @pytest.mark.parametrize(
        ("page", "says", "button"),
        [
            ("policies", "Every call uses the model that it asks for", "Begin with the example"),
            ("policies?archived=1", "None was archived", ""),
            ("guards", "Nothing is watched yet", "Make a guard"),
            ("runs", "No runs yet", ""),
            ("models/reratings", "Every call keeps the cost", "Re-rate calls"),
            ("billing/presumed", "No call of this time waits", ""),
            ("billing/presumed/approved", "Nothing was approved", ""),
        ],
    )
    def test_says_what_to_do_next(self, desk: Desk, page: str, says: str, button: str) -> None:
        said = desk.get(page)
        assert says in said
        assert button in said
        if button:
            assert button not in desk.get(page, client=desk.as_role("viewer"))


class TestParameters:
    @pytest.mark.parametrize(
        ("page", "field"),
        [
            ("guards?kind=x", "kind"),
            ("guards?search=%00", "search"),
            ("guards/new?kind=x", "kind"),
            ("runs?state=x", "state"),
            ("runs?search=%00", "search"),
            ("runs?level=2", "level"),
            ("runs?cursor=x", "cursor"),
            ("models/reratings?state=x", "state"),
            ("billing/presumed?from=then", "from"),
            ("billing/presumed?customer=%00", "customer"),
            ("billing/presumed/approve", "customer"),
            ("usage/decisions?guard=x", "guard"),
        ],
    )
    def test_are_named_when_they_are_bad(self, desk: Desk, page: str, field: str) -> None:
        assert re.search(rf"\b{field} \w", words(desk.get(page, status=400)))

    @pytest.mark.parametrize("page", ["runs/one", "runs/one?run=nobody", "runs/one/stop?run=nobody"])
    def test_name_what_is_there(self, desk: Desk, page: str) -> None:
        desk.get(page, status=404)


class TestGuards:
    def test_begin_with_what_is_recommended(self, desk: Desk) -> None:
        from budgets.dashboard.guard_forms import RECOMMENDED
        from tests.scenarios.replay import RECOMMENDED as REPLAYED

        assert {rule.kind: (rule.scope, dict(rule.limits)) for rule in REPLAYED} == {
            kind: (scope, dict(limits)) for kind, (scope, limits) in RECOMMENDED.items()
        }
        page = desk.get("guards/new?kind=newcomer")
        assert 'name="usd" value="2"' in re.sub(r' (id|maxlength|inputmode|aria-\w+)="[^"]*"', "", page)

    def test_are_made_changed_and_archived(self, desk: Desk) -> None:
        wrong = {"scope": "customer", "times": "0", "seconds": "x", "mode": "observe"}
        page = desk.post("guards/new?kind=repeat", wrong, status=400)
        assert 'id="id_seconds-errors"' in page
        page = desk.post("guards/new?kind=repeat", {**wrong, "seconds": "60"}, status=400)
        assert "Must be from 1 to 1000" in page.split('id="id_times-errors"')[1][:200]
        page = desk.post("guards/new?kind=velocity", {"scope": "api_key", "mode": "observe"}, status=400)
        assert "must name at least one of usd_per_minute" in page
        fast = {"scope": "api_key", "mode": "enforce", "times_usual": "2.5", "usual_floor_usd": "$0.50"}
        desk.post("guards/new?kind=velocity", {**fast, "name": "fast"})
        (row,) = csv_rows(desk.get("guards?format=csv"))
        assert (row["mode"], row["limits"]) == ("enforce", "times_usual 2.5; usual_floor_usd 0.5")
        path = f"guards/{row['id']}"
        assert "2.5 times the usual minute, from $0.50 a minute on" in words(desk.get(path))
        desk.post(f"{path}/edit", {"mode": "observe", "usd_per_minute": "12"})
        page = words(desk.get(path))
        assert "$12.00 a minute" in page
        assert "guard.edit" in page
        assert "stops nothing" in page
        assert "History" not in words(desk.get(path, client=desk.as_role("viewer")))
        assert "tells of nothing" in desk.get(f"{path}/archive")
        desk.post(f"{path}/archive", {})
        assert "Nothing is watched yet" in desk.get("guards")
        assert "fast" in words(desk.get("guards?archived=1"))
        desk.get(f"{path}/edit", status=404)
        assert "archived" in words(desk.get(path))

    def test_show_what_tripped_them_lately(self, desk: Desk) -> None:
        for mode, least in (("enforce", "50,000"), ("observe", "20,000")):
            form = {"scope": "tenant", "mode": mode, "input_tokens": least.replace(",", ""), "name": mode}
            desk.post("guards/new?kind=call", form)
        assert call(desk, tokens=90_000).decision == "call_too_large"
        assert call(desk, tokens=30_000).decision == "allow"
        desk.settled()
        page = desk.get("guards")
        lately = dict(re.findall(r'">(enforce|observe)</a></th>.*?class="numeric">(.*?)</td>', page, re.S))
        assert {name: words(said).strip() for name, said in lately.items()} == {
            "enforce": "1",
            "observe": "2",
        }
        wires = {row["name"]: row["id"] for row in csv_rows(desk.get("guards?format=csv"))}
        observing = words(desk.get(f"guards/{wires['observe']}"))
        assert "Calls stopped in 7 days 0" in observing
        assert "Calls that it only told of 2" in observing
        assert "Calls stopped in 7 days 1" in words(desk.get(f"guards/{wires['enforce']}"))
        log = desk.get(f"usage/decisions?guard={wires['enforce']}")
        assert "What this guard stopped" in words(log)
        (decision,) = set(re.findall(r'href="/t/[^/]+/(usage/decisions/dec_\w+)"', log))
        said = words(desk.get(decision))
        assert "The guard enforce stopped it." in said
        assert "Guards that only observe would have stopped it: observe" in said

    def test_are_found_and_filtered(self, desk: Desk) -> None:
        for name, subject in (("one", "acme"), ("two", "")):
            form = {"scope": "customer", "subject": subject, "mode": "observe", "times": "3", "seconds": "9"}
            desk.post("guards/new?kind=repeat", {**form, "name": name})
        part = desk.get("guards?search=ACM", part="guard-rows")
        assert part.strip().startswith('<div id="guard-rows"')
        assert ("one" in part, "two" in part) == (True, False)
        assert "No such guard" in desk.get("guards?mode=enforce")


class TestRuns:
    def start(self, desk: Desk, run: str, **fields: Any) -> None:
        answer = desk.account.world.run(desk.account.send("/v1/runs", {"run": run, **fields}))
        assert answer["decision"] == "allow", answer

    def place(self, desk: Desk, run: str, amount: str) -> Any:
        return desk.account.place(amount, subject={"customer": "acme", "run": run})

    @pytest.fixture
    def busy(self, desk: Desk) -> Desk:
        """A run with a slash in its name, one below it, a call in each, and one that was refused."""
        self.start(desk, "top/1", caps={"usd": "2", "steps": 9}, subject={"customer": "acme"})
        self.start(desk, "low", parent="top/1")
        self.start(desk, "other")
        for run, amount in (("top/1", "$0.75"), ("low", "$0.25")):
            assert desk.account.settle(self.place(desk, run, amount), amount).status == 200
        assert self.place(desk, "low", "$5").decision == "run_limit"
        desk.settled()
        return desk

    def test_are_found(self, busy: Desk) -> None:
        part = busy.get("runs?search=OP/&state=open", part="run-rows")
        assert "No such run" in part
        part = busy.get("runs?search=op/", part="run-rows")
        assert ("top/1" in part, "other" in part) == (True, False)
        assert {row["run"] for row in csv_rows(busy.get("runs?level=top&format=csv"))} == {"top/1", "other"}
        assert [row["run"] for row in json.loads(busy.get("runs?parent=top/1&format=json"))] == ["low"]
        assert busy.get("runs?limit=2").count("runs/one?run=") == 2

    def test_show_what_they_may_and_did(self, busy: Desk) -> None:
        page = words(busy.get("runs/one?run=top/1"))
        for said in ("Spent $1.00", "of $2.00", "Steps 2", "of 9", "Refused 1", "run&#x27;s limit", "low"):
            assert said in page, said
        (model,) = csv_rows(busy.get("runs/one?run=top/1&format=csv"))
        assert (model["calls"], model["cost_usd"]) == ("2", "1")
        below = busy.get("runs/one?run=low")
        assert "runs/one?run=top%2F1" in below
        assert "Stop it" not in busy.get("runs/one?run=top/1", client=busy.as_role("viewer"))
        for path in set(re.findall(r'href="(/t/[^"]*run=low[^"]*)"', below)):
            assert busy.client.get(path.replace("&amp;", "&")).status_code == 200, path

    def test_are_stopped_with_all_below_after_a_question(self, busy: Desk) -> None:
        ask = busy.get("runs/one/stop?run=top/1")
        assert "those of the 1 open run below it" in ask
        busy.post("runs/one/stop?run=top/1", {"reason": "went astray"})
        for run in ("top/1", "low"):
            assert self.place(busy, run, "$0.01").decision == "run_stopped", run
        assert self.place(busy, "other", "$0.01").decision == "allow"
        page = words(busy.get("runs/one?run=top/1"))
        assert "stopped went astray" in page
        assert "@example.com" in page
        assert "It is over already" in busy.get("runs/one/stop?run=top/1")
        busy.post("runs/one/stop?run=top/1", {"reason": "x" * 201}, status=400)

    def test_that_nobody_started_are_stopped_as_well(self, desk: Desk) -> None:
        assert self.place(desk, "ghost", "$0.01").decision == "allow"
        desk.settled()
        assert "nobody started it" in desk.get("runs/one?run=ghost")
        desk.post("runs/one/stop?run=ghost", {})
        assert self.place(desk, "ghost", "$0.01").decision == "run_stopped"
        charlie = Desk(desk.account.world.account("charlie"))
        charlie.get("runs/one?run=ghost", status=404)
        assert charlie.client.post(charlie.path("runs/one/stop?run=ghost"), {}).status_code == 404

    def test_say_that_a_stop_could_not_be_told(self, busy: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        from django.conf import settings

        monkeypatch.setattr(settings, "REDIS_URL", "redis://127.0.0.1:1/0")
        page = busy.post("runs/one/stop?run=top/1", {}, status=503)
        assert "stop it again in a moment" in page


class TestReratings:
    def test_are_previewed_and_applied(self, desk: Desk) -> None:
        from budgets.services import reratings
        from tests.budgets.rerating.desk import Desk as Prices

        prices = Prices(desk.account)
        prices.price("1")
        prices.call()
        prices.price("0.5")
        desk.settled()
        start = (utc_now() - timedelta(days=1)).astimezone().strftime("%Y-%m-%dT%H:%M")
        form = {"starts_at": start, "prices": "now", "reason": "entered late"}
        for wrong, field in (
            ({"reason": ""}, "reason"),
            ({"prices": "then"}, "prices_at"),
            ({"prices_at": start}, "prices_at"),
            ({"starts_at": "soon"}, "starts_at"),
            ({"ends_at": "2999-01-01T00:00"}, "ends_at"),
        ):
            page = desk.post("models/reratings/new", {**form, **wrong}, status=400)
            assert f'id="id_{field}-errors"' in page, field
        desk.post("models/reratings/new", form)
        (row,) = csv_rows(desk.get("models/reratings?format=csv"))
        path = f"models/reratings/{row['id']}"
        assert "Looking at the calls" in desk.get(path)
        assert desk.client.get(desk.path(f"{path}/apply")).status_code == 302
        assert "preview is still being made" in desk.post(f"{path}/apply", {}, status=409)
        wanted = ids.decode(ids.RERATING, row["id"])
        reratings.work(now=utc_now(), seconds=60, rerating_id=wanted)
        part = words(desk.get(path, part="rerating"))
        assert "Calls that change 1" in part
        assert "Apply exactly this" in part
        assert "Apply exactly this" not in desk.get(path, client=desk.as_role("billing"))
        (model,) = csv_rows(desk.get(f"{path}?format=csv&by=model"))
        assert (model["model"], model["difference_usd"]) == (prices.model, "-0.00075")
        (customer,) = json.loads(desk.get(f"{path}?format=json&by=customer"))
        assert customer["customer"] == "acme"
        assert "Their cost falls by $0.00075" in desk.get(f"{path}/apply")
        desk.post(f"{path}/apply", {})
        reratings.work(now=utc_now(), seconds=60, rerating_id=wanted)
        page = words(desk.get(path))
        assert "applied: -$0.00075" in page
        assert "Applied by" in page

    def test_say_what_changed_since_the_preview(self, desk: Desk) -> None:
        from tests.budgets.rerating.desk import Desk as Prices

        prices = Prices(desk.account)
        prices.price("1")
        prices.call()
        prices.price("0.5")
        desk.settled()
        row = prices.preview()
        prices.price("0.4")
        path = f"models/reratings/{ids.encode(ids.RERATING, row.pk)}/apply"
        assert "a negotiated price was added or ended" in desk.post(path, {}, status=409)


class TestPresumed:
    def test_is_billed_by_the_call_or_by_a_customers_time(self, desk: Desk) -> None:
        for customer in ("acme", "acme", "acme", "globex"):
            placed = desk.account.place("$0.50", customer=customer)
            assert desk.account.settle(placed).status == 200
        desk.settled()
        page = desk.get("billing/presumed")
        assert page.count("hold_") >= 8
        assert len(csv_rows(desk.get("billing/presumed?format=csv"))) == 4
        first = re.findall(r'presumed/approve\?hold=(hold_\w+)"', page)[0]
        path = f"billing/presumed/approve?hold={first}"
        assert "Bill 1 presumed call of $0.50 to acme?" in desk.get(path)
        assert 'id="id_reason-errors"' in desk.post(path, {}, status=400)
        desk.post(path, {"reason": "in the invoice"})
        path = "billing/presumed/approve?customer=acme"
        assert "Bill 2 presumed calls of $1.00 to acme?" in desk.get(path)
        desk.post(path, {"reason": "in the invoice"})
        assert "has no presumed call" in desk.get(path, status=400)
        waiting = csv_rows(desk.get("billing/presumed?format=csv"))
        assert [row["customer"] for row in waiting] == ["globex"]
        assert "globex" not in desk.get("billing/presumed?customer=acme", part="presumed-rows")
        approved = json.loads(desk.get("billing/presumed/approved?customer=acme&format=json"))
        assert [row["cost_usd"] for row in approved] == ["0.5"] * 3
        assert "@example.com" in desk.get("billing/presumed/approved")
        assert "Bill it" not in desk.get("billing/presumed", client=desk.as_role("viewer"))


class TestQueries:
    PAGES = ("guards", "runs", "policies", "models/reratings", "billing/presumed")

    def test_are_as_many_however_many_rows(self, desk: Desk) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        from budgets.services.guard_rules import NewGuard, create_guard
        from budgets.services.routing import PolicyFields, create_policy

        def more(times: int) -> None:
            who: dict[str, Any] = {"tenant_id": desk.tenant.pk, "actor": "test", "now": utc_now()}
            for number in range(times):
                guard = NewGuard(kind="depth", scope="tenant", limits={"levels": number})
                create_guard(guard=guard, **who)
                create_policy(policy=PolicyFields(name="p", rules=[RULE], tiers={}), **who)
                run = {"run": f"run-{times}-{number}", "caps": {"usd": "1"}}
                desk.account.world.run(desk.account.send("/v1/runs", run))
                desk.account.settle(desk.account.place("$0.1"))
            desk.settled()

        def asked(page: str) -> int:
            with CaptureQueriesContext(connection) as queries:
                desk.get(page)
            return len(queries)

        more(1)
        # The first request of a test finds out whether its connection is still good.
        asked("guards")
        before = {page: asked(page) for page in self.PAGES}
        more(3)
        assert {page: asked(page) for page in self.PAGES} == before
