"""The checks of the original client that wait for their event, and the events that came; docs/original-client.md.

Kept in Redis beside the holds, by plain commands, each of which is right on its own: a check is claimed by removing it,
which succeeds once. Everything has a time to live and a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple
from uuid import UUID

from budgets.domain.open_checks import (
    REMEMBERED_MS,
    OpenCheck,
    bucket_of,
    in_order,
    older_buckets,
    recent_buckets,
)
from budgets.services.epochs import CountersUnavailable
from budgets.stores.redis.connection import RedisClient, RedisError, RedisUnavailable, Reply
from budgets.stores.redis.keys import event_key, open_checks_key

OPEN_MAX: Final = 10_000
"""The most checks of one group that wait in one span of time."""

LOOK_MAX: Final = 64
"""The most checks that are looked at on either side of an event's cost, in one span of time."""

CLAIMS_MAX: Final = 10_000
"""The most equal events that are told apart."""

KEPT_SECONDS: Final = REMEMBERED_MS // 1000
FIRST, LATE = b"first", b"late"
RECORDED: Final = "recorded"
"""Stands in the place of an authorization that is settled."""


class TooManyOpen(CountersUnavailable):
    """Too many checks of one group wait for an event that never came."""


class Claim(NamedTuple):
    """A check that a delivery of an event took. An empty authorization: it is settled."""

    check: str
    at_ms: int
    authorization: str


class Delivery(NamedTuple):
    """What is known of an event as one delivery of it arrives."""

    is_first: bool
    first_ms: int
    claims: tuple[Claim, ...]
    late: str
    """The authorization by which it is recorded without a check, RECORDED once it is, or empty."""


