"""The real stores in the shape of the simulator's models, so that its truth can be asserted of them."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import redis
from django.conf import settings

from budgets.domain.authorization import Hold as RealHold
from budgets.domain.authorization import hold_from
from budgets.domain.escrow import HoldState
from budgets.stores.redis.keys import Keys, epoch_key
from budgets.stores.redis.scripts import digests_of
from tests.simulator.rows import Counter, Epoch, Resolution, Row
from tests.simulator.truth import Hold, Truth
from tests.support.processes import administrators

if TYPE_CHECKING:
    from tests.support.world import Account

Key = Any
"""As the simulator's (budget, subject, window), but of texts; the counter's id stands for its window."""

FIELDS = ("inc", "seq", "bv", "chunk", "used", "held", "pf", "gone")
FOREVER = 1 << 60
READS_MAX: Final = 100

_EPOCHS = """SELECT epoch_id, state, floor(extract(epoch FROM valid_until) * 1000)::bigint FROM epochs
    WHERE shard = %s AND (closed_at IS NULL OR closed_at >= %s) ORDER BY created_at"""
_COUNTERS = """SELECT c.counter_id, c.budget_id, c.subject, c.limit_amount, c.budget_version, c.spent, c.opening,
        nb_limit(b, c.subject, now()) FROM counters c
    JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id WHERE c.tenant_id = %s
    ORDER BY c.counter_id"""
_GRANTS = """SELECT g.counter_id, g.epoch_id, g.incarnation, g.state, g.authority, g.granted, g.seq, g.acked_seq,
        g.clamped, g.answered_at IS NOT NULL FROM grants g JOIN epochs e USING (epoch_id) WHERE g.tenant_id = %s
    ORDER BY g.counter_id, e.created_at, g.incarnation"""
_RESOLUTIONS = """SELECT hold_id, state, posted, first, live, revision, held FROM hold_resolutions
    WHERE tenant_id = %s AND state <> 'written_off'"""


class Standing(NamedTuple):
    """What was so at one reading: the epoch key, each key's incarnation and sequence, lost rows' grants, holds."""

    epoch_key: tuple[int, int] | None
    keys: dict[tuple[int, Key], list[int]]
    lost: dict[int, int]
    holds: set[UUID]


class _Budget:
    """What the truth reads of a budget: credit that ends, of which a life has none."""

    credit: Final[frozenset[str]] = frozenset()


class _Postgres:
    """What the truth reads of PostgreSQL."""

    def __init__(self) -> None:
        self.budgets: defaultdict[str, _Budget] = defaultdict(_Budget)
        self.counters: dict[Key, Counter] = {}
        self.epochs: list[Epoch] = []
        self.resolutions: dict[Any, Resolution] = {}
        self.policy_version = -1

    def limit_of(self, key: Key) -> int:
        """The limit that the counter was last loaded with."""
        return self.counters[key].limit


class _Redis:
    """What the truth reads of Redis."""

    def __init__(self) -> None:
        self.alive, self.time = True, 0
        self.keys: dict[tuple[int, Key], list[int]] = {}
        self.scripts: set[int] = set()
        self.epoch_key: tuple[int, int] | None = None


class Mirror:
    """The world of a truth: one tenant's counters, read anew after each step."""

    def __init__(self, account: Account) -> None:
        self.account, self.world = account, account.world
        self.bytes: Any = redis.Redis.from_url(administrators(settings.REDIS_URL))
        self.counts: Tally[str] = Tally()
        self.pg, self.redis = _Postgres(), _Redis()
        self.servers = [self.redis]
        self.truth: Any = Truth(self)
        self.real: dict[UUID, RealHold] = {}
        self.revisions: dict[UUID, int] = {}
        self._since = account.world.sql("SELECT now()")[0][0]
        self._epochs: dict[UUID, int] = {}
        self._incs: dict[tuple[UUID, int, int], int] = {}
        self._keys: dict[UUID, Key] = {}
        self._lost: set[int] = set()
        self.hurt: set[int] = set()
        """Epochs whose Redis lost something."""

    @property
    def now(self) -> int:
        """Redis's time: it decides."""
        return self.redis.time

    def count(self, what: str) -> None:
        """Tally an event."""
        self.counts[what] += 1

    def window_of(self, key: Key, _now: int) -> str:
        """Every counter of a life is of its present window."""
        return str(key[2])

    def epoch_of(self, number: int) -> UUID:
        """The id of an epoch that is known by its number."""
        return next(epoch for epoch, known in self._epochs.items() if known == number)

    def inc_of(self, counter: UUID, epoch: UUID, incarnation: int) -> int:
        """The simulator numbers incarnations over all counters and epochs."""
        name = (counter, self._epochs[epoch], incarnation)
        return self._incs.setdefault(name, len(self._incs) + 1)

    def read(self) -> None:
        """Look at both stores; take note of what was placed meanwhile, and assert everything."""
        self._read_both()
        for hold in self._placed():
            self._take(hold)
        self.truth.check(list(self.pg.counters))
        self._recorded()
        self._read_together()
        for key, counter in self.pg.counters.items():
            for row in counter.rows.values():
                if row.state == "lost" and row.inc not in self._lost:
                    self._lost.add(row.inc)
                    self.truth.on_lost(key, row)
                    if not row.acked:
                        self.truth.fail(
                            "an incarnation was given up that was never there", key=key, inc=row.inc
                        )
                self._returned(key, row)

    def _read_both(self) -> None:
        """Both as they were at one moment: what a caller gave up goes on behind it, and may come between two readings."""
        for _ in range(READS_MAX):
            stood = self._read_postgres()
            self._read_redis()
            if self._read_postgres() == stood:
                return
        raise AssertionError("PostgreSQL never stood still")

    def _read_postgres(self) -> list[Any]:
        pg, tenant = self.pg, self.account.tenant_id
        owner = self.world.owner
        with owner.pipeline():
            # Sent at once: a life waits for PostgreSQL often enough.
            answers = [
                owner.execute(_EPOCHS, (self.account.shard, self._since)),
                *(owner.execute(text, (tenant,)) for text in (_COUNTERS, _GRANTS, _RESOLUTIONS)),
            ]
        epochs, counters, grants, resolutions = (answer.fetchall() for answer in answers)
        pg.epochs = []
        for number, (epoch_id, state, until) in enumerate(epochs):
            self._epochs[epoch_id] = number
            epoch = Epoch(number, until)
            epoch.state = state
            pg.epochs.append(epoch)
        pg.counters = {}
        for counter_id, budget, subject, limit, version, spent, opening, ceiling in counters:
            key = self._keys.setdefault(counter_id, (str(budget), subject, counter_id.hex))
            counter = pg.counters[key] = Counter(limit, version, opening)
            counter.spent = spent
            self.truth.limit_max[key] = max(self.truth.limit_max.get(key, 0), limit, ceiling)
        for counter_id, epoch_id, incarnation, state, authority, granted, seq, acked, clamped, told in grants:
            row = Row(self._epochs[epoch_id], self.inc_of(counter_id, epoch_id, incarnation))
            row.state, row.authority, row.granted, row.seq = state, authority, granted, seq
            row.acked, row.clamped, row.confirmed = acked, clamped, told
            counter = pg.counters[self._keys[counter_id]]
            counter.rows[row.inc] = row
            counter.authority += authority
        pg.resolutions = {}
        self.revisions = {}
        for hold_id, state, posted, first, live, revision, held in resolutions:
            found = Resolution(HoldState(state), tuple(posted), tuple(live), tuple(held))
            found.first = tuple(first)
            pg.resolutions[hold_id] = found
            self.revisions[hold_id] = revision
        return [epochs, counters, grants, resolutions]

    def _read_redis(self) -> None:
        """One question for all of it: most of a life's time would go into asking."""
        seen, shard, ask = self.redis, self.account.shard, self.bytes.pipeline(transaction=False)
        epochs = [
            (epoch, number, Keys(shard=shard, epoch_id=epoch))
            for epoch, number in list(self._epochs.items())[-2:]
        ]
        ask.time()
        ask.hmget(epoch_key(shard), "id", "until")
        for epoch_id, _, keys in epochs:
            ask.script_exists(digests_of(epoch_id)["preflight"])
            for counter_id in self._keys:
                ask.hmget(keys.counter(counter_id), FIELDS)
        answers = iter(ask.execute())
        seconds, micros = next(answers)
        seen.time = seconds * 1000 + micros // 1000
        seen.keys, seen.scripts, seen.epoch_key = {}, set(), None
        carried, until = next(answers)
        by_hex = {epoch.hex.encode(): number for epoch, number in self._epochs.items()}
        if carried in by_hex and until is not None:
            seen.epoch_key = (by_hex[carried], int(until))
        for epoch_id, number, _ in epochs:
            if all(next(answers)):
                seen.scripts.add(number)
            for counter_id, key in self._keys.items():
                found = next(answers)
                if found[0] is not None and found[-1] is None:
                    inc, *rest = (int(value) for value in found[:-1])
                    seen.keys[number, key] = [self.inc_of(counter_id, epoch_id, inc), *rest]

    def _placed(self) -> list[RealHold]:
        """Holds that Redis has and nobody has seen yet: their answers may have been lost. Reads all expiries anew."""
        found = []
        ask = self.bytes.pipeline(transaction=False)
        epochs = [Keys(shard=self.account.shard, epoch_id=epoch) for epoch in list(self._epochs)[-2:]]
        for keys in epochs:
            ask.zrange(keys.expiries, 0, -1)
        names = [name for names in ask.execute() for name in names]
        for name in names:
            ask.hmget(name, "id", "at", "ex", "inc", "body")
        for hold_id, at, ex, inc, body in ask.execute():
            if body is None:
                continue
            known = self.truth.holds.get(UUID(hold_id.decode()))
            if known is None:
                hold = hold_from(body=body, placed_ms=int(at), expires_ms=int(ex), incarnations=inc)
                if hold.body.tenant_id == self.account.tenant_id:
                    found.append(hold)
            elif known.state is HoldState.PLACED:
                known.expires_at = int(ex)
        return found

    def _take(self, real: RealHold) -> None:
        """Tell the truth of a hold, as it is told by the model of a script."""
        body = real.body
        self.real[body.hold_id] = real
        hold = object.__new__(Hold)
        hold.id, hold.redis, hold.call = body.hold_id, self.redis, body.hold_id  # type: ignore[assignment]
        hold.epoch = self._epochs[body.epoch_id]
        hold.counters = tuple(self._keys[c.counter_id] for c in body.counters)
        hold.amounts = tuple(c.amount for c in body.counters)
        hold.incs = tuple(
            self.inc_of(c.counter_id, body.epoch_id, inc)
            for c, inc in zip(body.counters, real.incarnations, strict=True)
        )
        hold.placed_at, hold.expires_at = real.placed_ms, real.expires_ms
        hold.state, hold.committed = HoldState.PLACED, list(hold.amounts)
        hold.posted, hold.written = (0,) * len(hold.amounts), set()
        hold.lease, hold.left = False, list(hold.amounts)
        self.truth.holds[hold.id] = hold
        starts = dict(
            (row[0], (row[1], row[2] or FOREVER))
            for row in self.world.sql(
                """SELECT counter_id, floor(extract(epoch FROM starts_at) * 1000)::bigint,
                    floor(extract(epoch FROM ends_at) * 1000)::bigint FROM counters WHERE tenant_id = %s""",
                self.account.tenant_id,
            )
        )
        now, self.redis.time = self.redis.time, real.placed_ms
        self.truth.on_placed(
            self.redis,
            hold,
            0,
            [
                (key, c.amount, 0, *starts[c.counter_id])
                for key, c in zip(hold.counters, body.counters, strict=True)
            ],
        )
        self.redis.time = now

    def _recorded(self) -> None:
        """Redis never places longer than PostgreSQL has recorded."""
        if self.redis.epoch_key is not None:
            number, until = self.redis.epoch_key
            if until > self.pg.epochs[number].valid_until:
                self.truth.fail("Redis was told a time that is not recorded", until=until)

    def _read_together(self) -> None:
        """A key's version is the one that was read together with its limit."""
        last = self.pg.epochs[-1]
        for key, counter in self.pg.counters.items():
            row, found = counter.newest(last.id), self.redis.keys.get((last.id, key))
            if row and found and found[:2] == [row.inc, row.seq] and found[2] != counter.bv:
                self.truth.fail("a message carried another version than its limit's", key=key, redis=found)

    def _returned(self, key: Key, row: Row) -> None:
        """A planned close strands nothing but what open holds may cost, and what applies under way would have freed."""
        if row.state != "retired" or not (row.confirmed and row.acked) or row.epoch in self.hurt:
            return
        drawn = 0
        for hold in self.truth.holds.values():
            if row.inc in hold.incs and row.inc not in hold.written:
                at, found = hold.incs.index(row.inc), self.pg.resolutions.get(hold.id)
                if found is None:
                    drawn += hold.amounts[at]
                elif found.live[at]:
                    drawn += max(0, hold.amounts[at] - found.first[at])
        if row.authority > drawn:
            self.truth.fail("a planned close stranded what nobody drew", key=key, inc=row.inc, drawn=drawn)

    def standing(self) -> Standing:
        """What is compared with the next reading."""
        lost = {
            row.inc: row.granted
            for counter in self.pg.counters.values()
            for row in counter.rows.values()
            if row.state == "lost"
        }
        return Standing(
            self.redis.epoch_key, {k: found[:2] for k, found in self.redis.keys.items()}, lost, set(self.real)
        )

    def compare(self, before: Standing) -> None:
        """What no message and no call may do, whatever it comes after."""
        has = self.redis.epoch_key
        for hold_id, real in self.real.items():
            if hold_id not in before.holds and (has is None or has[0] != self._epochs[real.body.epoch_id]):
                self.truth.fail("a hold was placed without its epoch's key", hold=hold_id, has=has)
        for (epoch, key), found in self.redis.keys.items():
            was = before.keys.get((epoch, key))
            if was and was[0] == found[0] and was[1] > found[1]:
                self.truth.fail("an older message replaced a newer one", key=key, was=was, found=found)
            fenced = all(one is None or one[0] != epoch for one in (before.epoch_key, has))
            if fenced and was != found[:2]:
                self.truth.fail(
                    "a message was applied without its epoch's key", key=key, was=was, found=found
                )
        for counter in self.pg.counters.values():
            for row in counter.rows.values():
                if before.lost.get(row.inc, row.granted) != row.granted:
                    self.truth.fail("the grant of a lost row was changed", inc=row.inc)
