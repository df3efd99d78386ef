"""Guards on the hot path: what a call's script is told of them and of its run, and what its answer means.

A tenant without guards pays nothing, and a call without a run neither: both are placed by `preflight.lua` alone.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from typing import Any, Final
from uuid import UUID

import msgspec

from budgets.domain import runs
from budgets.domain.authorization import Hold
from budgets.domain.demands import Attribution, Bound, subject_of
from budgets.domain.guards import REASONS, Trip, Watched, name_of, newcomer_until, stateless, thousandths
from budgets.domain.policy import GuardKind, GuardRule
from budgets.domain.runs import RunState
from budgets.services.epochs import CountersUnavailable, Epoch, EpochDirectory
from budgets.services.runs import Known, Runs
from budgets.services.snapshots import Snapshot, Snapshots
from budgets.stores.postgres.runs import RunStore
from budgets.stores.redis.connection import (
    Argument,
    NoScript,
    RedisClient,
    RedisError,
    RedisUnavailable,
    Reply,
)
from noburn.kit import ids
from noburn.kit.clock import wire_time
from noburn.kit.money import to_usd

log = logging.getLogger(__name__)

FIRST_SEEN_MAX = 50_000
UNREGISTERED_MS = 2_000
"""How long a customer that is not registered yet counts as first seen at one moment here."""

AMOUNTS: Final = frozenset({"nano", "nano_per_minute", "cost_nano", "usual_thousandths"})
"""Limits whose figure is an amount of nano-USD."""


class Stopped(Exception):
    """A call that its run or a guard stops; `reason` as on the wire, `fields` what the answer says besides."""

    def __init__(
        self, reason: str, detail: str, fields: dict[str, Any], *, trips: tuple[Trip, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.reason, self.fields, self.trips = reason, fields, trips

    @property
    def guard_id(self) -> UUID | None:
        """The first guard that stopped the call, if one did."""
        return next((trip.rule.guard_id for trip in self.trips if trip.rule.enforce), None)


class Watch(msgspec.Struct, frozen=True):
    """What one call's script is told besides its counters."""

    keys: list[str]
    args: list[Argument]
    trips: list[Trip | tuple[GuardRule, str]]
    """By the index that the script answers: a guard with its subject, or what tripped already."""
    known: Known | None

    def arguments(self) -> list[Argument]:
        """The script's own arguments, with how many there are."""
        return [len(self.keys), len(self.args) + 2, *self.args]


