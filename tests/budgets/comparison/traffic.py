"""Calls of a tenant through the real gateway, and the questions that tests ask about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from budgets.domain.comparison_question import read_asked
from budgets.services import metering
from budgets.services.comparison import Compared, compare
from tests.support.api import Api

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account

PATH = "/v1/compare"
MINI = "openai/gpt-4o-mini"
HAIKU = "anthropic/claude-haiku-4-5"


def call(account: Account, model: str, usage: dict[str, Any], **fields: Any) -> Answer:
    """One call from pre-flight to settlement."""
    names = {"reported": "model", "cost_usd": "cost_usd", "outcome": "outcome"}
    settled: dict[str, Any] = {
        names[name]: fields.pop(name) for name in ("reported", "cost_usd", "outcome") if name in fields
    }
    placed = account.place(
        model=model,
        input_tokens=max(1, usage.get("input_tokens", 0)),
        max_output_tokens=max(1, usage.get("output_tokens", 0)),
        **fields,
    )
    assert placed.decision == "allow", placed
    answer = account.settle(placed, usage=usage, **settled)
    assert answer.status == 200, answer
    return answer


def roll() -> None:
    """Rolls up all that there is."""
    for _ in range(1_000):
        if not metering.roll(now=datetime.now(UTC)).more:
            return
    raise AssertionError("there is always more to roll up")


def api_of(account: Account, **options: Any) -> Api:
    """The management API as a key of the account sees it."""
    return Api(secret=account.key(("read",), **options).secret)


def compared(account: Account, models: str = "", *, calls_max: int = 20_000, **query: str) -> Compared:
    """A comparison as the service makes it."""
    params = {name.rstrip("_"): value for name, value in query.items()}
    if models:
        params["models"] = models
    now = datetime.now(UTC)
    return compare(
        tenant_id=account.tenant_id, asked=read_asked(params, now=now), now=now, calls_max=calls_max
    )
