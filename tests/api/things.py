"""One thing of each kind that a tenant can have, made over the API as a client would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import uuid4


class Speaks(Protocol):
    """Somebody who sends requests and reads JSON, in this process or over a socket."""

    def send(self, method: str, path: str, body: Any = None) -> Any: ...


def made(caller: Speaks, method: str, path: str, body: Any = None) -> Mapping[str, Any]:
    """The body of an answer that must be good."""
    answer = caller.send(method, path, body)
    assert 200 <= answer.status < 300, f"{method} {path}: {answer}"
    body_: Mapping[str, Any] = answer.body
    return body_


def make_things(caller: Speaks, word: str) -> dict[str, str]:
    """Makes them; their ids by prefix. `word` is in every name, so that a test can look for it."""
    own = f"{word}-{uuid4().hex[:8]}"
    found: dict[str, str] = {}

    def keep(prefix: str, path: str, body: Any, method: str = "POST") -> None:
        thing = str(made(caller, method, path, body)["id"])
        assert thing.startswith(f"{prefix}_"), (path, thing)
        found[prefix] = thing

    keep("prj", "/v1/projects", {"slug": own, "name": own})
    keep("cus", "/v1/customers", {"external_id": own, "name": own})
    keep("key", "/v1/api-keys", {"name": own})
    keep("mem", "/v1/members", {"email": f"{own}@example.com", "role": "viewer"})
    keep("bud", "/v1/budgets", {"name": own, "scope": "customer", "window": "month", "limit_usd": "10"})
    budget = f"/v1/budgets/{found['bud']}"
    keep("ovr", f"{budget}/overrides", {"subject": own, "limit_usd": "20"}, "PUT")
    keep("inc", f"{budget}/increases", {"subject": own, "amount_usd": "5", "windows": 1, "reason": own})
    price = {"unit": "input_tokens", "price_usd": "0.0000003"}
    rule = {"name": own, "then": {"action": "allow"}}
    keep("pol", "/v1/policies", {"name": own, "rules": [rule]})
    keep("pov", "/v1/price-overrides", {"provider": "openai", "model": own, "prices": [price], "note": own})
    keep("rrt", "/v1/reratings", {"starts_at": "2026-11-01T00:00:00Z", "customer": own, "reason": own})
    loop = {"kind": "repeat", "scope": "customer", "limits": {"times": 5, "seconds": 60}, "name": own}
    keep("grd", "/v1/guards", loop)
    keep("rcd", "/v1/rate-cards", {"name": own, "terms": {"markup_percent": "20"}, "note": own})
    card = f"/v1/rate-cards/{found['rcd']}/versions"
    found["rcv"] = made(caller, "GET", card)["items"][0]["id"]
    assigned = {"rate_card": found["rcd"], "customers": [own]}
    found["rca"] = made(caller, "POST", "/v1/rate-card-assignments", assigned)["items"][0]["id"]
    keep("wal", "/v1/wallets", {"customer": own})
    keep(
        "crg", f"/v1/wallets/{found['wal']}/grants", {"amount_usd": "5", "kind": "promotional", "reason": own}
    )
    keep("eml", "/v1/alert-emails", {"email": f"{own}@example.com"})
    keep("whe", "/v1/webhook-endpoints", {"url": f"https://hooks.example.com/{own}"})
    keep("dlv", f"/v1/webhook-endpoints/{found['whe']}/ping", {})
    found["alr"] = made(caller, "GET", "/v1/alerts")["items"][0]["id"]
    found["aud"] = made(caller, "GET", "/v1/audit")["items"][0]["id"]
    return found
