"""The document's examples of the data plane, sent to a gateway: what it answers is what the document says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from budgets.gateway import openapi
from budgets.gateway.openapi import examples
from noburn.kit import openapi as kit
from tests.api.schemas import Checker, shape
from tests.support.asgi import Answer

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

CHECKER = Checker({**kit.schemas(), **openapi.schemas()})
CALL = examples.PREFLIGHT["call"]["value"]


def conforms(name: str, answer: Answer) -> None:
    assert answer.status == 200, answer
    assert CHECKER.errors(kit.ref(name), answer.body) == []


def asked(alice: Account, path: str, body: Any) -> Answer:
    answer: Answer = alice.world.run(alice.send(path, body))
    return answer


def with_token(body: Any, placed: Answer) -> Any:
    """An example's body with a real authorization in it."""
    return json.loads(json.dumps(body).replace(json.dumps(examples.TOKEN)[1:-1], placed["authorization"]))


def month(alice: Account, limit: str) -> None:
    alice.budget("acme", limit, window="month")


def suspend(alice: Account) -> None:
    from tenants.services.customers import ensure_customer, suspend_customer

    now = datetime.now(UTC)
    ensure_customer(tenant_id=alice.tenant_id, external_id="acme", actor="test", now=now)
    suspend_customer(tenant_id=alice.tenant_id, external_id="acme", actor="test", now=now)


def nothing(alice: Account) -> None:
    """Needs nothing to be set up."""


def busy(alice: Account) -> None:
    month(alice, "$0.0006")
    asked(alice, "/v1/preflight", CALL)


DECISIONS: dict[str, tuple[Callable[[Account], None], Any]] = {
    "allow": (lambda alice: month(alice, "$10"), CALL),
    "dry_run": (nothing, examples.PREFLIGHT["dry_run"]["value"]),
    "budget_exceeded": (lambda alice: month(alice, "$0.0003"), CALL),
    "budget_busy": (busy, CALL),
    "price_unknown": (nothing, {**CALL, "model": "gpt-77"}),
    "customer_suspended": (suspend, CALL),
}


class TestPreflight:
    @pytest.mark.parametrize("name", sorted(examples.PREFLIGHT))
    def test_takes_every_example(self, alice: Account, name: str) -> None:
        month(alice, "$10")
        answer = asked(alice, "/v1/preflight", examples.PREFLIGHT[name]["value"])
        conforms("PreflightAnswer", answer)
        assert (answer["decision"], answer["warnings"][:-1]) == ("allow", [])

    @pytest.mark.parametrize("name", sorted(examples.DECISIONS))
    def test_answers_every_example(self, alice: Account, name: str) -> None:
        set_up, body = DECISIONS[name]
        set_up(alice)
        answer, told = asked(alice, "/v1/preflight", body), examples.DECISIONS[name]["value"]
        conforms("PreflightAnswer", answer)
        if name == "budget_exceeded":
            assert answer["alternatives"]
        assert shape(answer.body) == shape(told)
        for field in ("decision", "reason", "estimate_usd", "fits_max_output_tokens"):
            assert answer.body.get(field) == told.get(field), field


class TestSettle:
    @pytest.mark.parametrize(
        ("name", "call", "told"),
        [("usage", CALL, "settled"), ("cost", "tool", None), ("unseen", CALL, "presumed")],
    )
    def test_takes_and_answers_every_example(
        self, alice: Account, name: str, call: Any, told: str | None
    ) -> None:
        placed = asked(
            alice, "/v1/preflight", examples.PREFLIGHT["tool"]["value"] if call == "tool" else call
        )
        answer = asked(alice, "/v1/settle", with_token(examples.SETTLE[name]["value"], placed))
        conforms("Resolution", answer)
        if told:
            assert answer.body == examples.RESOLUTIONS[told]["value"]

    def test_takes_and_answers_the_batch(self, alice: Account) -> None:
        placed = asked(alice, "/v1/preflight", CALL)
        answer = asked(alice, "/v1/settle/batch", with_token(examples.BATCH["two"]["value"], placed))
        conforms("BatchAnswer", answer)
        told = examples.BATCH_ANSWERS["two"]["value"]
        assert answer["results"][0] == told["results"][0]
        assert shape(answer["results"][1]) == shape(told["results"][1])
        assert answer["results"][1]["problem"]["detail"] == told["results"][1]["problem"]["detail"]

    def test_takes_and_answers_the_void(self, alice: Account) -> None:
        placed = asked(alice, "/v1/preflight", CALL)
        answer = asked(alice, "/v1/void", with_token(examples.VOID["void"]["value"], placed))
        conforms("Resolution", answer)
        assert answer.body == examples.VOIDED["voided"]["value"]

    def test_takes_and_answers_the_extension(self, alice: Account) -> None:
        placed = asked(alice, "/v1/preflight", CALL)
        body = with_token(examples.EXTEND["longer"]["value"], placed)
        answer = asked(alice, f"/v1/holds/{placed['hold']['id']}/extend", body)
        conforms("ExtendAnswer", answer)
        assert shape(answer.body) == shape(examples.EXTENDED["longer"]["value"])


