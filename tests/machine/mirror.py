"""The real stores in the shape of the simulator's models, so that its truth can be asserted of them."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING, Any
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

if TYPE_CHECKING:
    from tests.support.world import Account

Key = Any
"""As the simulator's (budget, subject, window), but of texts; the counter's id stands for its window."""

FIELDS = ("inc", "seq", "bv", "chunk", "used", "held", "pf", "gone")
FOREVER = 1 << 60


class _Postgres:
    """What the truth reads of PostgreSQL."""

    def __init__(self) -> None:
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
        self.bytes: Any = redis.Redis.from_url(settings.REDIS_URL)
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

    def inc_of(self, counter: UUID, epoch: UUID, incarnation: int) -> int:
        """The simulator numbers incarnations over all counters and epochs."""
        name = (counter, self._epochs[epoch], incarnation)
        return self._incs.setdefault(name, len(self._incs) + 1)

    def read(self) -> None:
        """Look at both stores; take note of what was placed meanwhile, and assert everything."""
        self._read_postgres()
        self._read_redis()
        for hold in self._placed():
            self._take(hold)
        for hold in self.truth.holds.values():
            if hold.state is HoldState.PLACED:
                body = self.real[hold.id].body
                keys = Keys(shard=self.account.shard, epoch_id=body.epoch_id)
                expires = self.bytes.hmget(keys.hold(body.hold_id), "id", "ex")
                if expires[0] == str(body.hold_id).encode():
                    hold.expires_at = int(expires[1])
        self.truth.check(list(self.pg.counters))
        self._recorded()
        for key, counter in self.pg.counters.items():
            for row in counter.rows.values():
                if row.state == "lost" and row.inc not in self._lost:
                    self._lost.add(row.inc)
                    self.truth.on_lost(key, row)

    def _read_postgres(self) -> None:
        sql, pg, tenant = self.world.sql, self.pg, self.account.tenant_id
        epochs = sql(
            """SELECT epoch_id, state, floor(extract(epoch FROM valid_until) * 1000)::bigint FROM epochs
            WHERE shard = %s AND (closed_at IS NULL OR closed_at >= %s) ORDER BY created_at""",
            self.account.shard,
            self._since,
        )
        pg.epochs = []
        for number, (epoch_id, state, until) in enumerate(epochs):
            self._epochs[epoch_id] = number
            epoch = Epoch(number, until)
            epoch.state = state
            pg.epochs.append(epoch)
        pg.counters = {}
        for counter_id, budget, subject, limit, spent, opening, ceiling in sql(
            """SELECT c.counter_id, c.budget_id, c.subject, c.limit_amount, c.spent, c.opening,
                nb_limit(b, c.subject, now()) FROM counters c
            JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id WHERE c.tenant_id = %s
            ORDER BY c.counter_id""",
            tenant,
        ):
            key = self._keys.setdefault(counter_id, (str(budget), subject, counter_id.hex))
            counter = pg.counters[key] = Counter(limit, 0, opening)
            counter.spent = spent
            self.truth.limit_max[key] = max(self.truth.limit_max.get(key, 0), limit, ceiling)
        for counter_id, epoch_id, incarnation, state, authority, granted, seq, acked, clamped in sql(
            """SELECT g.counter_id, g.epoch_id, g.incarnation, g.state, g.authority, g.granted, g.seq, g.acked_seq,
                g.clamped FROM grants g JOIN epochs e USING (epoch_id) WHERE g.tenant_id = %s
            ORDER BY g.counter_id, e.created_at, g.incarnation""",
            tenant,
        ):
            row = Row(self._epochs[epoch_id], self.inc_of(counter_id, epoch_id, incarnation))
            row.state, row.authority, row.granted, row.seq = state, authority, granted, seq
            row.acked, row.clamped = acked, clamped
            counter = pg.counters[self._keys[counter_id]]
            counter.rows[row.inc] = row
            counter.authority += authority
        pg.resolutions = {}
        self.revisions = {}
        for hold_id, state, posted, first, live, revision in sql(
            """SELECT hold_id, state, posted, first, live, revision FROM hold_resolutions
            WHERE tenant_id = %s AND state <> 'written_off'""",
            tenant,
        ):
            found = Resolution(HoldState(state), tuple(posted), tuple(live))
            found.first = tuple(first)
            pg.resolutions[hold_id] = found
            self.revisions[hold_id] = revision

    def _read_redis(self) -> None:
        seen, shard = self.redis, self.account.shard
        client: Any = self.world.redis
        seen.time = self.world.redis_ms()
        seen.keys, seen.scripts, seen.epoch_key = {}, set(), None
        by_hex = {epoch.hex: (epoch, number) for epoch, number in self._epochs.items()}
        carried, until = client.hmget(epoch_key(shard), "id", "until")
        if carried in by_hex and until is not None:
            seen.epoch_key = (by_hex[carried][1], int(until))
        for epoch_id, number in list(self._epochs.items())[-2:]:
            if all(client.script_exists(digests_of(epoch_id)["preflight"])):
                seen.scripts.add(number)
            keys = Keys(shard=shard, epoch_id=epoch_id)
            for counter_id, key in self._keys.items():
                found = client.hmget(keys.counter(counter_id), FIELDS)
                if found[0] is not None and found[-1] is None:
                    inc, *rest = (int(value) for value in found[:-1])
                    seen.keys[number, key] = [self.inc_of(counter_id, epoch_id, inc), *rest]

    def _placed(self) -> list[RealHold]:
        """Holds that Redis has and nobody has seen yet: their answers may have been lost."""
        found = []
        for epoch_id in list(self._epochs)[-2:]:
            keys = Keys(shard=self.account.shard, epoch_id=epoch_id)
            for name in self.bytes.zrange(keys.expiries, 0, -1):
                at, ex, inc, body = self.bytes.hmget(name, "at", "ex", "inc", "body")
                if body is None:
                    continue
                hold = hold_from(body=body, placed_ms=int(at), expires_ms=int(ex), incarnations=inc)
                if hold.body.tenant_id == self.account.tenant_id and hold.body.hold_id not in self.real:
                    found.append(hold)
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
