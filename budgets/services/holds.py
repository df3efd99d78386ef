"""Placing and prolonging holds: the decision about one call, made by one script; docs/escrow.md, "Placing"."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from uuid import UUID

import msgspec

from budgets.domain.authorization import (
    HeldCounter,
    Hold,
    HoldBody,
    Keyring,
    encode_body,
    hold_from,
    incarnations_of,
)
from budgets.domain.charging import Ceiling
from budgets.domain.demands import Attribution, Bound, Place, is_rate
from budgets.domain.escrow import MAX_HOLD_LIFE_SECONDS
from budgets.domain.guards import Trip, Watched
from budgets.domain.policy import Action, Metric, Scope
from budgets.services.epochs import CountersUnavailable, Epoch, EpochDirectory
from budgets.services.grants import Grants, Lack
from budgets.services.guards import Guards, Watch
from budgets.services.runs import with_caps
from budgets.services.snapshots import Snapshot, Snapshots
from budgets.services.waiting import Ticket, Waiters
from budgets.stores.postgres.money import StorageUnavailable
from budgets.stores.redis.connection import (
    Argument,
    NoScript,
    RedisClient,
    RedisError,
    RedisUnavailable,
    Reply,
)

log = logging.getLogger(__name__)

ROUNDS_MAX = 12
"""How often one try may be told to ask, reload or recover before it is called unavailable."""

BUSY_RETRY_MS = 100
NONCE_BYTES = 6
FIT_ROUNDS_MAX = 3
UNMAKEABLE = frozenset({"too_many_subjects", "refused"})


Admit = Callable[[Snapshot], None]


class IdempotencyConflict(Exception):
    """The Idempotency-Key holds a call with other contents already."""


class TooManySubjects(Exception):
    """The tenant's limit on subjects that are created on the fly is reached."""


class HoldGone(Exception):
    """There is no such hold any more: it was resolved, or it expired."""


class HoldTooLong(Exception):
    """A hold lives 15 minutes at the most, extensions included."""


class EpochClosed(Exception):
    """The hold's Redis epoch is closed: the hold stays charged and can be settled, but not prolonged."""


class Call(msgspec.Struct, frozen=True):
    """One call to decide about. `fit` gives a smaller (max_output_tokens, bound) for what a counter has room for."""

    idempotency_key: str
    request_digest: str
    key_id: UUID
    attribution: Attribution
    price_id: str
    input_tokens: int
    max_output_tokens: int
    n: int
    bound: Bound
    ttl_ms: int
    dry_run: bool = False
    wait_ms: int = 0
    fit: Callable[[Metric, int], tuple[int, Bound] | None] | None = None
    ceiling: Ceiling | None = None
    fingerprint: str = ""
    asking: bool = False
    """A question about budgets: no guard concerns it."""


class Standing(msgspec.Struct, frozen=True):
    """How one budget stands after a decision, in its own unit."""

    place: Place
    limit: int
    remaining: int
    fitted: bool = True


class Placed(msgspec.Struct, frozen=True):
    """The call may fire. `authorization` is empty for a dry run."""

    authorization: str
    hold: Hold | None
    bound: Bound
    max_output_tokens: int
    standings: tuple[Standing, ...]
    replayed: bool = False
    trips: tuple[Trip, ...] = ()
    """Guards that observe and would have stopped it."""


class Refused(msgspec.Struct, frozen=True):
    """The call does not fit. `room` is what would fit beside what is spent, once holds in flight have resolved."""

    busy: bool
    standing: Standing
    room: int
    retry_after_ms: int = BUSY_RETRY_MS


