"""Re-ratings over the API and on the command line, the example of the documents, and what comparisons make of them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from budgets.domain.comparison_figures import Note
from budgets.services import reratings
from budgets.services.price_overrides import NewPriceOverride, create_price_override
from noburn.kit import ids
from noburn.kit.money import to_usd
from tenants.models import Tenant
from tests.budgets.comparison.traffic import compared, roll
from tests.budgets.rerating.desk import DAY, PATH, now
from tests.budgets.rerating.test_rerating import CHEAP, DEAR

if TYPE_CHECKING:
    from tests.budgets.rerating.desk import Desk

pytestmark = pytest.mark.real_db

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "rerating.md"


class TestApi:
    def test_previews_and_applies_what_was_previewed(self, desk: Desk) -> None:
        desk.price("2")
        placed = desk.call()
        desk.price("1")
        api = desk.api()
        body = {"starts_at": (now() - DAY).isoformat(), "reason": "a discount came late"}
        asked = api.post(PATH, body)
        assert (asked.status, asked["state"], asked["created_by"][:4]) == (201, "previewing", "key:")
        early = api.post(f"{PATH}/{asked['id']}/apply")
        assert (early.status, early.kind, list(early.fields)) == (409, "rerating-conflict", ["state"])
        reratings.work(now=now(), seconds=60)
        found = api.get(f"{PATH}/{asked['id']}")
        assert (found["state"], found["old_usd"], found["new_usd"]) == ("previewed", "0.003", "0.0015")
        assert found["difference_usd"] == found["by_customer"][0]["difference_usd"] == "-0.0015"
        applied = api.post(f"{PATH}/{asked['id']}/apply", key="once")
        again = api.post(f"{PATH}/{asked['id']}/apply", key="once")
        assert (applied.status, applied["state"], again.body) == (200, "applying", applied.body)
        reratings.work(now=now(), seconds=60)
        (listed,) = api.get(PATH, state="applied")["items"]
        assert (listed["applied_calls"], listed["applied_usd"]) == (1, "-0.0015")
        (entry,) = api.get("/v1/ledger", kind="rerated")["items"]
        assert (entry["cost_usd"], entry["rerating_id"], entry["requests"]) == ("-0.0015", asked["id"], 0)
        whole = api.get(f"/v1/ledger/{placed['hold']['id']}")
        assert (whole["state"], whole["cost_usd"], whole["requests"]) == ("settled", "0.0015", 1)
        assert [entry["cost_origin"] for entry in whole["entries"]] == ["priced", "priced"]

    def test_names_everything_that_is_wrong(self, desk: Desk) -> None:
        later = (now() + DAY).isoformat()
        bad = desk.api().post(PATH, {"starts_at": later, "prices_at": later, "reason": "x"})
        assert (bad.status, sorted(bad.fields)) == (400, ["prices_at", "starts_at"])


class TestCommand:
    def run(self, *words: str) -> list[dict[str, Any]]:
        out = io.StringIO()
        call_command("rerate", *words, "--json", stdout=out)
        found: list[dict[str, Any]] = json.loads(out.getvalue())
        return found

    def test_previews_applies_and_tells_how_far_it_is(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        slug = Tenant.objects.get(pk=desk.account.tenant_id).slug
        asked = ("--from", (now() - DAY).isoformat(), "--reason", "a test")
        (found,) = self.run("preview", "--tenant", slug, *asked)
        assert (found["state"], found["difference_usd"], found["tenant"]) == ("previewed", "-0.0015", slug)
        (done,) = self.run("apply", found["id"])
        assert (done["state"], done["applied_by"], desk.spent()) == ("applied", "command:rerate", CHEAP)
        assert self.run("status", found["id"]) == self.run("status", "--tenant", slug) == [done]
        out = io.StringIO()
        call_command("rerate", "status", found["id"], stdout=out)
        assert "applied to 1 calls: -0.0015 USD; 0 had moved" in out.getvalue()

    def test_says_what_changed_since_a_preview(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        found = desk.preview()
        desk.price("1")
        with pytest.raises(CommandError, match="price_overrides: a negotiated price was added or ended"):
            self.run("apply", ids.encode(ids.RERATING, found.pk))

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("apply", "rrt_nobody"), "there is no re-rating 'rrt_nobody'"),
            (("preview", "--tenant", "nobody", "--from", "2026-11-01T00:00Z", "--reason", "x"), "no tenant"),
        ],
    )
    def test_knows_only_what_there_is(self, desk: Desk, words: tuple[str, ...], says: str) -> None:
        with pytest.raises(CommandError, match=says):
            self.run(*words)


class TestExample:
    def test_of_the_documents_is_what_happens(self, desk: Desk) -> None:
        text = DOCUMENT.read_text()
        rows = re.findall(
            r"^\| of customer `(\w+)`(, told)? \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$",
            text,
            re.M,
        )
        assert len(rows) == 4
        desk.account.budget("acme", "$1")
        for customer, told, given, made, cost, _ in rows:
            usage = {"input_tokens": int(given.replace(",", "")), "output_tokens": int(made.replace(",", ""))}
            placed = desk.account.place(
                model="gpt-4o-mini",
                input_tokens=usage["input_tokens"],
                max_output_tokens=usage["output_tokens"],
                customer=customer,
            )
            answer = desk.account.settle(placed, cost if told else None, usage=usage)
            assert answer["cost_usd"] == cost
        create_price_override(
            tenant_id=desk.account.tenant_id,
            override=NewPriceOverride(provider="openai", model="gpt-4o-mini", discount_percent="20"),
            actor="test",
            now=now(),
        )
        before = desk.account.counter("acme")["spent"]
        found = desk.preview()
        told = found.left_out["told"]
        groups = {g["customer"]: to_usd(g["new_nano"] - g["old_nano"]) for g in found.by_customer}
        assert (
            f"The preview says: {found.seen_calls} calls seen, {found.changed_calls} changed, from "
            f"{to_usd(found.old_nano)} to {to_usd(found.new_nano)} USD, a difference of "
            f"{to_usd(found.new_nano - found.old_nano)} (`acme` {groups['acme']}, `zeta` {groups['zeta']}); left out as "
            f"`told` is {told['calls']} call of {to_usd(told['cost_nano'])} USD."
        ) in text
        desk.apply(found)
        costs = sorted(row["cost"] for row in desk.account.ledger() if row["kind"] == "rerated")
        listed = f"{to_usd(costs[0])}, {to_usd(costs[1])} and {to_usd(costs[2])} USD"
        assert f"three entries of kind `rerated` with {listed}" in text
        spent = desk.account.counter("acme")["spent"]
        assert f"that had spent {to_usd(before)} USD has spent {to_usd(spent)}." in text
        should = {(row[0], row[5]) for row in rows}
        whole = desk.world.sql(
            """SELECT customer, sum(cost_nano)::bigint FROM ledger_entries
            WHERE tenant_id = %s GROUP BY hold_id, customer""",
            desk.account.tenant_id,
        )
        assert {(customer, to_usd(nano)) for customer, nano in whole} == should
        desk.exact()


class TestComparison:
    def test_takes_re_rated_calls_at_their_new_price(self, desk: Desk) -> None:
        desk.price("2")
        desk.call()
        desk.price("1")
        desk.rerate()
        roll()
        found = compared(desk.account).comparison
        assert found.totals.actual_nano == CHEAP < DEAR
        assert not [note for note, _ in found.notes if note is Note.TOLD_COST]
