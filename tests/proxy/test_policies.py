"""A rule chooses the model of a call through the proxy, which sends it and says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import openai
import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.conftest import CALLERS_KEY
from tests.proxy.running import Proxy
from tests.proxy.settling import booked
from tests.proxy.test_clients import headers_of
from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db


class TestPolicies:
    def test_swap_the_model_by_the_task_and_the_shape_and_say_so(
        self, proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        from budgets.services.routing import PolicyFields, create_policy

        acme = plane.customer("1")
        rule = {
            "name": "short strict JSON",
            "when": {"customer": [acme.name], "task": ["extract"], "output": ["schema"]},
            "then": {"action": "use_tier", "tier": "small"},
        }
        made = PolicyFields(name="by task", rules=[rule], tiers={"openai": {"small": "gpt-4o-mini"}})
        tenant_id = plane.account.tenant_id
        create_policy(tenant_id=tenant_id, policy=made, actor="test", now=datetime.now(UTC))
        schema: Any = {"name": "s", "strict": True, "schema": {"type": "object"}}
        with openai.OpenAI(base_url=proxy.openai_url, api_key=CALLERS_KEY, timeout=240) as client:
            raw = client.chat.completions.with_raw_response.create(
                model="gpt-4o",
                messages=[{"role": "user", "content": "hello"}],
                max_completion_tokens=20,
                response_format={"type": "json_schema", "json_schema": schema},
                extra_headers=headers_of(plane, acme.name, task="extract"),
            )
        assert raw.headers["x-noburn-model"] == "gpt-4o-mini"
        assert raw.headers["x-noburn-policy"].endswith(": short strict JSON")
        assert raw.parse().model.startswith("gpt-4o-mini")
        assert double.summary()["requests"] == 1
        (entry,) = booked(acme, 1)
        assert entry["model"] == "gpt-4o-mini"