class Holds:
    """Places and prolongs holds for a gateway."""

    def __init__(
        self,
        *,
        redis: RedisClient,
        epochs: EpochDirectory,
        grants: Grants,
        snapshots: Snapshots,
        waiters: Waiters,
        keyring: Keyring,
        pepper: bytes,
        guards: Guards,
    ) -> None:
        self._redis, self._epochs, self._grants, self._guards = redis, epochs, grants, guards
        self._snapshots, self._waiters, self._keyring, self._pepper = snapshots, waiters, keyring, pepper
        self._random = b""

    def _hold_id(self, tenant_id: UUID, idempotency_key: str) -> UUID:
        # Keyed, so that nobody can look for two Idempotency-Keys that meet in ten bytes.
        text = tenant_id.bytes + idempotency_key.encode()
        return UUID(bytes=hmac.digest(self._pepper, text, hashlib.sha256)[:10] + self._nonce())

    def _nonce(self) -> bytes:
        # Random bytes are fetched by the page: a system call for every hold would cost as much as its signature.
        if len(self._random) < NONCE_BYTES:
            self._random = secrets.token_bytes(NONCE_BYTES * 1000)
        nonce, self._random = self._random[:NONCE_BYTES], self._random[NONCE_BYTES:]
        return nonce

    async def place(self, tenant_id: UUID, call: Call, *, admit: Admit = lambda _: None) -> Placed | Refused:
        """Decides about a call and places its hold, waiting up to `wait_ms` for holds in flight.

        `admit` is called with each policy that a try is made under and may raise to refuse: the version fence then
        makes an edit (a revoked key, a suspended customer) hold for the very next placing.
        Raises CountersUnavailable, StorageUnavailable, IdempotencyConflict, TooManySubjects, TooManyBudgets,
        TooManyWaiters, and Stopped by the call's run or a guard.
        """
        deadline = time.monotonic() + call.wait_ms / 1000
        ticket = self._queue_behind(tenant_id, call) if call.wait_ms else None
        try:
            while True:
                if ticket is not None and not await self._waiters.turn(
                    ticket, seconds=deadline - time.monotonic()
                ):
                    # A last try: what it is told now is the truth of now.
                    return await self._fitting(tenant_id, call, admit)
                answer = await self._fitting(tenant_id, call, admit)
                if isinstance(answer, Placed) or not answer.busy or time.monotonic() >= deadline:
                    return answer
                ticket = self._requeue(ticket, answer.standing.place.counter_id)
        finally:
            if ticket is not None:
                self._waiters.leave(ticket)

    def _queue_behind(self, tenant_id: UUID, call: Call) -> Ticket | None:
        snapshot = self._snapshots.get(tenant_id)
        if snapshot is None:
            return None
        for place in snapshot.matcher.places(call.attribution, now_ms=_now_ms()):
            if place.counter_id in self._waiters:
                return self._waiters.join(place.counter_id)
        return None

    def _requeue(self, ticket: Ticket | None, counter_id: UUID) -> Ticket:
        if ticket is not None and ticket.counter_id == counter_id:
            return ticket
        if ticket is not None:
            self._waiters.leave(ticket)
        return self._waiters.join(counter_id)

    async def _fitting(self, tenant_id: UUID, call: Call, admit: Admit) -> Placed | Refused:
        """One try; with `fit`, what does not fit beside what is spent is made smaller instead of refused."""
        bound, cap = call.bound, call.max_output_tokens
        answer = await self._once(tenant_id, call, admit, bound, cap)
        for _ in range(FIT_ROUNDS_MAX):
            if isinstance(answer, Placed) or answer.busy or call.fit is None:
                break
            smaller = call.fit(answer.standing.place.rule.metric, answer.room)
            if smaller is None or smaller[0] >= cap:
                break
            cap, bound = smaller
            answer = await self._once(tenant_id, call, admit, bound, cap)
        return answer

    async def _once(
        self, tenant_id: UUID, call: Call, admit: Admit, bound: Bound, cap: int
    ) -> Placed | Refused:
        hold_id = self._hold_id(tenant_id, call.idempotency_key)
        now_ms = _now_ms()
        epoch = self._epochs.current(tenant_id) or await self._epochs.renewed(tenant_id, than=None)
        unmeasured: set[UUID] = set()
        for _ in range(ROUNDS_MAX):
            snapshot = self._snapshots.get(tenant_id)
            if snapshot is None:
                raise CountersUnavailable("the tenant's policy is not loaded")
            admit(snapshot)
            who = call.attribution
            places = snapshot.matcher.places(who, now_ms=now_ms)
            watch: Watch | None = None
            if who.run or snapshot.guards:
                known = await self._guards.known_run(tenant_id, who.run, epoch)
                if known is not None and known.places:
                    places = with_caps(places, known)
                watched = None if call.asking else _watched(call, bound, cap)
                watch = await self._guards.watch(snapshot, epoch, who, bound, known, watched=watched)
            if unmeasured:
                places = [place for place in places if place.counter_id not in unmeasured]
            body = _body(call, snapshot, hold_id, epoch, places, bound, cap)
            packed = encode_body(body)
            try:
                reply = await self._script(snapshot, epoch, call, body, packed, places, bound, watch)
            except NoScript:
                epoch = await self._epochs.renewed(tenant_id, than=epoch.epoch_id)
                continue
            except (RedisUnavailable, RedisError) as error:
                # Whether it was placed is unknown: the same Idempotency-Key finds it again while it lives.
                raise CountersUnavailable(str(error)) from error
            trips: tuple[Trip, ...] = ()
            if watch is not None:
                reply, trips = await self._guards.read(watch, reply, snapshot=snapshot)
                if reply is None:
                    continue
            word = reply[0]
            if word == b"PLACED":
                return self._placed(body, packed, places, bound, cap, reply, trips)
            if word == b"FITS":
                fits = await self._fits(snapshot, epoch, places, bound, cap, reply)
                return msgspec.structs.replace(fits, trips=trips) if isinstance(fits, Placed) else fits
            if word == b"REPLAY":
                return self._replayed(call, reply)
            if word == b"DENY":
                place = places[reply[2] - 1]
                return Refused(
                    reply[1] == b"busy", Standing(place, reply[4], reply[3], fitted=False), reply[5]
                )
            if word == b"ASK":
                unmeasured |= await self._ask(snapshot, epoch, places, bound, reply[1:])
                # An ask may have told that the epoch is closed: then another is open by now.
                epoch = self._epochs.current(tenant_id) or epoch
            elif word == b"STALE_POLICY":
                await self._snapshots.refresh(tenant_id, seen=int(reply[1]))
            elif word == b"STALE_WINDOW":
                # Redis decides the time: windows are reckoned by its clock from here on.
                now_ms = int(reply[1])
            else:
                epoch = await self._epochs.renewed(tenant_id, than=epoch.epoch_id)
        raise CountersUnavailable("the counters did not come to rest; try again")

    async def _script(
        self,
        snapshot: Snapshot,
        epoch: Epoch,
        call: Call,
        body: HoldBody,
        packed: bytes,
        places: list[Place],
        bound: Bound,
        watch: Watch | None,
    ) -> Reply:
        names = epoch.keys
        keys = [names.epoch, names.policy(body.tenant_id), names.hold(body.hold_id), names.expiries]
        args: list[Argument] = [
            snapshot.policy.version,
            str(body.hold_id),
            call.request_digest,
            call.ttl_ms,
            packed,
            "dry" if call.dry_run else "place",
        ]
        for place in places:
            rule = place.rule
            if is_rate(rule):
                kind = "n" if rule.action is Action.WARN else "m"
                keys.append(names.rate(place.counter_id))
            else:
                kind = "w" if rule.action is Action.WARN else "b"
                keys.append(names.counter_named(place.name))
            args += [kind, bound.held_by(rule), rule.version, place.starts_ms, place.ends_ms, rule.limit]
        if watch is not None:
            return await self._redis.evalsha(
                epoch.scripts.guarded, [*watch.keys, *keys], [*watch.arguments(), *args]
            )
        return await self._redis.evalsha(epoch.scripts.preflight, keys, args)

    def _placed(
        self,
        body: HoldBody,
        packed: bytes,
        places: list[Place],
        bound: Bound,
        cap: int,
        reply: Reply,
        trips: tuple[Trip, ...] = (),
    ) -> Placed:
        hold = Hold(body, reply[1], reply[2], incarnations_of(reply[3]))
        standings = tuple(_standings(places, reply))
        return Placed(self._sign(hold, packed), hold, bound, cap, standings, trips=trips)

    async def _fits(
        self, snapshot: Snapshot, epoch: Epoch, places: list[Place], bound: Bound, cap: int, reply: Reply
    ) -> Placed | Refused:
        """The answer to a dry run; what Redis does not hold is read from PostgreSQL, and nothing is made."""
        standings = _standings(places, reply)
        unknown = [at for at in range(len(places)) if reply[6 + 3 * at] == 2]
        walletless: set[UUID] = set()
        if unknown:
            lacks = [Lack(epoch, snapshot.policy.tenant_id, places[at], 0, 0, 0) for at in unknown]
            seen = await self._grants.peek(lacks)
            for at in unknown:
                place = places[at]
                need = bound.held_by(place.rule)
                wallet = place.rule.scope is Scope.WALLET
                if wallet and place.counter_id not in seen:
                    snapshot.matcher.without_wallet(place.subject)
                    walletless.add(place.counter_id)
                    continue
                limit, remaining = seen.get(place.counter_id, (place.rule.limit, 0))
                if (before := reply[5 + 3 * at]) and not wallet:
                    # Redis holds it, from before an edit: PostgreSQL knows the limit, Redis what holds in flight take.
                    remaining = reply[4 + 3 * at] + need + limit - before
                fitted = need == 0 or need <= remaining
                if not fitted and place.rule.action is Action.BLOCK:
                    return Refused(False, Standing(place, limit, remaining, fitted=False), max(0, remaining))
                standings[at] = Standing(place, limit, remaining - need, fitted)
        return Placed(
            "", None, bound, cap, tuple(s for s in standings if s.place.counter_id not in walletless)
        )

    def _sign(self, hold: Hold, packed: bytes) -> str:
        return self._keyring.sign(
            body=packed, placed_ms=hold.placed_ms, expires_ms=hold.expires_ms, incarnations=hold.incarnations
        )

    def _replayed(self, call: Call, reply: Reply) -> Placed:
        if reply[5].decode() != call.request_digest:
            raise IdempotencyConflict("this Idempotency-Key was used for a call with other contents")
        packed = bytes(reply[6])
        hold = hold_from(body=packed, placed_ms=reply[1], expires_ms=reply[2], incarnations=reply[3])
        body = hold.body
        bound = Bound(body.cost_nano, body.input_tokens + body.n * body.max_output_tokens)
        return Placed(self._sign(hold, packed), hold, bound, body.max_output_tokens, (), replayed=True)

    async def _ask(
        self, snapshot: Snapshot, epoch: Epoch, places: list[Place], bound: Bound, told: list[int]
    ) -> set[UUID]:
        """Asks for what a call lacks; returns counters to go without: those that only warn and cannot be made, and the
        wallet of a customer that has none."""
        tenant_id = snapshot.policy.tenant_id
        lacks = []
        for i in range(0, len(told), 3):
            place = places[told[i] - 1]
            lacks.append(Lack(epoch, tenant_id, place, bound.held_by(place.rule), told[i + 1], told[i + 2]))
        try:
            statuses = await self._grants.ask(lacks)
        except StorageUnavailable:
            if any(lack.place.rule.action is Action.BLOCK for lack in lacks):
                raise
            return {lack.place.counter_id for lack in lacks}
        mine = {statuses.get(lack.place.counter_id, "ok") for lack in lacks}
        walletless = [p for p in (lack.place for lack in lacks) if statuses.get(p.counter_id) == "no_wallet"]
        for place in walletless:
            snapshot.matcher.without_wallet(place.subject)
        without = [lack.place for lack in lacks if statuses.get(lack.place.counter_id) in UNMAKEABLE]
        if any(place.rule.action is Action.BLOCK for place in without):
            if "too_many_subjects" in mine:
                raise TooManySubjects("this tenant's limit on new subjects in one window is reached")
            raise StorageUnavailable("the database refuses a counter of this call")
        if "epoch_closed" in mine:
            await self._epochs.renewed(tenant_id, than=epoch.epoch_id)
        if "no_budget" in mine:
            await self._snapshots.refresh(tenant_id, seen=-1)
        return {place.counter_id for place in (*without, *walletless)}

    async def standings(self, snapshot: Snapshot, attribution: Attribution) -> list[Standing]:
        """How every budget stands that such a call falls under. Raises CountersUnavailable, StorageUnavailable.

        Asked by a dry run of a call that needs nothing, so it sees what a call would see.
        """
        nothing = Bound(0, 0, 0)
        call = Call(
            idempotency_key=secrets.token_hex(16),
            request_digest="",
            key_id=UUID(int=0),
            attribution=attribution,
            price_id="",
            input_tokens=0,
            max_output_tokens=0,
            n=1,
            bound=nothing,
            ttl_ms=1,
            dry_run=True,
            asking=True,
        )
        answer = await self.place(snapshot.policy.tenant_id, call)
        return list(answer.standings) if isinstance(answer, Placed) else [answer.standing]

    async def extend(self, hold: Hold, *, ttl_ms: int) -> tuple[Hold, str]:
        """Prolongs a hold to `ttl_ms` from now. Raises EpochClosed, HoldGone, HoldTooLong, CountersUnavailable."""
        body = hold.body
        epoch = self._epochs.by_id(body.epoch_id, body.tenant_id)
        if epoch is None:
            await self._epochs.reload()
            epoch = self._epochs.by_id(body.epoch_id, body.tenant_id)
        if epoch is None:
            raise EpochClosed(
                "the counters were recovered since: this hold stays as it is until it is settled"
            )
        keys = [epoch.keys.epoch, epoch.keys.hold(body.hold_id), epoch.keys.expiries]
        args: list[Argument] = [str(body.hold_id), ttl_ms, MAX_HOLD_LIFE_SECONDS * 1000]
        try:
            reply = await self._redis.evalsha(epoch.scripts.extend, keys, args)
        except NoScript as error:
            raise EpochClosed(
                "the counters are being recovered: this hold stays as it is until it is settled"
            ) from error
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error
        if reply[0] == b"FENCED":
            raise EpochClosed(
                "the counters are being recovered: this hold stays as it is until it is settled"
            )
        if reply[0] == b"GONE":
            raise HoldGone("no such hold is open: it was resolved, or it expired")
        if reply[0] == b"TOO_LONG":
            raise HoldTooLong("a hold lives 15 minutes at the most, extensions included")
        longer = Hold(body, reply[1], reply[2], incarnations_of(reply[3]))
        return longer, self._sign(longer, encode_body(body))


