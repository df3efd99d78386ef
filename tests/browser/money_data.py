"""A tenant with a bit of everything that the pages about models, billing and alerts show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from tests.api.serving import Serving

CALLS = (
    ("gpt-4o-mini", "acme", {"input_tokens": 20_300, "output_tokens": 150, "cache_read_tokens": 18_000}),
    ("gpt-4o-mini", "globex", {"input_tokens": 4_000, "output_tokens": 900}),
    ("claude-haiku-4-5", "acme", {"input_tokens": 9_000, "output_tokens": 700, "cache_read_tokens": 4_000}),
)
WHOM = {"customer": "acme", "run": "research-42"}
POLLS_MAX = 600
_FILL = "import json; from tests.browser.money_filling import fill; print(json.dumps(fill({slug!r})))"


def make(running: Serving, slug: str) -> dict[str, str]:
    """Fills a tenant that is there already; ids by what they are of."""
    made: dict[str, str] = running.manage("shell", "--verbosity", "0", "-c", _FILL.format(slug=slug))
    key = running.key(made["tenant"])
    with httpx.Client(base_url=running.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        for model, customer, usage in CALLS:
            asked = {"model": model, "input_tokens": 30_000, "max_output_tokens": 2_000}
            placed = _post(client, "/v1/preflight", {**asked, "subject": {"customer": customer}})
            assert placed["decision"] == "allow", placed
            _post(client, "/v1/settle", {"authorization": placed["authorization"], "usage": usage})
        refused = {"model": "homegrown-7b", "input_tokens": 10, "max_output_tokens": 10}
        assert _post(client, "/v1/preflight", refused)["reason"] == "price_unknown"
        for _ in range(POLLS_MAX):
            if client.get("/v1/compare").json()["totals"]["calls"] == len(CALLS):
                break
        _runs(client)
        made["rerating"] = _rerating(client)
        customer = client.get("/v1/customers", params={"external_id": "acme"}).json()["items"][0]["id"]
        made["embed"] = _post(client, f"/v1/customers/{customer}/balance-token", {})["url"]
    return made


def _runs(client: httpx.Client) -> None:
    """A run with another one below it, of which one call is settled and nobody says what the other one used."""
    caps = {"usd": "2", "steps": 40, "seconds": 3600, "depth": 2}
    about = {"subject": {"customer": "acme"}, "metadata": {"agent": "researcher"}}
    _post(client, "/v1/runs", {"run": "research-42", "caps": caps, **about})
    _post(client, "/v1/runs", {"run": "research-42/reader", "parent": "research-42", "caps": {"steps": 5}})
    asked = {"model": "gpt-4o", "input_tokens": 6_000, "max_output_tokens": 800, "task": "summarize"}
    for run, usage in (
        ("research-42", {"input_tokens": 5_800, "output_tokens": 420}),
        ("research-42/reader", None),
    ):
        placed = _post(client, "/v1/preflight", {**asked, "subject": {**WHOM, "run": run}})
        assert placed["decision"] == "allow", placed
        _post(client, "/v1/settle", {"authorization": placed["authorization"], "usage": usage})
    large = {**asked, "input_tokens": 90_000, "subject": WHOM}
    assert _post(client, "/v1/preflight", large)["reason"] == "call_too_large"


def _rerating(client: httpx.Client) -> str:
    """A contract that is entered too late, and what earlier calls should have cost; once workers have looked at them."""
    late = {"provider": "openai", "model": "gpt-4o-mini", "discount_percent": "20"}
    _post(client, "/v1/price-overrides", late)
    asked = {
        "starts_at": f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}",
        "reason": "the contract was entered late",
    }
    made = str(_post(client, "/v1/reratings", asked)["id"])
    for _ in range(POLLS_MAX):
        if client.get(f"/v1/reratings/{made}").json()["state"] == "previewed":
            break
    return made


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
    assert answer.status_code in (200, 201), answer.text
    return answer.json()