class TestStanding:
    def test_shows_the_budgets_of_the_example(self, alice: Account) -> None:
        month(alice, "$10")
        alice.budget("u1", 50_000, scope="user", window="day", metric="tokens")
        asked(alice, "/v1/preflight", CALL)
        answer = alice.world.request("GET", "/v1/remaining?customer=acme&user=u1", secret=alice.secret)
        conforms("Remaining", answer)
        told = examples.REMAINING["customer"]["value"]
        assert [shape(b) for b in answer["budgets"]] == [shape(b) for b in told["budgets"]]
        same = (
            "scope",
            "subject",
            "window",
            "limit_usd",
            "limit_tokens",
            "remaining_usd",
            "remaining_tokens",
        )
        for found, budget in zip(answer["budgets"], told["budgets"], strict=True):
            assert {k: found.get(k) for k in same} == {k: budget.get(k) for k in same}

    def test_lists_the_prices_as_in_the_example(self, alice: Account) -> None:
        answer = alice.world.request("GET", "/v1/prices?provider=openai", secret=alice.secret)
        conforms("PriceList", answer)
        (told,) = examples.PRICES["openai"]["value"]["prices"]
        (found,) = [
            p for p in answer["prices"] if p["model"] == told["model"] and p["variant"] == told["variant"]
        ]
        assert found.keys() == told.keys()
        assert all(found["prices"][unit] == price for unit, price in told["prices"].items())

    def test_lists_every_provider_s_prices_as_the_document_says(self, alice: Account) -> None:
        conforms("PriceList", alice.world.request("GET", "/v1/prices", secret=alice.secret))


class TestHealth:
    def test_answers_the_examples(self, alice: Account) -> None:
        assert alice.world.request("GET", "/healthz").body == examples.ALIVE["alive"]["value"]
        assert alice.world.request("GET", "/readyz").body == examples.READY["ready"]["value"]


class TestProblems:
    """A failure is one of those that the document lists for the operation, and looks as it says."""

    @pytest.mark.parametrize(
        ("path", "options"),
        [
            ("/v1/preflight", {"secret": ""}),
            ("/v1/preflight", {"idempotency_key": None}),
            ("/v1/preflight", {"raw": b"{}"}),
            ("/v1/preflight", {"raw": b'"' + b"x" * 70_000 + b'"'}),
            ("/v1/preflight", {"raw": b"{}", "headers": {"content-type": "text/plain"}}),
            ("/v1/preflight", {"body": {"model": "moonshotai/kimi-k3"}}),
            ("/v1/settle", {"body": {"authorization": "nba1.k1.x", "usage": None}}),
            ("/v1/holds/hold_x/extend", {"body": {"authorization": "nba1.k1.x"}}),
        ],
    )
    def test_is_one_that_the_document_lists(self, alice: Account, path: str, options: dict[str, Any]) -> None:
        problems = kit.Problems()
        template = "/v1/holds/{id}/extend" if path.startswith("/v1/holds/") else path
        operation = openapi.paths(problems)[template]["post"]
        answer = alice.world.request("POST", path, **{"secret": alice.secret, **options})
        name = operation["responses"][str(answer.status)]["$ref"].rpartition("/")[2]
        (media,) = problems.responses[name]["content"].values()
        assert CHECKER.errors(media["schema"], answer.body) == []
        assert answer.kind in media["examples"]