class Guards:
    """Prepares and reads what guards and runs add to a call."""

    def __init__(
        self,
        *,
        store: RunStore,
        redis: RedisClient,
        epochs: EpochDirectory,
        snapshots: Snapshots,
        runs: Runs,
    ) -> None:
        self._store, self._redis, self._epochs, self._snapshots = store, redis, epochs, snapshots
        self._runs = runs
        self._first: OrderedDict[tuple[UUID, str], tuple[int, int]] = OrderedDict()

    async def known_run(self, tenant_id: UUID, run: str, epoch: Epoch) -> Known | None:
        """What is known of the run that a call names; None for a call without one."""
        return await self._runs.known(tenant_id, run, epoch) if run else None

    async def watch(
        self,
        snapshot: Snapshot,
        epoch: Epoch,
        who: Attribution,
        bound: Bound,
        known: Known | None,
        *,
        watched: Watched | None,
    ) -> Watch | None:
        """What the call's script must be told; None: nothing, so that `preflight.lua` alone is asked.

        `watched` None: a question, which no guard concerns and no closed run stops.
        Raises CountersUnavailable (its epoch's scripts know nothing of runs yet), StorageUnavailable.
        """
        rules = snapshot.guards if watched is not None else ()
        found = [(rule, subject) for rule in rules if (subject := subject_of(rule, who)) is not None]
        if known is None and not found:
            return None
        if not epoch.scripts.guarded:
            raise CountersUnavailable("the counters are being renewed by another version")
        keys: list[str] = []
        version, ends, state = "", 0, "go"
        if known is not None:
            record = known.record
            keys.append(epoch.keys.run(runs.key_name(snapshot.policy.tenant_id, record.run)))
            version = str(record.version)
            if watched is not None:
                ends, state = record.ends or 0, "over" if record.over else "go"
        args: list[Argument] = [version, ends, state, bound.cost_nano]
        trips: list[Trip | tuple[GuardRule, str]] = []
        if watched is not None and found:
            call = await self._whole(snapshot, who, watched, known, found)
            for rule, subject in found:
                mode = "e" if rule.enforce else "o"
                if rule.kind in (GuardKind.CALL, GuardKind.DEPTH):
                    if (tripped := stateless(rule, call)) is not None:
                        trips.append(Trip(rule, subject, *tripped))
                        args += ["x", mode, tripped[0], "", ""]
                elif (own := _own(rule, call)) is not None:
                    trips.append((rule, subject))
                    keys.append(_state_key(epoch, snapshot.policy.tenant_id, rule, subject, call))
                    args += [own[0], mode, *own[1:]]
        if known is None and not trips:
            return None
        return Watch(keys, args, trips, known)

    async def _whole(
        self,
        snapshot: Snapshot,
        who: Attribution,
        watched: Watched,
        known: Known | None,
        found: list[tuple[GuardRule, str]],
    ) -> Watched:
        first_ms = None
        if who.customer and any(rule.kind is GuardKind.NEWCOMER for rule, _ in found):
            first_ms = await self._first_seen(snapshot.policy.tenant_id, who.customer)
        depth = len(known.record.parents) if known is not None else 0
        return msgspec.structs.replace(watched, depth=depth, first_ms=first_ms)

    async def _first_seen(self, tenant_id: UUID, customer: str) -> int:
        key, now = (tenant_id, customer), time.time_ns() // 1_000_000
        known = self._first.get(key)
        if known is not None and (known[1] == 0 or known[1] > now):
            return known[0]
        first = await self._store.first_seen(tenant_id, customer)
        self._first[key] = (now, now + UNREGISTERED_MS) if first is None else (first, 0)
        self._first.move_to_end(key)
        if len(self._first) > FIRST_SEEN_MAX:
            self._first.popitem(last=False)
        return self._first[key][0]

    async def read(
        self, watch: Watch, reply: Reply, *, snapshot: Snapshot
    ) -> tuple[Reply | None, tuple[Trip, ...]]:
        """Returns the placing's own reply, and what observing guards saw. No reply: the run is read anew, so try again.

        Raises Stopped, CountersUnavailable, StorageUnavailable.
        """
        word, tenant_id = reply[0], snapshot.policy.tenant_id
        if word == b"PASSED":
            return reply[2], _trips(watch, reply[1])
        if word == b"TRIPPED":
            raise _tripped(_trips(watch, reply[1]))
        if watch.known is None or word not in (b"RUN", b"RUN_UNKNOWN", b"RUN_OVER", b"RUN_LATE"):
            return reply, ()
        record = watch.known.record
        if word == b"RUN":
            self._runs.heard(tenant_id, bytes(reply[2]))
            return None, ()
        if word == b"RUN_UNKNOWN":
            await self._runs.read(tenant_id, record.run)
            return None, ()
        if word == b"RUN_OVER":
            how = "was stopped" if record.state is RunState.STOPPED else "has ended"
            why = f": {record.reason}" if record.reason else ""
            raise Stopped("run_stopped", f"run {record.run!r} {how}{why}", {"run": {"id": record.run}})
        raise Stopped(
            "run_limit",
            f"the time of run {record.ends_by!r} is over",
            {"run": {"id": record.ends_by, "cap": "seconds", "ended_at": wire_time(record.ends or 0)}},
        )

    async def settled(self, hold: Hold, cost_nano: int) -> None:
        """Corrects what guards counted of a call by what it cost. Best effort: a loss makes them stricter for moments."""
        body = hold.body
        difference = cost_nano - body.cost_nano
        snapshot = self._snapshots.get(body.tenant_id)
        epoch = self._epochs.by_id(body.epoch_id, body.tenant_id)
        if snapshot is None or not snapshot.guards or epoch is None or not difference:
            return
        who = Attribution(
            project=body.project,
            customer=body.customer,
            user=body.user,
            run=body.run,
            plan=body.plan,
            api_key=ids.encode(ids.API_KEY, body.key_id),
            provider=body.provider,
            model=body.model,
            tags=body.tags,
        )
        keys, kinds = [epoch.keys.epoch], []
        for rule in snapshot.guards:
            subject = subject_of(rule, who)
            if subject is not None and rule.kind in (GuardKind.VELOCITY, GuardKind.NEWCOMER):
                keys.append(_state_key(epoch, body.tenant_id, rule, subject, Watched(0)))
                kinds.append("v" if rule.kind is GuardKind.VELOCITY else "n")
        if not kinds or not epoch.scripts.ease:
            return
        try:
            await self._redis.evalsha(epoch.scripts.ease, keys, [difference, hold.placed_ms, *kinds])
        except (RedisUnavailable, RedisError, NoScript) as error:
            log.info("guards were not told what a call cost: %s", error)


