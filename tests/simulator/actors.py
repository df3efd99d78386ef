"""The processes of the escrow as step machines: each `yield` is one message, and a place to crash.

A yielded effect is `(store, method, arguments)`; what comes back is the method's answer, or ERROR when the
message or its answer was lost. No process may assume that an ERROR means that nothing happened.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from budgets.domain.escrow import HoldState

from .rows import CounterKey, Message

ERROR = None
"""No answer: lost, late, crashed, or the store is down. Nobody knows whether it was done."""

Actor = Generator[tuple[Any, ...], Any, Any]


class Host:
    """A gateway, controller or sweeper: which Redis it is connected to, and what it remembers."""

    __slots__ = ("epoch", "policy", "redis", "skew")

    def __init__(self, redis: Any, skew: int = 0) -> None:
        self.redis, self.skew = redis, skew
        self.epoch = 0
        self.policy: tuple[int, tuple[Any, ...]] = (0, ())


def preflight(world: Any, host: Host, call: Any) -> Actor:
    """Place a hold for a call: ask for authority when the chunk is too small, at most a few rounds."""
    pg = world.pg
    for _ in range(5):
        items = world.items(host, call)
        answer = yield (host.redis, "preflight", host.epoch, host.policy[0], call.id, items, call.ttl)
        if answer is ERROR:
            world.on_unanswered(call)
            return None
        tag, what, _ = answer
        if tag in ("PLACED", "REPLAY"):
            world.on_answer(call, what)
            return tag
        if tag == "DENY":
            world.count(f"denied {what}")
            return what
        world.count(f"answered {tag}")
        if tag in ("NOSCRIPT", "FENCED"):
            current = yield (pg, "current")
            if current is ERROR or current[0] == host.epoch or current[1] != "open":
                world.reconnect(host)
                return "unavailable"
            host.epoch = current[0]
        elif tag == "STALE_POLICY":
            policy = yield (pg, "policy")
            if policy is ERROR:
                return "unavailable"
            host.policy = policy
        elif tag == "ASK":
            messages = yield (pg, "grant", host.epoch, what)
            if messages is ERROR:
                return "unavailable"
            yield from send(world, host, messages)
    return "unavailable"


def send(world: Any, host: Host, messages: list[Message]) -> Actor:
    """Send load messages and report what Redis has afterwards."""
    for message in messages:
        answer = yield (host.redis, "load", message)
        if answer is ERROR:
            continue
        reply, inc, seq, chunk = answer
        if reply in ("APPLIED", "KEPT", "MISSING") and inc == message.inc:
            yield (world.pg, "ack", message.key, inc, reply, seq, chunk)


def resolve(
    world: Any, host: Host, hold: Any, wanted: HoldState, usage: tuple[int, ...], client: Any
) -> Actor:
    """Settle, void or presume: PostgreSQL first, then Redis, then what changed above.

    `client` is the number of tries of the client that asked, None for the sweeper.
    """
    got = yield (world.pg, "resolve", hold, wanted, usage)
    if got is ERROR:
        if client is not None:
            world.retry(hold, wanted, usage, client)
        return
    step, apply, messages = got
    if client is not None:
        world.truth.on_acknowledged(hold, wanted, usage, step)
    if apply is None:
        if client is None:
            yield (host.redis, "unlink_hold", hold.epoch, hold.call, hold.id)
    else:
        yield (host.redis, "resolve", hold.epoch, hold.call, hold.id, apply)
    yield from send(world, host, messages)


def report(world: Any, host: Host, holder: Any, total: int | None, tries: int, bare: bool = False) -> Actor:
    """Report what ended of a lease's draws, and close it if `total` says how many there were."""
    lease, draws = holder.lease, [] if bare else holder.unreported[:]
    got = yield (world.pg, "draw", lease, draws, total)
    if got is ERROR:
        world.count("reports kept in an outbox")
        world.later(5 * 2**tries, "report", holder, total, min(tries + 1, 6))
        return
    steps, closed, apply, messages = got
    for (draw, wanted, usage), step in zip(draws, steps, strict=True):
        world.truth.on_acknowledged(draw, wanted, usage, step)
    # What is reported twice answers the same; now and then a holder does not know that it was answered.
    if world.calm or world.rng.random() < 0.8:
        holder.unreported = [item for item in holder.unreported if item not in draws]
    if apply is not None:
        yield (host.redis, "resolve", lease.epoch, lease.call, lease.id, apply)
    yield from send(world, host, messages)
    if total is not None and not closed:
        world.later(10, "holder", holder, "close")


def extend(world: Any, host: Host, hold: Any, seconds: int) -> Actor:
    """Prolong a hold."""
    yield (host.redis, "extend", hold.epoch, hold.call, hold.id, seconds)


def sweep(world: Any, host: Host) -> Actor:
    """Presume what expired, send again what nobody acknowledged, and publish the policy's version."""
    pg = world.pg
    expired = yield (host.redis, "expired")
    for hold in expired or ():
        yield from resolve(world, host, hold, HoldState.PRESUMED, hold.amounts, None)
    unacked = yield (pg, "unacked")
    if unacked is not ERROR:
        yield from send(world, host, unacked[0])
        yield from give_up(world, host, unacked[1])
    yield from publish(world, host)


