"""A proxy that decides about calls from leases: without asking, and never beyond a budget."""

from __future__ import annotations

from decimal import Decimal

import httpx
import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.conftest import Start
from tests.proxy.programs import beside
from tests.proxy.settling import resolved
from tests.proxy.test_budgets import COST, OUTPUT_TOKENS, many
from tests.proxy.test_bytes import BEARER
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

SECONDS = 120
DRAWN, CALLS_MAX = 20, 600
CAPPED = {"max_tokens": OUTPUT_TOKENS}
BODY = {"model": "gpt-4", **CAPPED, "messages": [{"role": "user", "content": "hello"}]}


class TestLeases:
    def test_decide_about_calls_and_all_of_them_are_booked(
        self, start: Start, plane: Plane, double: ProviderDouble
    ) -> None:
        proxy, acme, poor = start(gate={"leases": True}), plane.customer("100"), plane.customer("0.1")
        double.control(output_fraction=1.0)
        calls = drawn = 0
        with httpx.Client(base_url=proxy.openai_url, timeout=SECONDS, trust_env=False) as http:
            headers = {**BEARER, **headers_of(plane, acme.name)}
            while drawn < DRAWN:
                assert calls < CALLS_MAX
                answer = http.post("/chat/completions", json=BODY, headers=headers)
                assert (answer.status_code, Decimal(answer.headers["x-noburn-held-usd"])) == (200, COST)
                calls += 1
                drawn = sum(":" in line["hold"] for line in proxy.accesses(calls))
        # Ten of these fit into this budget, leased or not.
        answers = beside(plane, lambda: many(proxy, {**BEARER, **headers_of(plane, poor.name)}, 60, **CAPPED))
        reached = sum(answer.status_code == 200 for answer in answers)
        assert 1 <= reached <= 10
        assert {answer.status_code for answer in answers} == {200, 402}
        assert proxy.stop() == 0
        # Its leases were given back at its end, and nothing is held any more.
        for customer, limit, count in ((acme, 100, calls), (poor, Decimal("0.1"), reached)):
            resolved(customer, limit - count * COST)
            costs = [entry["cost_usd"] for entry in customer.ledger() if entry["kind"] == "settled"]
            assert costs == [COST] * count
