"""What a budget with learned estimates risks: by how much calls in flight may use more than it holds for them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import redis
from django.conf import settings

from budgets.domain.authorization import HoldBody, hold_from
from budgets.domain.policy import Metric
from budgets.queries.exposure import counters_of, open_epoch
from budgets.stores.redis.keys import Keys, shard_of
from noburn.kit.redis_cluster import servers_of

HOLDS_MAX = 20_000
"""The most holds of the tenant's shard that are looked at."""

PAGE = 500
REDIS_SECONDS = 2.0


class CountersAway(Exception):
    """Redis cannot be asked, or no epoch is open: nothing is known of calls in flight."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Calls in flight under a budget: their number, what is held for them, and by how much their bounds exceed it.

    Amounts are in the budget's unit. `complete` is False when there were more holds than are looked at.
    """

    calls: int
    held: int
    exposure: int
    complete: bool


def exposure_of(*, tenant_id: UUID, budget_id: UUID) -> Exposure:
    """Adds up the holds in flight of one budget, as Redis has them. Raises CountersAway."""
    shard = shard_of(tenant_id)
    epoch_id = open_epoch(shard=shard)
    if epoch_id is None:
        raise CountersAway("no epoch is open")
    mine: list[HoldBody] = []
    keys = Keys(shard=shard, epoch_id=epoch_id)
    try:
        server = servers_of(settings.REDIS_URL, [keys.expiries], seconds=REDIS_SECONDS)[keys.expiries]
        with redis.Redis.from_url(
            server, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        ) as client:
            names = client.zrange(keys.expiries, 0, HOLDS_MAX)
            for at in range(0, min(len(names), HOLDS_MAX), PAGE):
                pipe = client.pipeline(transaction=False)
                for name in names[at : at + PAGE]:
                    pipe.hmget(name, "at", "ex", "inc", "body")
                for placed, expires, inc, body in pipe.execute():
                    if body is None:
                        continue
                    hold = hold_from(
                        body=body, placed_ms=int(placed), expires_ms=int(expires), incarnations=inc
                    )
                    if hold.body.tenant_id == tenant_id:
                        mine.append(hold.body)
    except redis.RedisError as error:
        raise CountersAway(str(error)) from error
    wanted = counters_of(
        tenant_id=tenant_id,
        budget_id=budget_id,
        among=sorted({counter.counter_id for body in mine for counter in body.counters}),
    )
    amounts = [
        (counter.amount, _bound(body, counter.metric))
        for body in mine
        for counter in body.counters
        if counter.counter_id in wanted
    ]
    return Exposure(
        calls=len(amounts),
        held=sum(held for held, _ in amounts),
        exposure=sum(bound - held for held, bound in amounts),
        complete=len(names) <= HOLDS_MAX,
    )


def _bound(body: HoldBody, metric: str) -> int:
    """The most that the held call can use, in a metric's unit."""
    if metric == Metric.USD:
        return body.cost_nano
    return body.input_tokens + body.n * body.max_output_tokens if metric == Metric.TOKENS else 1
