"""Both clients against a scripted server: the wire, the retries, the errors."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from noburn_sdk import (
    Allowed,
    AuthenticationError,
    BudgetExceededError,
    ConflictError,
    Denied,
    Extended,
    InvalidRequestError,
    Noburn,
    NoburnError,
    PriceUnknownError,
    Settled,
    Settlement,
    UnavailableError,
    Usage,
)

if TYPE_CHECKING:
    from sdks.python.tests.conftest import Scripted

ASK: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1200}


class TestPreflight:
    def test_sends_what_was_given_and_nothing_else(self, server: Scripted, client: Any) -> None:
        server.allows()
        client.preflight(
            **ASK,
            max_output_tokens=500,
            provider="openai",
            customer="acme",
            user="u1",
            project="web",
            run="run_1",
            plan="free",
            tags={"feature": "chat"},
            n=2,
            ttl_seconds=120,
            wait_ms=50,
            fit=True,
            cost_usd=Decimal("0.000000001"),
            fingerprint="f1",
            idempotency_key="mine",
        )
        seen = server.seen[0]
        assert (seen.method, seen.path, seen.key) == ("POST", "/v1/preflight", "mine")
        assert seen.headers["authorization"] == "Bearer nb_live_test"
        assert seen.body == {
            "model": "gpt-4o-mini",
            "input_tokens": 1200,
            "provider": "openai",
            "max_output_tokens": 500,
            "tags": {"feature": "chat"},
            "ttl_seconds": 120,
            "fingerprint": "f1",
            "n": 2,
            "fit": True,
            "cost_usd": "0.000000001",
            "subject": {"project": "web", "customer": "acme", "user": "u1", "run": "run_1", "plan": "free"},
            "wait_ms": 50,
        }

    def test_returns_the_authorization_in_exact_amounts(self, server: Scripted, client: Any) -> None:
        server.allows()
        allowed = client.preflight(**ASK)
        assert isinstance(allowed, Allowed)
        assert (allowed.hold_id, allowed.max_output_tokens) == ("hold_1", 500)
        assert allowed.amount_usd == Decimal("0.00048")
        assert allowed.expires_at == datetime(2026, 11, 22, 10, 2, tzinfo=timezone.utc)
        assert allowed.budgets[0].remaining_usd == Decimal("9.99952")

    def test_raises_a_refusal_with_what_would_fit(self, server: Scripted, client: Any) -> None:
        server.denies()
        with pytest.raises(BudgetExceededError) as refused:
            client.preflight(**ASK)
        error = refused.value
        assert isinstance(error, RuntimeError)
        assert (error.reason, error.scope, error.fits_max_output_tokens) == (
            "budget_exceeded",
            "customer",
            12,
        )
        assert (error.limit_usd, error.remaining_usd) == (Decimal(10), Decimal("0.0001"))
        assert error.estimate_usd == Decimal("0.00048")
        assert error.resets_at == datetime(2026, 12, 1, tzinfo=timezone.utc)
        assert error.alternatives[0].model == "gpt-4.1-nano"
        assert "customer budget bud_1 of $10 has $0.0001 left" in str(error)

    def test_returns_a_refusal_when_asked_to_decide(self, server: Scripted, client: Any) -> None:
        server.denies("run_stopped", budget=None)
        denied = client.decide(**ASK)
        assert isinstance(denied, Denied)
        assert (denied.reason, denied.budget) == ("run_stopped", None)

    def test_raises_an_unknown_price_as_such(self, server: Scripted, client: Any) -> None:
        server.denies("price_unknown", budget=None)
        with pytest.raises(PriceUnknownError) as unknown:
            client.preflight(**ASK)
        assert unknown.value.model == "gpt-4o-mini"

    def test_never_lets_an_unknown_decision_through(self, server: Scripted, client: Any) -> None:
        server.answers({"decision": "maybe"})
        with pytest.raises(NoburnError, match="maybe"):
            client.preflight(**ASK)

    def test_names_every_bad_field_without_asking(self, server: Scripted, client: Any) -> None:
        with pytest.raises(InvalidRequestError) as invalid:
            client.preflight(model="", input_tokens=-1, cost_usd=0.1, ttl_seconds=901, wait_ms=10_001, n=0)
        assert set(invalid.value.errors) == {
            "model",
            "input_tokens",
            "cost_usd",
            "ttl_seconds",
            "wait_ms",
            "n",
        }
        assert server.seen == []


class TestBusy:
    def test_asks_again_with_the_same_key_until_allowed(self, server: Scripted, client: Any) -> None:
        server.denies("budget_busy", retry_after_ms=10).denies("budget_busy", retry_after_ms=10).allows()
        assert client.preflight(**ASK).authorization
        assert [seen.body["wait_ms"] for seen in server.seen] == [100, 100, 100]
        assert len({(seen.key, seen.raw) for seen in server.seen}) == 1

    def test_gives_up_at_its_limit(self, server: Scripted, client: Any) -> None:
        server.denies("budget_busy", retry_after_ms=6_000)
        with pytest.raises(BudgetExceededError) as refused:
            client.preflight(**ASK)
        assert (refused.value.reason, refused.value.retry_after_ms) == ("budget_busy", 6_000)
        assert len(server.seen) == 1

    @pytest.mark.parametrize("options", [{"wait_ms": 0}, {"dry_run": True}])
    def test_does_not_wait_when_told_so(self, server: Scripted, client: Any, options: dict[str, Any]) -> None:
        server.denies("budget_busy", retry_after_ms=10)
        assert client.decide(**ASK, **options).reason == "budget_busy"
        assert "wait_ms" not in server.seen[0].body


class TestRetries:
    def test_repeats_a_lost_answer_with_the_same_key_and_bytes(self, server: Scripted, client: Any) -> None:
        server.drops().drops().allows()
        client.preflight(**ASK)
        assert len(server.seen) == 3
        assert len({(seen.key, seen.raw) for seen in server.seen}) == 1

    def test_repeats_a_lost_settle_with_the_same_key(self, server: Scripted, client: Any) -> None:
        server.drops().settles(replayed=True)
        assert client.settle("nba1.x", usage=Usage(10, 5)).replayed
        assert len({(seen.key, seen.raw) for seen in server.seen}) == 1

    def test_repeats_503_after_its_retry_after(self, server: Scripted, client: Any) -> None:
        server.fails(503, "counters_unavailable", headers={"Retry_After": "0"}).allows()
        assert client.preflight(**ASK).hold_id == "hold_1"

    def test_gives_up_when_told_to_wait_beyond_its_time(self, server: Scripted, client: Any) -> None:
        server.fails(503, "counters_unavailable", headers={"Retry_After": "60"})
        with pytest.raises(UnavailableError, match="counters_unavailable") as unavailable:
            client.preflight(**ASK)
        assert (unavailable.value.retry_after, unavailable.value.status) == (60, 503)
        assert unavailable.value.request_id == "req_9"
        assert len(server.seen) == 1

    def test_gives_up_after_its_number_of_attempts(self, server: Scripted) -> None:
        server.drops().drops().drops()
        with Noburn("k", server.url, max_retries=2) as client, pytest.raises(UnavailableError) as lost:
            client.preflight(**ASK)
        assert "3 attempts" in str(lost.value)
        assert len(server.seen) == 3

    def test_says_that_nobody_listens(self, server: Scripted) -> None:
        url = server.url
        server.close()
        with (
            Noburn("k", url, max_retries=1) as client,
            pytest.raises(UnavailableError, match="could not be reached"),
        ):
            client.preflight(**ASK)

    @pytest.mark.parametrize("status", [400, 409, 422, 429, 500])
    def test_does_not_repeat_other_failures(self, server: Scripted, client: Any, status: int) -> None:
        server.fails(status, "some_problem")
        with pytest.raises(NoburnError):
            client.settle("nba1.x", usage=None)
        assert len(server.seen) == 1


class TestErrors:
    @pytest.mark.parametrize("status", [401, 403])
    def test_reads_a_refused_key(self, server: Scripted, client: Any, status: int) -> None:
        server.fails(status, "key_revoked")
        with pytest.raises(AuthenticationError, match="key_revoked"):
            client.preflight(**ASK)

    def test_reads_a_conflict_with_its_code(self, server: Scripted, client: Any) -> None:
        server.fails(409, "epoch-closed")
        with pytest.raises(ConflictError) as conflict:
            client.extend(Extended("hold_1", None, "nba1.x"), 60)
        assert (conflict.value.code, conflict.value.request_id) == ("epoch_closed", "req_9")

    @pytest.mark.parametrize(
        "errors",
        [
            {"model": "is unknown", "n": ["is odd", "is large"]},
            [{"field": "model", "message": "is unknown"}, {"pointer": "#/n", "detail": "is odd; is large"}],
        ],
    )
    def test_reads_field_errors_of_either_form(self, server: Scripted, client: Any, errors: Any) -> None:
        server.fails(400, "invalid_request", errors=errors)
        with pytest.raises(InvalidRequestError) as invalid:
            client.preflight(**ASK)
        assert invalid.value.errors == {"model": "is unknown", "n": "is odd; is large"}

    def test_says_when_something_else_answers(self, server: Scripted, client: Any) -> None:
        server.answers(b"<html>a proxy</html>")
        with pytest.raises(NoburnError, match="NOBURN_BASE_URL"):
            client.preflight(**ASK)

    def test_survives_pickling(self, server: Scripted, sync_client: Noburn) -> None:
        server.denies()
        with pytest.raises(BudgetExceededError) as refused:
            sync_client.preflight(**ASK)
        copy = pickle.loads(pickle.dumps(refused.value))
        assert (str(copy), copy.limit_usd) == (str(refused.value), Decimal(10))

    def test_asks_for_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOBURN_API_KEY", raising=False)
        with pytest.raises(AuthenticationError, match="NOBURN_API_KEY"):
            Noburn()

    def test_names_every_bad_setting(self) -> None:
        with pytest.raises(InvalidRequestError) as invalid:
            Noburn("k", "ftp://x", timeout=0, wait_ms=20_000)
        assert set(invalid.value.errors) == {"base_url", "timeout", "wait_ms"}

    def test_reads_its_settings_from_the_environment(
        self, server: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOBURN_API_KEY", "nb_live_env")
        monkeypatch.setenv("NOBURN_BASE_URL", server.url + "/")
        server.allows()
        with Noburn() as client:
            client.preflight(**ASK)
        assert server.seen[0].headers["authorization"] == "Bearer nb_live_env"


class TestResolve:
    def test_settles_in_exact_amounts(self, server: Scripted, client: Any) -> None:
        server.allows().settles(overrun_usd="0.000000001")
        settled = client.settle(
            client.preflight(**ASK),
            usage=Usage(980, 290, cache_read_tokens=100, tool_calls={"web_search": 1}),
            model="gpt-4o-mini-2024-07-18",
            latency_ms=840,
        )
        assert server.seen[1].path == "/v1/settle"
        assert server.seen[1].body == {
            "authorization": "nba1.k1.aG9sZA.c2ln",
            "usage": {
                "input_tokens": 980,
                "output_tokens": 290,
                "cache_read_tokens": 100,
                "tool_calls": {"web_search": 1},
            },
            "model": "gpt-4o-mini-2024-07-18",
            "outcome": "ok",
            "latency_ms": 840,
        }
        assert (settled.cost_usd, settled.overrun_usd) == (Decimal("0.0003"), Decimal("1e-9"))

    def test_settles_the_unknown_as_null(self, server: Scripted, client: Any) -> None:
        server.settles()
        client.settle("nba1.x", usage=None, outcome="cut")
        assert server.seen[0].body == {"authorization": "nba1.x", "usage": None, "outcome": "cut"}

    def test_settles_a_batch_item_by_item(self, server: Scripted, client: Any) -> None:
        problem = {
            "type": "https://noburn.example/problems/settle-conflict",
            "status": 409,
            "title": "Settled",
        }
        good = {"status": 200, "cost_usd": "1", "released_usd": "2", "overrun_usd": "0"}
        server.answers({"results": [good, {"status": 409, "problem": problem}]})
        results = client.settle_batch([Settlement("nba1.a", Usage(1, 1)), Settlement("nba1.b", None)])
        assert isinstance(results[0], Settled)
        assert results[0].cost_usd == 1
        assert isinstance(results[1], ConflictError)
        assert results[1].code == "settle_conflict"
        assert [item["authorization"] for item in server.seen[0].body["settlements"]] == ["nba1.a", "nba1.b"]

    @pytest.mark.parametrize("count", [0, 1001])
    def test_refuses_batches_out_of_bounds(self, client: Any, count: int) -> None:
        with pytest.raises(InvalidRequestError, match="1000"):
            client.settle_batch([Settlement("nba1.a", None)] * count)

    def test_voids(self, server: Scripted, client: Any) -> None:
        server.answers({"released_usd": "0.00048", "replayed": False})
        assert client.void("nba1.x").released_usd == Decimal("0.00048")
        assert (server.seen[0].path, server.seen[0].body) == ("/v1/void", {"authorization": "nba1.x"})

    def test_has_nothing_to_settle_after_a_dry_run(self, server: Scripted, client: Any) -> None:
        server.answers({"decision": "allow", "estimate_usd": "0.5", "model": "m", "max_output_tokens": 9})
        allowed = client.preflight(**ASK, dry_run=True)
        assert (allowed.authorization, allowed.amount_usd) == (None, Decimal("0.5"))
        with pytest.raises(InvalidRequestError, match="dry run"):
            client.void(allowed)

    def test_extends_by_either_answer(self, server: Scripted, client: Any) -> None:
        extended = {"hold": {"id": "hold_1", "expires_at": "2026-11-22T10:05:00Z"}, "authorization": "nba1.y"}
        server.allows().answers(extended).answers(extended)
        first = client.extend(client.preflight(**ASK), 300)
        client.extend(first, 300)
        assert (first.authorization, first.expires_at.minute) == ("nba1.y", 5)
        assert {seen.path for seen in server.seen[1:]} == {"/v1/holds/hold_1/extend"}
        assert server.seen[1].body == {"ttl_seconds": 300, "authorization": "nba1.k1.aG9sZA.c2ln"}
        assert server.seen[2].body == {"ttl_seconds": 300, "authorization": "nba1.y"}
        with pytest.raises(InvalidRequestError) as invalid:
            client.extend(Extended("", None, ""), 0)
        assert set(invalid.value.errors) == {"hold", "ttl_seconds"}

    def test_settles_at_a_cost_of_the_callers_own(self, server: Scripted, client: Any) -> None:
        server.settles(state="settled", late=True, warnings=["w"])
        settled = client.settle("nba1.x", usage=None, cost_usd=Decimal("0.02"))
        assert server.seen[0].body["cost_usd"] == "0.02"
        assert (settled.state, settled.late, settled.warnings) == ("settled", True, ("w",))
        with pytest.raises(InvalidRequestError, match="cost_usd"):
            client.settle("nba1.x", usage=None, cost_usd=0.02)


class TestReading:
    def test_reads_what_remains(self, server: Scripted, client: Any) -> None:
        budgets = [
            {"id": "a", "scope": "tenant", "limit_usd": "100", "remaining_usd": "60"},
            {"id": "b", "scope": "customer", "limit_usd": "10", "remaining_usd": "2.5"},
            {"id": "c", "scope": "customer", "metric": "tokens", "limit": 5},
        ]
        server.answers({"budgets": budgets})
        left = client.remaining(customer="a&b", plan="free", model="m")
        assert server.seen[0].path == "/v1/remaining?customer=a%26b&plan=free&model=m"
        assert left.remaining_usd == Decimal("2.5")
        assert left.budgets[2].raw["limit"] == 5

    def test_asks_for_prices_again_only_when_they_changed(self, server: Scripted, client: Any) -> None:
        server.answers({"version": 1}, ETag='"v1"').answers({}, 304).answers({"version": 2}, ETag='"v2"')
        assert [client.prices()["version"] for _ in range(3)] == [1, 1, 2]
        assert [seen.headers.get("if-none-match") for seen in server.seen] == [None, '"v1"', '"v1"']
        server.answers({"version": 3}, ETag='"v3"')
        assert client.prices(provider="openai")["version"] == 3
        assert (server.seen[3].path, server.seen[3].headers.get("if-none-match")) == (
            "/v1/prices?provider=openai",
            None,
        )


class TestThreads:
    def test_share_one_client(self, server: Scripted, sync_client: Noburn) -> None:
        for _ in range(64):
            server.allows()
        with ThreadPoolExecutor(16) as pool:
            allowed = list(pool.map(lambda _: sync_client.preflight(**ASK), range(64)))
        assert len(allowed) == 64
        assert len({seen.key for seen in server.seen}) == 64