def publish(world: Any, host: Host) -> Actor:
    """Bring the policy's version to Redis."""
    current, policy = (yield (world.pg, "current")), (yield (world.pg, "policy"))
    if current is not ERROR and policy is not ERROR and current[1] == "open":
        yield (host.redis, "version", current[0], policy[0])


def give_up(world: Any, host: Host, rows: list[tuple[int, CounterKey, int]]) -> Actor:
    """Retire incarnations that PostgreSQL has marked; False when this Redis is not the epoch's any more."""
    for epoch, key, inc in rows:
        answer = yield (host.redis, "retire", epoch, key, inc)
        if answer is ERROR:
            continue
        if answer[0] == "NOSCRIPT":
            return False
        messages = yield (world.pg, "retired", key, inc, answer[1])
        yield from send(world, host, messages or [])
    return True


def retire_one(world: Any, host: Host, key: CounterKey) -> Actor:
    """Give one incarnation of an open epoch up, as pruning does."""
    current = yield (world.pg, "current")
    if current is ERROR:
        return
    if world.bug == "retire_before_marking":
        row = world.pg.counters[key].newest(current[0])
        if row and row.state == "live":
            yield from give_up(world, host, [(row.epoch, key, row.inc)])
        return
    rows = yield (world.pg, "retire", current[0], [key])
    yield from give_up(world, host, rows or [])


def tick(world: Any, host: Host) -> Actor:
    """One round of the controller: renew an open epoch, continue a planned close, replace a lost epoch."""
    pg = world.pg
    world.reconnect(host)
    current = yield (pg, "current")
    if current is ERROR:
        return
    epoch, state, until = current
    if state == "open":
        if world.bug == "sent_before_recorded":
            until = yield (pg, "renew", epoch, False)
        else:
            until = yield (pg, "renew", epoch)
        if until is None:
            return
        answer = yield (host.redis, "renew", epoch, until)
        if world.bug == "sent_before_recorded":
            yield (pg, "renew", epoch)
        if answer in ("NOSCRIPT", "FENCED"):
            yield from open_next(world, host, (yield (pg, "lost", epoch)))
    elif state == "opening":
        if world.bug == "opening_repeated":
            yield from open_next(world, host, (epoch, until))
        elif world.calm or world.rng.random() < 0.5:
            yield from open_next(world, host, (yield (pg, "lost", epoch)))
    elif state == "closing":
        yield from close(world, host, epoch)


def open_next(world: Any, host: Host, fresh: tuple[int, int] | None) -> Actor:
    """Bring an epoch up that this very process inserted. Any doubt abandons it: nobody tries an id twice."""
    if fresh is None:
        return
    epoch, until = fresh
    if (yield (host.redis, "script_load", epoch)) is ERROR:
        return
    if (yield (host.redis, "set_epoch", epoch, until)) is ERROR:
        return
    yield (world.pg, "opened", epoch)


def close(world: Any, host: Host, epoch: int) -> Actor:
    """Close an epoch as planned: stop placing, give every incarnation up, then open the next."""
    pg = world.pg
    if not (yield (pg, "closing", epoch)):
        return
    if (yield (host.redis, "delete_epoch", epoch)) is ERROR:
        return
    rows = yield (pg, "retire", epoch)
    for _ in range(4):
        if rows is ERROR:
            return
        if (yield from give_up(world, host, rows)) is False:
            yield from open_next(world, host, (yield (pg, "lost", epoch)))
            return
        if not rows:
            yield from open_next(world, host, (yield (pg, "closed", epoch)))
            return
        rows = yield (pg, "retire", epoch)


def plan_close(world: Any, host: Host) -> Actor:
    """An operator closes the open epoch."""
    current = yield (world.pg, "current")
    if current is not ERROR and current[1] == "open":
        yield from close(world, host, current[0])


def edit(world: Any, host: Host, budget: int, subject: str | None, limit: int, eager: bool) -> Actor:
    """Change a limit, publish it, and raise the policy's version."""
    messages = yield (world.pg, "edit", budget, subject, limit, eager)
    yield from send(world, host, messages or [])
    yield from publish(world, host)


def lend(world: Any, host: Host, budget: int, subject: str, at: int, amount: int) -> Actor:
    """Give a subject credit that ends by itself, and tell its counters."""
    messages = yield (world.pg, "lend", budget, subject, at, amount)
    yield from send(world, host, messages or [])


def add_budget(world: Any, host: Host, budget: Any) -> Actor:
    """Make a budget in the middle of its window."""
    yield (world.pg, "add_budget", budget)
    yield from publish(world, host)


def write_off(world: Any, host: Host, key: CounterKey, inc: int) -> Actor:
    """Write one incarnation's stranded authority off."""
    done = yield (world.pg, "writeoff", key, inc)
    if done:
        yield from send(world, host, done[1])


def rerate(world: Any, host: Host, holds: list[Any], factor: float) -> Actor:
    """Preview settled calls, then give them their new costs; where no answer came, the item is applied again."""
    items = []
    for hold in holds:
        seen = yield (world.pg, "preview", hold)
        if seen is not ERROR:
            new = tuple(round(cost * factor) for cost in seen[1])
            items.append((hold, seen[0], seen[1], new))
    for item in items:
        for _ in range(3):
            done = yield (world.pg, "rerate", *item)
            if done is not ERROR:
                yield from send(world, host, done[1])
                break
