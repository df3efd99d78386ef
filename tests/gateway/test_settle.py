"""POST /v1/settle, /v1/settle/batch and /v1/void: what becomes of calls, told once, twice, late and in masses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from django.conf import settings

from budgets.domain.authorization import encode_body

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

MINI: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1200, "max_output_tokens": 500}
USAGE = {"input_tokens": 980, "output_tokens": 290}
COST_USD = "0.000321"


class TestSettle:
    def test_prices_the_usage_and_says_what_is_released(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        answer = alice.settle(
            alice.place(**MINI), usage=USAGE, model="gpt-4o-mini-2024-07-18", latency_ms=840
        )
        assert answer.body == {
            "state": "settled",
            "cost_usd": COST_USD,
            "released_usd": "0.000159",
            "overrun_usd": "0",
            "replayed": False,
            "late": False,
            "warnings": [],
        }
        (entry,) = alice.ledger()
        assert (entry["kind"], entry["cost"], entry["tokens"], entry["requests"]) == (
            "settled",
            321_000,
            1270,
            1,
        )
        assert alice.counter("acme")["spent"] == 321_000

    def test_prices_the_model_that_answered(self, alice: Account) -> None:
        placed = alice.place(**MINI)
        dearer = alice.settle(placed, usage=USAGE, model="gpt-4o")
        assert float(dearer["cost_usd"]) > float(COST_USD)
        assert float(dearer["overrun_usd"]) > 0

    def test_at_a_cost_of_one_s_own(self, alice: Account) -> None:
        answer = alice.settle(alice.place("$0.40"), "$0.123456789")
        assert (answer["cost_usd"], answer["released_usd"]) == ("0.123456789", "0.276543211")

    def test_of_a_model_without_a_price_keeps_the_estimate_and_says_so(self, alice: Account) -> None:
        answer = alice.settle(alice.place("$0.40"), usage={"input_tokens": 10})
        assert answer["cost_usd"] == "0.4"
        assert "estimate" in answer["warnings"][0]

    def test_a_second_time_changes_nothing(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place(**MINI)
        first, again = alice.settle(placed, usage=USAGE), alice.settle(placed, usage=USAGE)
        assert (first["replayed"], again["replayed"]) == (False, True)
        assert {**first.body, "replayed": True} == again.body
        assert len(alice.ledger()) == 1
        other = alice.settle(placed, usage={**USAGE, "output_tokens": 291})
        assert (other.status, other.kind) == (409, "settle-conflict")
        assert placed["hold"]["id"] in other["detail"]

    def test_sixty_four_times_at_once_makes_one_entry(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place(**MINI)
        answers = alice.world.all(alice.settling(placed, usage=USAGE) for _ in range(64))
        assert Counter(answer["replayed"] for answer in answers) == {True: 63, False: 1}
        assert len(alice.ledger()) == 1
        assert alice.counter("acme")["spent"] == 321_000
        assert not alice.verify().differences

    def test_with_many_usages_at_once_lets_one_stand(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40")
        answers = alice.world.all(alice.settling(placed, f"$0.0{1 + n % 4}") for n in range(32))
        assert Counter(answer.status for answer in answers) == {200: 8, 409: 24}
        assert len({answer["cost_usd"] for answer in answers if answer.status == 200}) == 1
        assert len(alice.ledger()) == 1
        assert not alice.verify().differences

    def test_and_void_at_once_leave_the_usage_standing(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        placed = alice.place("$0.40")
        alice.world.all([alice.settling(placed, "$0.10"), alice.voiding(placed)])
        assert alice.counter("acme")["spent"] == 100_000_000
        assert not alice.verify().differences

    def test_by_another_key_of_the_tenant_is_accepted(self, alice: Account) -> None:
        placed = alice.place("$0.40")
        body = {"authorization": placed["authorization"], "usage": None, "cost_usd": "0.1"}
        other = alice.key(["settle"])
        assert alice.world.run(alice.send("/v1/settle", body, secret=other.secret))["state"] == "settled"

    def test_frees_the_rest_for_the_very_next_call(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        for _ in range(20):
            placed = alice.place("$0.80")
            assert placed.decision == "allow"
            alice.settle(placed, "$0.01")
        assert alice.counter("acme")["spent"] == 200_000_000


class TestForeignAuthorization:
    """Charlie's key with Alice's authorization, or with one that nobody ever signed."""

    def test_answers_the_same_as_a_forged_one(self, alice: Account) -> None:
        charlie = alice.world.account("charlie")
        placed = alice.place("$0.40")
        head, kid, body, signature = placed["authorization"].split(".")
        forged = ".".join(
            [head, kid, body, signature[:-4] + ("AAAA" if signature[-4:] != "AAAA" else "BBBB")]
        )
        answers = [
            charlie.world.run(charlie.send(path, {"authorization": token, "usage": None}))
            for path in ("/v1/settle", "/v1/void")
            for token in (placed["authorization"], forged, "nba1.k1.AAAA.AAAA", "nonsense")
        ]
        assert {(a.status, a.kind) for a in answers} == {(400, "invalid-authorization")}
        assert len({a["detail"] for a in answers}) == 1
        assert alice.ledger() == []

    def test_extends_nothing(self, alice: Account) -> None:
        charlie = alice.world.account("charlie")
        placed = alice.place("$0.40")
        answer = charlie.extend(placed, 60)
        assert (answer.status, answer.kind) == (400, "invalid-authorization")

    def test_tampered_in_any_place_is_refused(self, alice: Account) -> None:
        token = alice.place("$0.40")["authorization"]
        for at in range(0, len(token), 7):
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            answer = alice.world.run(alice.send("/v1/void", {"authorization": changed}))
            assert (answer.status, answer.kind) == (400, "invalid-authorization"), at
        assert alice.ledger() == []

    def test_of_another_hold_does_not_extend_this_one(self, alice: Account) -> None:
        one, two = alice.place("$0.40"), alice.place("$0.40")
        path = f"/v1/holds/{one['hold']['id']}/extend"
        answer = alice.world.run(alice.send(path, {"authorization": two["authorization"], "ttl_seconds": 60}))
        assert (answer.status, answer.kind) == (404, "not-found")


class TestSettleBatch:
    def placed(self, alice: Account, count: int) -> list[Answer]:
        answers: list[Answer] = alice.world.all(alice.placing("$0.001") for _ in range(count))
        assert {answer.decision for answer in answers} == {"allow"}
        return answers

    def item(self, placed: Answer, cost: str = "0.0005") -> dict[str, Any]:
        return {"authorization": placed["authorization"], "usage": None, "cost_usd": cost}

    def test_answers_a_thousand_item_by_item_with_bad_ones_among_them(self, alice: Account) -> None:
        alice.budget("acme", "$10")
        items: list[Any] = [self.item(placed) for placed in self.placed(alice, 1000)]
        items[400] = {"authorization": "forged", "usage": None}
        items[401] = {"usage": None}
        items[402] = "not an object"
        items[403] = {**items[403], "cost_usd": "-1"}
        items[404] = {**items[404], "usage": {"input_tokens": -5}, "cost_usd": None}
        items[405] = items[0]
        answer = alice.world.run(alice.send("/v1/settle/batch", {"settlements": items}))
        results = answer["results"]
        assert [r["status"] for r in results[400:406]] == [400, 400, 400, 400, 400, 200]
        kinds = [r["problem"]["type"].rsplit("/", 1)[-1] for r in results[400:405]]
        assert results[401]["problem"]["type"].startswith(settings.BASE_URL)
        assert kinds == ["invalid-authorization", *["invalid-request"] * 4]
        assert results[401]["problem"]["errors"] == [{"field": "authorization", "message": "is missing"}]
        assert results[405]["replayed"] is True
        good = [r for n, r in enumerate(results) if not 400 <= n < 406]
        assert {(r["status"], r["state"], r["cost_usd"], r["replayed"]) for r in good} == {
            (200, "settled", "0.0005", False)
        }
        assert alice.counter("acme")["spent"] == 994 * 500_000
        assert not alice.verify().differences

    def test_again_replays_every_item(self, alice: Account) -> None:
        body = {"settlements": [self.item(placed) for placed in self.placed(alice, 50)]}
        alice.world.run(alice.send("/v1/settle/batch", body))
        again = alice.world.run(alice.send("/v1/settle/batch", body))
        assert {r["replayed"] for r in again["results"]} == {True}
        assert len(alice.ledger()) == 50

    @pytest.mark.parametrize("count", [0, 1001])
    def test_of_none_or_too_many_is_refused(self, alice: Account, count: int) -> None:
        answer = alice.world.run(alice.send("/v1/settle/batch", {"settlements": [{}] * count}))
        assert (answer.status, answer.kind) == (400, "invalid-request")
        assert "settlements" in answer.fields

    def test_lets_a_row_that_postgresql_refuses_fail_alone(
        self, alice: Account, caplog: pytest.LogCaptureFixture
    ) -> None:
        alice.budget("acme", "$1")
        placed = self.placed(alice, 20)
        hold = alice.hold_of(placed[7])
        # Signed by us, with a letter that no text of PostgreSQL may hold: a defect, not an attack.
        body = msgspec.structs.replace(hold.body, model="a\u0000b")
        poison = alice.world.keyring.sign(
            body=encode_body(body),
            placed_ms=hold.placed_ms,
            expires_ms=hold.expires_ms,
            incarnations=hold.incarnations,
        )
        items = [self.item(p) for p in placed]
        items[7]["authorization"] = poison
        answer = alice.world.run(alice.send("/v1/settle/batch", {"settlements": items}))
        assert [r["status"] for r in answer["results"]] == [200] * 7 + [503] + [200] * 12
        assert len(alice.ledger()) == 19
        assert any("was refused" in record.message for record in caplog.records)