class OpenChecks:
    """Keeps checks until their event comes."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def add(
        self, tenant_id: UUID, group: str, *, authorization: str, placed_ms: int, cost_nano: int
    ) -> None:
        """Keeps a check. Raises CountersUnavailable, and TooManyOpen, with nothing kept."""
        key = open_checks_key(tenant_id, group, bucket_of(placed_ms))
        # Of equal scores the members' order counts: the oldest is the first.
        member = f"{placed_ms:014d}:{authorization}"
        try:
            _, _, waiting = await asyncio.gather(
                self._redis.call("ZADD", key, cost_nano, member),
                self._redis.call("EXPIRE", key, KEPT_SECONDS),
                self._redis.call("ZCARD", key),
            )
            if waiting > OPEN_MAX:
                await self._redis.call("ZREM", key, member)
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error
        if waiting > OPEN_MAX:
            raise TooManyOpen(f"{OPEN_MAX} checks of this kind wait for their event")

    async def arrived(self, tenant_id: UUID, event: str, *, now_ms: int) -> Delivery:
        """Notes that an event was delivered, and returns what is known of it. Raises CountersUnavailable."""
        key = event_key(tenant_id, event)
        try:
            is_first, _, pairs = await asyncio.gather(
                self._redis.call("HSETNX", key, FIRST, now_ms),
                self._redis.call("EXPIRE", key, KEPT_SECONDS),
                self._redis.call("HGETALL", key),
            )
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error
        told = dict(zip(pairs[::2], pairs[1::2], strict=True))
        claims = tuple(
            _claim(check.decode(), text) for check, text in told.items() if check not in (FIRST, LATE)
        )
        return Delivery(bool(is_first), int(told[FIRST]), claims, told.get(LATE, b"").decode())

    async def candidates(
        self, tenant_id: UUID, group: str, *, cost_nano: int, now_ms: int, placed_until_ms: int
    ) -> list[OpenCheck]:
        """Returns the checks that an event may answer, the best first: those whose hold stands before all others.

        Raises CountersUnavailable.
        """
        for buckets in (recent_buckets(now_ms), older_buckets(now_ms)):
            found = await self._look(tenant_id, group, buckets, cost_nano)
            fitting = [check for check in found if check.placed_ms <= placed_until_ms]
            if fitting:
                return in_order(fitting, cost_nano=cost_nano)
        return []

    async def _look(
        self, tenant_id: UUID, group: str, buckets: Iterable[int], cost_nano: int
    ) -> list[OpenCheck]:
        asked = [(bucket, open_checks_key(tenant_id, group, bucket)) for bucket in buckets]
        limit: tuple[str | int, ...] = ("LIMIT", 0, LOOK_MAX, "WITHSCORES")
        try:
            replies: list[Reply] = await asyncio.gather(
                *(self._redis.call("ZRANGE", key, cost_nano, "+inf", "BYSCORE", *limit) for _, key in asked),
                *(
                    self._redis.call("ZRANGE", key, f"({cost_nano}", "-inf", "BYSCORE", "REV", *limit)
                    for _, key in asked
                ),
            )
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error
        return [
            _check(bucket, member, score)
            for (bucket, _), reply in zip((*asked, *asked), replies, strict=True)
            for member, score in zip(reply[::2], reply[1::2], strict=True)
        ]

    async def claim(
        self, tenant_id: UUID, group: str, event: str, check: OpenCheck, *, name: str, now_ms: int
    ) -> bool:
        """Takes a check for an event; False if another delivery has it. Raises CountersUnavailable.

        The claim is written first: a delivery that ends between the two is repeated, and finds it.
        """
        key = event_key(tenant_id, event)
        member = f"{check.placed_ms:014d}:{check.authorization}"
        try:
            known = await self._redis.call("HLEN", key)
            if known > CLAIMS_MAX:
                raise TooManyOpen(f"{CLAIMS_MAX} equal events came within an hour")
            written = await self._redis.call("HSETNX", key, name, f"{now_ms}:{check.authorization}")
            if not written:
                # Another delivery of the same event is at it.
                return False
            taken = await self._redis.call("ZREM", open_checks_key(tenant_id, group, check.bucket), member)
            if not taken:
                await self._redis.call("HDEL", key, name)
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error
        return bool(taken)

    async def take(self, tenant_id: UUID, group: str, *, authorization: str, placed_ms: int) -> None:
        """Removes a check, whether or not it is there still. Raises CountersUnavailable."""
        key = open_checks_key(tenant_id, group, bucket_of(placed_ms))
        try:
            await self._redis.call("ZREM", key, f"{placed_ms:014d}:{authorization}")
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error

    async def settled(self, tenant_id: UUID, event: str, name: str, *, now_ms: int) -> None:
        """Notes that what an event took is settled; an empty name: what it is recorded by without a check.

        What does not arrive costs a repetition, which changes nothing.
        """
        what = (name, f"{now_ms}:") if name else (LATE, RECORDED)
        try:
            await self._redis.call("HSET", event_key(tenant_id, event), *what)
        except (RedisUnavailable, RedisError):
            return

    async def failed(self, tenant_id: UUID, event: str, name: str, authorization: str) -> None:
        """Notes that a claim could not be settled, so that the next delivery of its event settles it at once."""
        try:
            await self._redis.call("HSET", event_key(tenant_id, event), name, f"0:{authorization}")
        except (RedisUnavailable, RedisError):
            return

    async def let_go(self, tenant_id: UUID, event: str, name: str) -> None:
        """Forgets a claim whose hold was settled by another. Raises CountersUnavailable."""
        try:
            await self._redis.call("HDEL", event_key(tenant_id, event), name)
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error

    async def late(self, tenant_id: UUID, event: str, authorization: str) -> str:
        """Keeps what an event is recorded by that answers no check; the first one stands. Raises CountersUnavailable."""
        key = event_key(tenant_id, event)
        try:
            _, kept = await asyncio.gather(
                self._redis.call("HSETNX", key, LATE, authorization), self._redis.call("HGET", key, LATE)
            )
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error
        return (kept or b"").decode()


def _claim(check: str, text: bytes) -> Claim:
    at_ms, _, authorization = text.decode().partition(":")
    return Claim(check, int(at_ms), authorization)


def _check(bucket: int, member: bytes, score: bytes) -> OpenCheck:
    placed_ms, _, authorization = member.decode().partition(":")
    return OpenCheck(int(float(score)), int(placed_ms), bucket, authorization)
