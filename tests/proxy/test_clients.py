"""The providers' own clients through the proxy: only the base URL is another one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.conftest import CALLERS_KEY, Keys
from tests.proxy.running import Proxy
from tests.proxy.settling import booked, resolved
from tests.sdk.calls import ANTHROPIC, CHAT, MESSAGES, OPENAI, Client
from tests.sdk.plane import Customer, Plane
from tests.sdk.test_matrix import cost

pytestmark = pytest.mark.real_db

ALL = [*OPENAI, *ANTHROPIC]
both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


def headers_of(plane: Plane, customer: str, **more: str) -> dict[str, str]:
    """What says which tenant asks, and for whom."""
    said = {f"x-noburn-{name.replace('_', '-')}": value for name, value in more.items()}
    return {"x-noburn-key": plane.secret, "x-noburn-customer": customer, **said}


@contextmanager
def client(
    kind: str, proxy: Proxy, headers: dict[str, str], *, asynchronous: bool = False, key: str = CALLERS_KEY
) -> Iterator[Client]:
    """A plain client of the provider's, pointed to the proxy. It repeats what its answers let it repeat."""
    family, name = (openai, "OpenAI") if kind in OPENAI else (anthropic, "Anthropic")
    url = proxy.openai_url if kind in OPENAI else proxy.anthropic_url
    made: Any = getattr(family, f"Async{name}" if asynchronous else name)
    inner = made(base_url=url, api_key=key, default_headers=headers, timeout=120)
    if not asynchronous:
        with inner:
            yield Client(inner, asynchronous=False)
        return
    with asyncio.Runner() as loop:
        try:
            yield Client(inner, asynchronous=True, loop=loop)
        finally:
            loop.run(inner.close())


@both
@pytest.mark.parametrize("kind", ALL)
class TestClients:
    def test_are_answered_and_settled_by_what_the_provider_billed(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble, kind: str, asynchronous: bool
    ) -> None:
        acme = plane.customer()
        with client(
            kind, proxy, headers_of(plane, acme.name, tags="feature=test"), asynchronous=asynchronous
        ) as made:
            assert made.call(kind)
        (billed,) = double.ledger()
        assert billed["noburn_headers"] == []
        (entry,) = booked(acme)
        assert Decimal(entry["cost_usd"]) == cost(billed)
        assert (entry["kind"], entry["outcome"], entry["tags"]) == ("settled", "ok", {"feature": "test"})
        resolved(acme, 10 - cost(billed))

    def test_are_refused_once_before_anything_is_sent(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble, kind: str, asynchronous: bool
    ) -> None:
        poor = plane.customer("0.000000001")
        family = openai if kind in OPENAI else anthropic
        with (
            client(kind, proxy, headers_of(plane, poor.name), asynchronous=asynchronous) as made,
            pytest.raises(family.APIStatusError) as caught,
        ):
            made.call(kind)
        assert caught.value.status_code == 402
        assert "budget_exceeded" in str(caught.value)
        headers = caught.value.response.headers
        assert headers["x-noburn-reason"] == "budget_exceeded"
        assert headers["x-noburn-remaining-usd"] == "0.000000001"
        assert "raise customer budget bud_" in headers["x-noburn-remedy"]
        assert double.ledger() == []
        proxy.accesses(1)
        assert poor.ledger() == []


class TestFailures:
    @pytest.mark.parametrize("kind", ["chat", "messages"])
    def test_free_the_hold_and_reach_the_client_as_they_are(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble, kind: str
    ) -> None:
        acme = plane.customer("1")
        double.control(fail_status=400)
        family = openai if kind in OPENAI else anthropic
        with (
            client(kind, proxy, headers_of(plane, acme.name)) as made,
            pytest.raises(family.BadRequestError, match="told to fail"),
        ):
            made.call(kind)
        resolved(acme, "1")
        assert [entry["kind"] for entry in acme.ledger()] == ["voided"] or acme.ledger() == []

    def test_are_tried_again_by_the_client_with_a_hold_each(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        acme = plane.customer("1")
        double.control(script=[{"fail_status": 500}, {"fail_status": 429}])
        with client("chat", proxy, headers_of(plane, acme.name)) as made:
            assert made.call("chat")
        assert [call["status"] for call in double.ledger()] == [500, 429, 200]
        assert [line["decision"] for line in proxy.accesses(3)] == ["allow"] * 3


class TestVirtualKeys:
    def test_are_swapped_for_the_providers_key_and_say_whom_the_call_is_for(
        self, proxy: Proxy, house: Plane, double: ProviderDouble, virtual: Keys
    ) -> None:
        before = len(Customer(house, "house-acme").ledger())
        with client("chat", proxy, {}, key=virtual["acme"]) as made:
            assert made.call("chat")
        entry = booked(Customer(house, "house-acme"), before + 1)[-1]
        assert entry["tags"] == {"team": "blue"}
        (line,) = proxy.accesses()
        assert line["caller"] == "acme"


class TestWhatIsInjected:
    def test_a_call_without_a_cap_is_capped_and_told_so(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        acme = plane.customer()
        with client("chat", proxy, headers_of(plane, acme.name)) as made:
            raw = made.client.chat.completions.with_raw_response.create(model=CHAT, messages=MESSAGES)
        assert raw.headers["x-noburn-max-output-tokens"] == "4096"
        assert Decimal(raw.headers["x-noburn-remaining-usd"]) < 10
        assert double.ledger()[0]["cap"] == 4096

    def test_a_stream_keeps_the_usage_from_who_did_not_ask_for_it(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        acme = plane.customer()
        with client("chat stream", proxy, headers_of(plane, acme.name)) as made:
            plain = made.call("chat stream")
            asked = made.call("chat stream", stream_options={"include_usage": True})
        assert all(chunk.choices and chunk.usage is None for chunk in plain)
        assert asked[-1].usage is not None
        assert len(asked) == len(plain) + 1
        assert [entry["kind"] for entry in booked(acme, 2)] == ["settled", "settled"]
