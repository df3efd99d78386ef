"""Every way to gate a client x every kind of call x what may become of it, against a real noburn.

Refused: nothing reaches the provider, and one refusal is raised. Settled: what the provider's usage costs.
"""

from __future__ import annotations

import asyncio
import gc
from decimal import Decimal
from typing import Any

import noburn_sdk
import openai
import pytest
from noburn_sdk import BudgetExceededError, Gate

from tests.doubles.provider import ProviderDouble
from tests.sdk.calls import ANTHROPIC, CHAT, CLAUDE, EMBEDDING, ENTRIES, KINDS, OPENAI, STREAMS, client
from tests.sdk.conftest import Counting
from tests.sdk.plane import Customer, Plane

pytestmark = pytest.mark.real_db

ALL = [*OPENAI, *ANTHROPIC]
USD_PER_MILLION = {
    CHAT: (Decimal("0.15"), Decimal("0.6")),
    EMBEDDING: (Decimal("0.02"), Decimal(0)),
    CLAUDE: (Decimal(1), Decimal(5)),
}
"""What these models cost, by their providers' pages."""

both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
every_entry = pytest.mark.parametrize("entry", ENTRIES)


def cost(entry: dict[str, Any]) -> Decimal:
    """What the provider bills for a call of the double's ledger."""
    rates = USD_PER_MILLION[entry["model"]]
    metered = entry["metered"]
    tokens = Decimal(metered["input_tokens"]), Decimal(metered["output_tokens"])
    return (tokens[0] * rates[0] + tokens[1] * rates[1]) / 10**6


def settled(gate: Gate, acme: Customer) -> list[dict[str, Any]]:
    """What noburn booked, once everything has arrived."""
    assert gate.flush()
    return acme.ledger()


@every_entry
@both
@pytest.mark.parametrize("kind", ALL)
class TestGating:
    def test_settles_what_the_provider_billed(
        self, gate: Gate, acme: Customer, double: ProviderDouble, kind: str, entry: str, asynchronous: bool
    ) -> None:
        with client(kind, entry, double, asynchronous=asynchronous) as made:
            with noburn_sdk.context(customer=acme.name, tags={"feature": "test"}):
                answer = made.call(kind)
            assert answer
        (billed,) = double.ledger()
        assert billed["noburn_headers"] == []
        (booked,) = settled(gate, acme)
        assert Decimal(booked["cost_usd"]) == cost(billed)
        assert (booked["kind"], booked["outcome"]) == ("settled", "ok")
        assert booked["tags"] == {"feature": "test"}
        assert Decimal(10) - acme.remaining() == cost(billed)

    def test_refuses_before_anything_is_sent(
        self,
        gate: Gate,
        plane: Plane,
        double: ProviderDouble,
        kind: str,
        entry: str,
        asynchronous: bool,
    ) -> None:
        poor = plane.customer("0.000000001")
        with (
            client(kind, entry, double, asynchronous=asynchronous, max_retries=2) as made,
            noburn_sdk.context(customer=poor.name),
            pytest.raises(BudgetExceededError) as refusal,
        ):
            made.call(kind)
        base = openai.OpenAIError if kind in OPENAI else __import__("anthropic").AnthropicError
        assert isinstance(refusal.value, base)
        assert isinstance(refusal.value, RuntimeError)
        assert refusal.value.scope == "customer"
        assert double.ledger() == []
        # Nobody asked again: a refusal is raised once.
        assert isinstance(gate.authority, Counting)
        assert gate.authority.questions == 1
        assert settled(gate, poor) == []

    def test_frees_the_hold_of_every_failed_attempt(
        self, gate: Gate, acme: Customer, double: ProviderDouble, kind: str, entry: str, asynchronous: bool
    ) -> None:
        double.control(fail_status=503, retry_after="0")
        with (
            client(kind, entry, double, asynchronous=asynchronous, max_retries=1) as made,
            noburn_sdk.context(customer=acme.name),
            pytest.raises(Exception, match="503"),
        ):
            made.call(kind)
        assert len(double.ledger()) == 2
        assert [booked["kind"] for booked in settled(gate, acme)] == ["voided", "voided"]
        assert acme.remaining() == 10