def _standings(places: list[Place], reply: Reply) -> list[Standing]:
    return [
        Standing(place, reply[5 + 3 * i], reply[4 + 3 * i], reply[6 + 3 * i] == 1)
        for i, place in enumerate(places)
    ]


def _watched(call: Call, bound: Bound, cap: int) -> Watched:
    return Watched(bound.cost_nano, call.input_tokens, call.n * cap, call.fingerprint)


def _now_ms() -> int:
    # Only a first guess at the window: the script checks it against Redis TIME.
    return time.time_ns() // 1_000_000


def _body(
    call: Call, snapshot: Snapshot, hold_id: UUID, epoch: Epoch, places: list[Place], bound: Bound, cap: int
) -> HoldBody:
    who = call.attribution
    return HoldBody(
        hold_id=hold_id,
        tenant_id=snapshot.policy.tenant_id,
        key_id=call.key_id,
        epoch_id=epoch.epoch_id,
        provider=who.provider,
        model=who.model,
        price_id=call.price_id,
        cost_nano=bound.cost_nano,
        input_tokens=call.input_tokens,
        max_output_tokens=cap,
        n=call.n,
        project=who.project,
        customer=who.customer,
        user=who.user,
        run=who.run,
        plan=who.plan,
        tags=dict(who.tags),
        counters=tuple(
            HeldCounter(
                place.counter_id,
                place.rule.metric.value,
                bound.held_by(place.rule),
                place.rule.release_on_expiry,
                is_rate(place.rule),
            )
            for place in places
        ),
        ceiling=call.ceiling,
    )
