"""What the gate does about a call: caps, refusals, outages, observation, attribution."""

from __future__ import annotations

import asyncio
import pickle
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from noburn_sdk import (
    BudgetExceededError,
    Denied,
    InvalidRequestError,
    NoburnError,
    UnavailableError,
    UnboundedError,
    context,
    track,
    ungated,
)
from noburn_sdk.attribution import Attribution, current, from_headers, is_ungated
from noburn_sdk.errors import mixed
from noburn_sdk.gate import Asked
from noburn_sdk.gate.allowance import Allowance
from noburn_sdk.gate.breaker import FAILURES_MAX, Breaker
from noburn_sdk.gate.settings import Settings
from noburn_sdk.integrations.openai.endpoints import BATCHES, CHAT, EMBEDDINGS
from noburn_sdk.settling import Resolution
from noburn_sdk.testing import MemoryGate, MemoryPlane

BODY: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
PRICES = {
    "prices": [
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "variant": "standard",
            "context_window": 128_000,
            "prices": {
                "input_tokens": {"usd_per_million_tokens": "1"},
                "output_tokens": {"usd_per_million_tokens": "2"},
            },
        }
    ]
}


def asked(**fields: Any) -> Asked:
    return Asked(CHAT, "gpt-4o-mini", fields.pop("body", BODY), **fields)


@pytest.fixture
def plane() -> MemoryPlane:
    return MemoryPlane()


class Foreign(Exception):
    """A framework's own error."""