def _own(rule: GuardRule, call: Watched) -> tuple[Argument, Argument, Argument, Argument] | None:
    """What the script is told of a guard with a state; None if it has nothing to watch."""
    limits = rule.limits
    if rule.kind is GuardKind.REPEAT:
        return ("r", limits["times"], limits["seconds"] * 1000, "") if call.fingerprint else None
    if rule.kind is GuardKind.VELOCITY:
        return (
            "v",
            limits.get("nano_per_minute", ""),
            limits.get("usual_thousandths", ""),
            limits.get("usual_floor_nano", 0),
        )
    until = newcomer_until(rule, call)
    # By this clock, which only spares a key: the script goes by its own.
    if until is None or until < time.time_ns() // 1_000_000 - 60_000:
        return None
    return "n", limits["nano"], until, ""


def _state_key(epoch: Epoch, tenant_id: UUID, rule: GuardRule, subject: str, call: Watched) -> str:
    name = name_of(rule, subject, call)
    return epoch.keys.guard(hashlib.blake2b(tenant_id.bytes + name.encode(), digest_size=16).hexdigest())


def _trips(watch: Watch, told: list[Any]) -> tuple[Trip, ...]:
    trips = []
    for i in range(0, len(told), 3):
        known = watch.trips[int(told[i]) - 1]
        trips.append(
            known
            if isinstance(known, Trip)
            else Trip(known[0], known[1], int(told[i + 2]), _passed(known[0]))
        )
    return tuple(trips)


def _passed(rule: GuardRule) -> str:
    if rule.kind is GuardKind.VELOCITY:
        return "nano_per_minute" if "nano_per_minute" in rule.limits else "usual_thousandths"
    return "times" if rule.kind is GuardKind.REPEAT else "nano"


def _tripped(trips: tuple[Trip, ...]) -> Stopped:
    first = next(trip for trip in trips if trip.rule.enforce)
    fields: dict[str, Any] = {"guard": guard_fields(first)}
    if first.rule.kind is GuardKind.DEPTH:
        fields["run"] = {"cap": "depth"}
    return Stopped(REASONS[first.rule.kind], sentence(first), fields, trips=trips)


def guard_fields(trip: Trip) -> dict[str, Any]:
    """What the wire says of a guard that tripped."""
    return {
        "id": ids.encode(ids.GUARD, trip.rule.guard_id),
        "name": trip.rule.name,
        "kind": trip.rule.kind.value,
        "scope": trip.rule.scope.value,
        "subject": trip.subject,
    }


def sentence(trip: Trip) -> str:
    """What happened, for people."""
    limits, kind = trip.rule.limits, trip.rule.kind
    if kind is GuardKind.REPEAT:
        return f"the same request came {trip.figure} times within {limits['seconds']} s already"
    if kind is GuardKind.DEPTH:
        return f"this run is {trip.figure} levels below its root; at most {limits['levels']} are let through"
    if kind is GuardKind.NEWCOMER:
        return (
            f"${to_usd(trip.figure)} in the first {limits['minutes']} minutes of a customer; "
            f"at most ${to_usd(limits['nano'])} is let through"
        )
    if kind is GuardKind.VELOCITY:
        most = (
            f"at most ${to_usd(limits['nano_per_minute'])} is let through"
            if trip.what == "nano_per_minute"
            else f"at most {thousandths(limits['usual_thousandths'])} times what is usual is let through"
        )
        return f"${to_usd(trip.figure)} within a minute; {most}"
    what = "a cost" if trip.what == "cost_nano" else trip.what.replace("_", " ")
    shown = f"${to_usd(trip.figure)}" if trip.what in AMOUNTS else str(trip.figure)
    most = f"${to_usd(limits[trip.what])}" if trip.what in AMOUNTS else str(limits[trip.what])
    return f"{what} of {shown} in one call; at most {most} is let through"