@every_entry
@both
class TestFailures:
    @pytest.mark.parametrize("kind", ["chat", "messages"])
    def test_frees_a_hold_when_nobody_listens(
        self, gate: Gate, acme: Customer, kind: str, entry: str, asynchronous: bool
    ) -> None:
        gone = ProviderDouble()
        with (
            client(kind, entry, gone, asynchronous=asynchronous) as made,
            noburn_sdk.context(customer=acme.name),
            pytest.raises(Exception, match=r"[Cc]onnection"),
        ):
            made.call(kind)
        assert [booked["kind"] for booked in settled(gate, acme)] == ["voided"]

    @pytest.mark.parametrize("kind", ["chat", "messages"])
    def test_presumes_what_was_lost_on_its_way_back(
        self, gate: Gate, acme: Customer, double: ProviderDouble, kind: str, entry: str, asynchronous: bool
    ) -> None:
        double.control(cut_after_chunks=1)
        with (
            client(kind, entry, double, asynchronous=asynchronous) as made,
            noburn_sdk.context(customer=acme.name),
            pytest.raises(Exception),  # noqa: B017, PT011
        ):
            made.call(kind)
        (billed,) = double.ledger()
        (booked,) = settled(gate, acme)
        assert (booked["kind"], booked["outcome"]) == ("presumed", "cut")
        assert Decimal(booked["cost_usd"]) >= cost(billed)

    @pytest.mark.parametrize("kind", STREAMS)
    def test_settles_what_was_seen_of_a_stream_that_was_cut(
        self, gate: Gate, acme: Customer, double: ProviderDouble, kind: str, entry: str, asynchronous: bool
    ) -> None:
        double.control(output_tokens=100, chunk_tokens=10, cut_after_chunks=4)
        with (
            client(kind, entry, double, asynchronous=asynchronous) as made,
            noburn_sdk.context(customer=acme.name),
            pytest.raises(Exception),  # noqa: B017, PT011
        ):
            made.call(kind)
        (billed,) = double.ledger()
        assert billed["metered"]["output_tokens"] == 40
        (booked,) = settled(gate, acme)
        assert (booked["kind"], booked["outcome"]) == ("settled", "cut")
        assert 0 < Decimal(booked["cost_usd"]) <= cost(billed) * 2
        assert booked["usage"]["output_tokens"] >= 40 * 0.75


@every_entry
@pytest.mark.parametrize("kind", STREAMS)
class TestStreamsThatEndEarly:
    def test_settles_what_was_seen_of_one_that_was_closed(
        self, gate: Gate, acme: Customer, double: ProviderDouble, kind: str, entry: str
    ) -> None:
        double.control(output_tokens=100, chunk_tokens=10, chunk_delay_ms=20)
        with (
            client(kind, entry, double, asynchronous=False) as made,
            noburn_sdk.context(customer=acme.name),
        ):
            stream = KINDS[kind][0](made.client)
            _until_text(stream)
            stream.close()
        (booked,) = settled(gate, acme)
        assert booked["outcome"] == "cut"
        assert Decimal(booked["cost_usd"]) > 0

    def test_settles_what_was_seen_of_one_that_was_abandoned(
        self, gate: Gate, acme: Customer, double: ProviderDouble, kind: str, entry: str
    ) -> None:
        double.control(output_tokens=100, chunk_tokens=10, chunk_delay_ms=20)
        with client(kind, entry, double, asynchronous=False) as made:
            with noburn_sdk.context(customer=acme.name):
                stream = KINDS[kind][0](made.client)
                _until_text(stream)
            del stream
            gc.collect()
            (booked,) = settled(gate, acme)
        assert booked["outcome"] == "cut"
        assert Decimal(booked["cost_usd"]) > 0

    def test_settles_what_was_seen_of_a_task_that_was_cancelled(
        self, gate: Gate, acme: Customer, double: ProviderDouble, kind: str, entry: str
    ) -> None:
        double.control(output_tokens=100, chunk_tokens=10, chunk_delay_ms=20)

        async def cancelled(inner: Any) -> None:
            begun = asyncio.Event()

            async def reading() -> None:
                with noburn_sdk.context(customer=acme.name):
                    async for event in await KINDS[kind][0](inner):
                        if "ok" in repr(event):
                            begun.set()

            task = asyncio.create_task(reading())
            await begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        with client(kind, entry, double, asynchronous=True) as made:
            made.run(lambda inner: None, cancelled)
        (booked,) = settled(gate, acme)
        assert booked["outcome"] == "cut"
        assert Decimal(booked["cost_usd"]) > 0


def _until_text(stream: Any) -> None:
    for event in stream:
        if "ok" in repr(event):
            return