class TestAdmission:
    def test_injects_the_tenants_cap_where_there_is_none(self, plane: MemoryPlane) -> None:
        held = MemoryGate(plane).admit(asked())
        assert held.body == {**BODY, "max_completion_tokens": 4_096}

    def test_injects_the_cap_that_was_named(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane, max_output_tokens=300)
        assert gate.admit(asked()).body["max_completion_tokens"] == 300
        with context(max_output_tokens=200):
            assert gate.admit(asked()).body["max_completion_tokens"] == 200

    def test_leaves_a_call_alone_that_has_a_cap(self, plane: MemoryPlane) -> None:
        body = {**BODY, "max_tokens": 7}
        held = MemoryGate(plane).admit(asked(body=body))
        assert held.body is body
        assert plane.decisions[0].asked["max_output_tokens"] == 7

    def test_refuses_to_change_what_is_signed(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane)
        with pytest.raises(InvalidRequestError, match="signed"):
            gate.admit(asked(signed=True))
        assert gate.flush(60)
        assert [one.state for one in plane.settlements] == ["voided"]

    def test_refuses_what_has_no_bound_until_somebody_names_one(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane)
        batch = Asked(BATCHES, "openai.batches", {"input_file_id": "file_1"})
        with pytest.raises(UnboundedError, match="cost_usd"):
            gate.admit(batch)
        with context(cost_usd="0.25"):
            gate.admit(batch).settle({"object": "batch", "id": "batch_1"})
        assert gate.flush(60)
        assert [(one.state, one.cost_usd) for one in plane.settlements] == [("presumed", Decimal("0.25"))]

    def test_presumes_an_answer_without_usage(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane)
        gate.admit(asked()).settle({"object": "chat.completion", "id": "x"})
        gate.admit(Asked(EMBEDDINGS, "text-embedding-3-small", {"model": "m", "input": "x"})).settle(None)
        assert gate.flush(60)
        assert [one.state for one in plane.settlements] == ["presumed", "presumed"]

    def test_frees_the_hold_of_a_caller_that_was_cancelled_while_it_asked(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane)

        async def cancelled() -> None:
            came, here = asyncio.Event(), asyncio.get_running_loop()
            put = gate.settler.put

            def noticed(resolution: Resolution) -> None:
                put(resolution)
                here.call_soon_threadsafe(came.set)

            gate.settler.put = noticed  # type: ignore[method-assign]
            task = asyncio.create_task(gate.admit_async(asked()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The answer comes all the same, and is dealt with on this loop.
            await came.wait()

        asyncio.run(cancelled())
        assert gate.flush(60)
        assert [one.state for one in plane.settlements] == ["voided"]
        gate.close(60)


class TestObserve:
    def test_refuses_nothing_and_tells_what_it_would_have(self, plane: MemoryPlane) -> None:
        plane.budget("customer", "acme", "0.000001")
        gate = MemoryGate(plane, mode="observe")
        seen: list[str] = []
        gate.observed = lambda call, denied: seen.append(f"{call.model} {denied.reason}")
        with context(customer="acme"):
            held = gate.admit(asked())
        assert held.denied is not None
        assert held.body is BODY
        assert seen == ["gpt-4o-mini budget_exceeded"]
        held.settle({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        assert gate.flush(60)
        assert plane.settlements == []

    def test_changes_no_call_and_meters_it(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane, mode="observe")
        held = gate.admit(asked())
        assert held.body is BODY
        held.settle({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        assert gate.flush(60)
        assert [one.state for one in plane.settlements] == ["settled"]

    def test_lets_calls_through_in_an_outage_and_without_a_bound(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane, mode="observe", retry_timeout=0)
        assert gate.admit(Asked(BATCHES, "openai.batches", {})).allowed is None
        plane.unavailable = True
        assert gate.admit(asked()).body is BODY


class TestOutages:
    def test_denies_by_default(self, plane: MemoryPlane) -> None:
        plane.unavailable = True
        with pytest.raises(UnavailableError):
            MemoryGate(plane, retry_timeout=0).admit(asked())

    def test_stops_asking_for_a_while_after_several_failures(self, plane: MemoryPlane) -> None:
        plane.unavailable = True
        gate = MemoryGate(plane, max_retries=0)
        for _ in range(FAILURES_MAX):
            with pytest.raises(UnavailableError):
                gate.admit(asked())
        sent = len(plane.requests)
        with pytest.raises(UnavailableError, match="given time"):
            gate.admit(asked())
        assert len(plane.requests) == sent
        assert gate.breaker.is_open

    def test_lets_an_amount_through_softly_where_that_was_chosen(
        self, plane: MemoryPlane, caplog: pytest.LogCaptureFixture
    ) -> None:
        gate = MemoryGate(plane, on_unavailable="allow", allow_usd_max="0.01", max_retries=0)
        assert gate.prices is not None
        gate.prices._book = PRICES
        plane.unavailable = True
        # 4,096 tokens at 2 USD a million are 0.0082 USD: one goes through, and a second does not fit.
        held = gate.admit(asked(provider="openai"))
        assert held.body["max_completion_tokens"] == 4_096
        assert "softly" in caplog.text
        with pytest.raises(UnavailableError):
            gate.admit(asked(provider="openai"))
        # What it did not use is given back.
        held.settle({"usage": {"prompt_tokens": 10, "completion_tokens": 10}})
        gate.admit(asked(provider="openai"))
        gate.close(60)

    def test_denies_what_it_cannot_price(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane, on_unavailable="allow", allow_usd_max="5", max_retries=0)
        assert gate.prices is not None
        gate.prices.wait(60)
        plane.unavailable = True
        with pytest.raises(UnavailableError):
            gate.admit(asked())
        gate.close(60)


class TestAllowance:
    def test_is_an_amount_a_day(self) -> None:
        days = [date(2026, 1, 1)]
        left = Allowance(Decimal("0.00000001"), lambda: days[0])
        assert left.take(10)
        assert not left.take(1)
        left.give_back(4, days[0])
        assert (left.take(4), left.used_nano) == (True, 10)
        before = days[0]
        days[0] = date(2026, 1, 2)
        assert left.take(10)
        left.give_back(5, before)
        assert left.used_nano == 10


class TestBreaker:
    def test_lets_one_call_try_at_a_time_and_closes_on_an_answer(self) -> None:
        now = [0.0]
        breaker = Breaker(lambda: now[0])
        for _ in range(FAILURES_MAX):
            assert breaker.admits()
            breaker.failed()
        assert not breaker.admits()
        now[0] = 1.0
        assert breaker.admits()
        assert not breaker.admits()
        breaker.failed()
        now[0] = 2.9
        assert not breaker.admits()
        now[0] = 3.1
        assert breaker.admits()
        breaker.answered()
        assert breaker.admits()
        assert not breaker.is_open


class TestSettings:
    def test_names_every_bad_one(self) -> None:
        with pytest.raises(InvalidRequestError) as found:
            Settings(mode="off", on_unavailable="allow", timeout=0, wait_ms=-1, max_output_tokens=0)  # type: ignore[arg-type]
        assert set(found.value.errors) == {"mode", "allow_usd_max", "timeout", "wait_ms", "max_output_tokens"}

    def test_takes_no_float_for_money(self) -> None:
        with pytest.raises(InvalidRequestError, match="float"):
            Settings(on_unavailable="allow", allow_usd_max=0.5)  # type: ignore[arg-type]


class TestContext:
    def test_nests_and_joins_tags(self) -> None:
        with context(customer="acme", tags={"a": "1", "b": "1"}):
            with context(user="u1", tags={"b": "2"}):
                assert current() == Attribution("acme", "u1", tags={"a": "1", "b": "2"})
            assert current().user is None
        assert current() == Attribution()

    def test_decorates_every_kind_of_function(self) -> None:
        @track(customer="acme")
        def plain() -> str | None:
            return current().customer

        @track(customer="acme")
        async def awaited() -> str | None:
            await asyncio.sleep(0)
            return current().customer

        @track(customer="acme")
        def steps() -> Any:
            yield current().customer
            try:
                yield current().customer
            except KeyError:
                yield "caught"

        @track(customer="acme")
        async def asynchronous() -> Any:
            yield current().customer
            yield current().customer

        assert plain() == "acme"
        assert asyncio.run(awaited()) == "acme"
        running = steps()
        assert next(running) == "acme"
        assert current().customer is None
        assert next(running) == "acme"
        assert running.throw(KeyError()) == "caught"

        async def read() -> list[Any]:
            return [(value, current().customer) async for value in asynchronous()]

        assert asyncio.run(read()) == [("acme", None)] * 2

    def test_orders_attribution_from_the_call_to_the_default(self, plane: MemoryPlane) -> None:
        gate = MemoryGate(plane, defaults=Attribution("default", "default", "default", "p"))
        with context(customer="context", user="context"):
            gate.admit(asked(said=Attribution("call"), framework=Attribution("fw", "fw", "fw")))
        assert plane.decisions[0].subject == {
            "customer": "call",
            "user": "context",
            "run": "fw",
            "project": "p",
        }

    def test_reads_headers(self) -> None:
        said = from_headers(
            {
                "X-Noburn-Customer": "na%C3%AFve",
                "x-noburn-tags": "feature=chat, team=blue",
                "x-noburn-max-input-tokens": "5",
                "accept": "x",
            }
        )
        assert said == Attribution("naïve", tags={"feature": "chat", "team": "blue"}, max_input_tokens=5)
        with pytest.raises(InvalidRequestError, match="x-noburn-custommer"):
            from_headers({"x-noburn-custommer": "acme", "x-noburn-max-output-tokens": "many"})

    def test_lets_through_what_is_gated_by_hand(self) -> None:
        @ungated()
        def inside() -> bool:
            return is_ungated()

        assert inside()
        assert not is_ungated()


class TestMixedErrors:
    def test_are_of_both_kinds_and_cross_processes(self) -> None:
        error: Any = mixed(BudgetExceededError(Denied("budget_exceeded")), Foreign)
        assert isinstance(error, BudgetExceededError)
        assert isinstance(error, Foreign)
        assert isinstance(error, RuntimeError)
        assert (type(error).__name__, error.reason) == ("BudgetExceededError", "budget_exceeded")
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.args, again.reason) == (type(error), error.args, error.reason)
        assert mixed(error, Foreign) is error

    def test_keep_what_they_are_where_the_framework_is_missing(self) -> None:
        from noburn_sdk.errors import _rebuild_mixed

        error = _rebuild_mixed(NoburnError, "no_such_framework", "Error", ("text",), {"status": 1})
        assert (type(error), str(error)) == (NoburnError, "text")
