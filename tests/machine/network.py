"""What becomes of the messages between the processes and the two stores: done, lost, answer lost, late, or twice."""

from __future__ import annotations

import hashlib
import random
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from budgets.stores.postgres.money import StorageUnavailable
from budgets.stores.redis.connection import NoScript, RedisError, RedisUnavailable

LOST, UNANSWERED, LATE, TWICE = 0.05, 0.10, 0.15, 0.20
ACKS_LOST = 0.3
HELD_UP = ("retired",)
"""What a controller that is held up may say much later."""

FLIGHT_MAX = 30

Send = Callable[[], Awaitable[Any]]


class Interrupted(Exception):
    """The process ended here."""


class Network:
    """Stands before the stores of the processes that it is put before; `chance` None lets everything through."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.chance: random.Random | None = None
        self.acks_lost = ACKS_LOST
        self.counts: Tally[str] = Tally()
        self.flight: list[tuple[str, Send]] = []
        self.steps_left: int | None = None
        self.dies_before: str | None = None
        self.on_load: Callable[[list[str], list[Any]], None] = lambda *_: None
        self._stood_before: list[tuple[Any, str, Any]] = []

    def before(self, services: Any) -> None:
        """Puts itself before the Redis and the PostgreSQL of a data plane or an operator."""
        redis, store = services._redis, services._store
        self._put(redis, "evalsha", self._before_script(redis.evalsha))
        for name in ("resolve", "grant"):
            self._put(store, name, self._before_statement(getattr(store, name)))
        self._put(store, "ack", self._before_ack(store.ack))
        for name in ("replace", "opened", "closing", "retire", "retired", "live_grants"):
            if hasattr(store, name):
                self._put(store, name, self._before_step(name, getattr(store, name)))

    def _put(self, owner: Any, name: str, stand_in: Any) -> None:
        self._stood_before.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, stand_in)

    def leave(self) -> None:
        """Takes itself away again."""
        for owner, name, before in self._stood_before:
            delattr(owner, name)
            if before is not None:
                setattr(owner, name, before)

    def _before_script(self, really: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def evalsha(sha: str, keys: list[str], args: list[Any]) -> Any:
            if not keys[0].startswith(self.tag):
                return await really(sha, keys, args)
            if len(keys) == 2 and len(args) == 7:
                self.on_load(keys, args)
            self._step()
            if self.chance is None or len(keys) == 1:
                # The controller's own, whose loss is its end; and those that nothing follows.
                return await really(sha, keys, args)
            fate = self.chance.random()
            if fate < LOST:
                self.counts["messages lost"] += 1
                raise RedisUnavailable("lost")
            if fate < UNANSWERED:
                self.counts["answers lost"] += 1
                await really(sha, keys, args)
                raise RedisUnavailable("answer lost")
            if fate < TWICE and len(self.flight) < FLIGHT_MAX:
                creates = len(keys) == 2 and len(args) == 7 and args[6] == "1"
                self.flight.append(("create" if creates else "script", lambda: really(sha, keys, args)))
                if fate < LATE:
                    self.counts["messages late"] += 1
                    raise RedisUnavailable("late")
                self.counts["messages twice"] += 1
            return await really(sha, keys, args)

        return evalsha

    def _before_statement(self, really: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def statement(*args: Any, **named: Any) -> Any:
            answer = await really(*args, **named)
            if self.chance is not None and self.chance.random() < LOST:
                self.counts["commits unanswered"] += 1
                raise StorageUnavailable("answer lost")
            return answer

        return statement

    def _before_ack(self, really: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def ack(acks: list[Any]) -> None:
            if self.chance is not None and self.chance.random() < self.acks_lost:
                self.counts["acknowledgements late"] += 1
                if len(self.flight) < FLIGHT_MAX:
                    self.flight.append(("ack", lambda: really(acks)))
                return
            await really(acks)

        return ack

    def _before_step(self, name: str, really: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step(*args: Any, **named: Any) -> Any:
            try:
                if name == self.dies_before:
                    raise Interrupted
                self._step()
            except Interrupted:
                if name in HELD_UP and len(self.flight) < FLIGHT_MAX:
                    self.flight.append(("step", lambda: really(*args, **named)))
                raise
            answer = await really(*args, **named)
            self._step()
            return answer

        return step

    def _step(self) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise Interrupted

    async def deliver_steps(self) -> None:
        """Lets controllers that were held up go on."""
        steps = [send for what, send in self.flight if what == "step"]
        self.flight = [(what, send) for what, send in self.flight if what != "step"]
        for send in steps:
            await send()

    async def deliver(self, chance: random.Random) -> None:
        """Lets one late message arrive."""
        _, send = self.flight.pop(chance.randrange(len(self.flight)))
        try:
            await send()
        except (NoScript, RedisError, RedisUnavailable):
            self.counts["late messages refused"] += 1


@contextmanager
def loading(world: Any, other: Any) -> Iterator[None]:
    """Gateways that answer NOSCRIPT by loading the script, as many clients' libraries do."""
    from budgets.stores.redis.scripts import texts_of

    gateways = [world.app._plane._redis, other._plane._redis]

    def stand_in(redis: Any) -> Callable[..., Awaitable[Any]]:
        really = redis.evalsha

        async def evalsha(sha: str, keys: list[str], args: list[Any]) -> Any:
            try:
                return await really(sha, keys, args)
            except NoScript:
                for (epoch_id,) in world.sql("SELECT epoch_id FROM epochs WHERE state = 'open'"):
                    for text in texts_of(epoch_id).values():
                        if hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() == sha:
                            await redis.call("SCRIPT", "LOAD", text)
                return await really(sha, keys, args)

        return evalsha

    for redis in gateways:
        redis.evalsha = stand_in(redis)
    try:
        yield
    finally:
        for redis in gateways:
            del redis.evalsha
