"""What the original client sends, sent by hand: for what its own methods never do, or not twice alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noburn.kit.money import to_usd
from tests.support.asgi import Answer, send

if TYPE_CHECKING:
    from tests.support.world import Account

AT = "2026-11-30T12:00:00Z"
FIGURES = tuple(f"{who}_spend_usd" for who in ("project", "user", "run"))


def checking(account: Account, cost: Any = 0.0, **fields: Any) -> Any:
    """A check that is under way once awaited; of a tool without a price, or of the model that `fields` name."""
    body = {
        "project_id": "default",
        "model": "own-tool",
        "end_user_id": None,
        "run_id": None,
        "estimated_cost_usd": cost,
        "estimated_tokens_in": 10,
        "estimated_tokens_out": 10,
        "context": None,
        **fields,
    }
    return posting(account, "/api/v1/check", body)


def telling(account: Account, cost: float = 0.0, **fields: Any) -> Any:
    """An event that is under way once awaited."""
    body = {
        "project_id": "default",
        "model": "own-tool",
        "tokens_in": 10,
        "tokens_out": 10,
        "cost_usd": cost,
        "was_blocked": False,
        "block_reason": None,
        "end_user_id": None,
        "run_id": None,
        "latency_ms": None,
        "timestamp": AT,
        **fields,
    }
    return posting(account, "/api/v1/events", body)


def posting(account: Account, path: str, body: object, **options: Any) -> Any:
    """A POST as the client makes it: without an Idempotency-Key."""
    options.setdefault("secret", account.secret)
    return send(account.world.app, "POST", path, body=body, idempotency_key=None, **options)


def check(account: Account, cost: Any = 0.0, **fields: Any) -> Answer:
    """A check."""
    answer: Answer = account.world.run(checking(account, cost, **fields))
    return answer


def tell(account: Account, cost: float = 0.0, **fields: Any) -> Answer:
    """An event."""
    answer: Answer = account.world.run(telling(account, cost, **fields))
    return answer


def booked(account: Account) -> list[tuple[str, str]]:
    """What the ledger has, oldest first: the kind of each entry, and its cost in USD."""
    return [(row["kind"], to_usd(row["cost"])) for row in account.ledger()]


def open_checks(account: Account) -> list[str]:
    """The authorizations of the checks that wait for their event."""
    redis = account.world.redis
    keys = list(redis.scan_iter(f"*:o:{account.tenant_id.hex}:*"))
    assert all(0 < int(redis.ttl(key)) <= 3600 for key in keys)
    return [str(member).partition(":")[2] for key in keys for member in redis.zrange(key, 0, -1)]
