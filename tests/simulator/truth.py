"""What really happened, kept apart from both stores, and the invariants of docs/escrow.md asserted against it.

`total` of a counter is what its placed holds really cost or may still cost: an open or presumed hold its whole
amount, a settled one min(actual, hold), a voided one nothing. What a settlement adds beyond that (above the hold,
after a void, after a write-off) is `excess`: named, allowed, and counted apart.
"""

from __future__ import annotations

from typing import Any

from budgets.domain.escrow import HoldState, Step

from .leases import Draw, LeaseTruth
from .rows import Counter, CounterKey, Message, Row

OPEN, SETTLED, VOIDED, PRESUMED = HoldState.PLACED, HoldState.SETTLED, HoldState.VOIDED, HoldState.PRESUMED


class Violation(AssertionError):
    """An invariant does not hold; the first argument names it."""


class Hold:
    """One placed hold: the immutable part is what a signed authorization says."""

    __slots__ = (
        "amounts", "call", "committed", "counters", "epoch", "expires_at", "id", "incs", "lease", "left", "placed_at",
        "posted", "redis", "state", "told", "written",
    )  # fmt: skip

    def __init__(self, id: int, redis: Any, epoch: int, call: int, items: list[Any], expires_at: int) -> None:
        self.id, self.redis, self.epoch, self.call = id, redis, epoch, call
        self.counters: tuple[CounterKey, ...] = tuple(i[0] for i in items)
        self.amounts: tuple[int, ...] = tuple(i[1] for i in items)
        self.incs: tuple[int, ...] = tuple(redis.keys[epoch, i[0]][0] for i in items)
        self.placed_at, self.expires_at = redis.time, expires_at
        self.state = OPEN
        self.committed = list(self.amounts)
        self.lease = False
        self.left = list(self.amounts)  # What nobody drew of a lease; all of any other hold.
        self.posted: tuple[int, ...] = (0,) * len(items)
        self.told = self.posted  # Before any re-rating.
        self.written: set[int] = set()  # Incarnations whose authority an operator wrote off.


class Truth(LeaseTruth):
    """The ground truth of one run."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.holds: dict[int, Hold] = {}
        self.leases: dict[int, list[Draw]] = {}
        self.total: dict[CounterKey, int] = {}
        self.posted: dict[CounterKey, int] = {}
        self.allowed: dict[CounterKey, int] = {}  # Excess of the step that runs.
        self.committed_in_postgres: dict[CounterKey, int] = {}
        self.open: dict[int, int] = {}  # Unresolved, unwritten holds by incarnation.
        self.limit_max: dict[CounterKey, int] = {}
        self.published: dict[int, int] = {}
        self.messages: dict[int, Message] = {}  # The latest of each incarnation.
        self.ends: dict[tuple[int, int], int] = {}  # When the credit ends that a message counts in.

    def fail(self, name: str, **facts: Any) -> None:
        """Report a broken invariant with the facts that show it."""
        raise Violation(name, facts)

    # What happens

    def new_hold(self, redis: Any, epoch: int, call: int, items: list[Any], expires_at: int) -> Hold:
        """Name a hold that is being placed."""
        hold = Hold(len(self.holds) + 1, redis, epoch, call, items, expires_at)
        hold.lease = self.world.calls[call].lease
        self.holds[hold.id] = hold
        return hold

    def on_placed(self, redis: Any, hold: Hold, policy: int, items: list[Any]) -> None:
        """A hold was placed: from now on its call may reach the provider."""
        world, pg = self.world, self.world.pg
        world.count("placed")
        now, epoch = redis.time, pg.epochs[hold.epoch]
        if now >= epoch.valid_until:
            self.fail("a hold was placed after the recorded valid_until", hold=hold.id, epoch=epoch.id)
        if epoch.state == "closed":
            world.count("placed by a Redis that is cut off")
        if policy < self.published.get(hold.epoch, 0):
            self.fail("a hold was placed under a policy older than the published one", hold=hold.id)
        for i, (key, need, _, start, end) in enumerate(items):
            if not start <= now < end:
                self.fail("a hold was placed outside its window", hold=hold.id, key=key)
            inc, seq = hold.incs[i], redis.keys[hold.epoch, key][1]
            counter = pg.counters[key]
            row = counter.rows[inc]
            if row.state == "live" and row.seq == seq and epoch.state == "open":
                lent = key[1] in pg.budgets[key[0]].credit
                limit = pg.limit_of(key) if policy == pg.policy_version and not lent else counter.limit
                room = limit - counter.spent - counter.authority + row.authority - self.open.get(inc, 0)
                if need > room:
                    self.fail("a hold was placed beyond what Redis had been told", key=key, room=room)
            if 0 < self.ends.get((inc, seq), 0) <= now:
                self.fail("a hold was placed on credit that had ended", hold=hold.id, key=key)
            self.total[key] = self.total.get(key, 0) + need
            self.open[inc] = self.open.get(inc, 0) + need
            ceiling = max(self.limit_max[key], counter.opening)
            if self.total[key] + counter.opening > ceiling:
                self.fail("placed holds exceed the limit", key=key, total=self.total[key], limit=ceiling)

    def on_exceeded(self, redis: Any, epoch: int, item: Any, key: list[int]) -> None:
        """A call was refused as `exceeded`: the refusal must be true as far as Redis could know."""
        pg = self.world.pg
        counter = pg.counters[item[0]]
        row = counter.rows[key[0]]
        if row.state == "live" and row.seq == key[1] and pg.epochs[epoch].state == "open":
            room = counter.limit - counter.spent - counter.authority + row.authority
            if item[1] <= room:
                self.fail("a call was refused as exceeded although it fits", key=item[0], room=room)

    def on_extended(self, hold: int, expires_at: int) -> None:
        """A hold lives longer."""
        self.world.count("extended")
        self.holds[hold].expires_at = expires_at

    def on_resolved(self, hold: Hold, wanted: HoldState, usage: tuple[int, ...], step: Step) -> None:
        """PostgreSQL committed a resolution; what it ought to have done is worked out here again."""
        before, now = hold.state, self.world.now
        if before is SETTLED and wanted is SETTLED and (usage == hold.told) != (step is Step.REPLAY):
            self.fail("a settlement is not recognised", hold=hold.id, step=step, usage=usage)
        if before is SETTLED or (before is wanted) or (before is VOIDED and wanted is PRESUMED):
            self.world.count("conflicts" if step is Step.CONFLICT else "replays of resolutions")
            return
        if before is OPEN:
            for key, inc, h in zip(hold.counters, hold.incs, hold.left, strict=True):
                if inc not in hold.written:
                    self.open[inc] -= h
                if key[2] != self.world.window_of(key, now):
                    self.world.count("resolved after its window")
        for i, (key, h, a) in enumerate(zip(hold.counters, hold.left, usage, strict=True)):
            named = before is VOIDED or hold.incs[i] in hold.written
            cost = 0 if named else min(a, h)
            excess = a - cost
            self.total[key] += cost - hold.committed[i]
            hold.committed[i] = cost
            self.allowed[key] = self.allowed.get(key, 0) + excess
            self.posted[key] = self.posted.get(key, 0) + a - hold.posted[i]
            if a > h and wanted is SETTLED:
                self.world.count("overruns")
        if before is not OPEN:
            self.world.count(f"{wanted} after {before}")
        elif wanted is SETTLED and now > hold.expires_at:
            self.world.count("late settles")
        hold.state, hold.posted, hold.told = wanted, usage, usage
        self.world.count(str(wanted))

    def on_acknowledged(self, hold: Hold, wanted: HoldState, usage: tuple[int, ...], step: Step) -> None:
        """A client was told that its settlement is recorded."""
        if wanted is SETTLED and step is not Step.CONFLICT:
            found = self.world.pg.resolutions.get(hold.id)
            if found is None or found.state is not SETTLED or found.told != usage:
                self.fail("an acknowledged settlement is not in the ledger", hold=hold.id, usage=usage)

    def on_rerated(self, hold: Hold, old: tuple[int, ...], new: tuple[int, ...], as_seen: bool) -> None:
        """A call got another cost. What it costs more is excess; what it costs less is room for other holds."""
        if not as_seen:
            return
        self.world.count("re-rated dearer" if new > old else "re-rated cheaper")
        for i, (key, was, cost) in enumerate(zip(hold.counters, old, new, strict=True)):
            committed = min(hold.committed[i], cost)
            self.total[key] += committed - hold.committed[i]
            hold.committed[i] = committed
            self.allowed[key] = self.allowed.get(key, 0) + max(0, cost - was)
            self.posted[key] = self.posted.get(key, 0) + cost - was
        hold.posted = new

    def on_message(self, message: Message) -> None:
        """A load message is sent, or sent again: one sequence has one content, or Redis would keep the older."""
        known = self.messages.get(message.inc)
        counter = self.world.pg.counters.get(message.key)
        if counter is not None:
            self.ends[message.inc, message.seq] = counter.until
        if known and known.seq == message.seq and (*known[4:7], known[8]) != (*message[4:7], message[8]):
            self.fail("a message is sent again with other contents", first=known, again=message)
        self.messages[message.inc] = message

    def on_lost(self, key: CounterKey, row: Row) -> None:
        """An incarnation was given up as lost: its key must not be there."""
        self.world.count("lost incarnations")
        for redis in self.world.servers:
            found = redis.keys.get((row.epoch, key))
            if found and found[0] == row.inc and self.reachable(redis, row.epoch):
                self.fail("an incarnation was given up although its key is alive", key=key, inc=row.inc)

    def on_written_off(self, key: CounterKey, row: Row) -> None:
        """An operator wrote authority off: no hold of it may still be alive."""
        self.world.count("write-offs")
        for hold in self.holds.values():
            if hold.state is OPEN and row.inc in hold.incs:
                if hold.redis.time < hold.expires_at:
                    self.fail("the authority of a live hold was written off", hold=hold.id, key=key)
                i = hold.incs.index(row.inc)
                hold.written.add(row.inc)
                self.total[key] -= hold.committed[i]
                self.open[row.inc] -= hold.left[i]
                hold.committed[i] = 0

    def opening(self, key: CounterKey) -> int:
        """What the ledger holds for a budget that is made inside its window."""
        found = 0
        for hold in self.holds.values():
            if hold.counters[0][2] == key[2] and key[1] in self.world.calls[hold.call].subjects:
                found += hold.posted[0]
        return found

    # The invariants

    def reachable(self, redis: Any, epoch: int) -> bool:
        """Whether this server may place holds of this epoch."""
        key = redis.epoch_key
        return bool(
            redis.alive and epoch in redis.scripts and key and key[0] == epoch and key[1] > redis.time
        )

    def check(self, keys: Any) -> None:
        """Assert the invariants of these counters after a step."""
        pg = self.world.pg
        for key in keys:
            counter = pg.counters.get(key)
            if counter is None:
                continue
            owed = counter.opening + self.posted.get(key, 0)
            if counter.spent != owed:
                self.fail("spent is not opening + ledger", key=key, spent=counter.spent, ledger=owed)
            committed = counter.spent + counter.authority
            before = self.committed_in_postgres.get(key, counter.opening)
            if committed > max(counter.limit, before + self.allowed.get(key, 0)):
                self.fail("spent + authority exceed the limit", key=key, sum=committed, limit=counter.limit)
            self.committed_in_postgres[key] = committed
            for row in counter.rows.values():
                self._covered(key, row)
            self._told(key, counter)
        self.allowed.clear()

    def _told(self, key: CounterKey, counter: Counter) -> None:
        """A Redis that has the latest message knows exactly what is left above its chunk."""
        last = self.world.pg.epochs[-1]
        row = counter.newest(last.id)
        if row is None or row.state != "live" or last.state != "open":
            return
        above = counter.limit - counter.spent - counter.authority + row.granted
        for redis in self.world.servers:
            found = redis.keys.get((row.epoch, key))
            latest = found and found[:2] == [row.inc, row.seq] and self.reachable(redis, row.epoch)
            if found and latest and found[6] != above - found[3]:
                self.fail("the headroom changed and Redis is not told", key=key, redis=found, above=above)

    def _covered(self, key: CounterKey, row: Row) -> None:
        """What a Redis may still draw, and what it drew and nobody resolved, is covered by authority."""
        exposed = self.open.get(row.inc, 0)
        for redis in self.world.servers:
            found = redis.keys.get((row.epoch, key))
            if found and found[0] == row.inc and self.reachable(redis, row.epoch):
                if found[4] > found[3] or found[3] > row.granted:
                    self.fail("a key draws more than its grant", key=key, chunk=found[3], granted=row.granted)
                exposed += found[3] - found[4]
        if exposed > row.authority or row.authority < 0:
            self.fail(
                "holds and free chunk exceed the authority", key=key, inc=row.inc, exposed=exposed,
                authority=row.authority,
            )  # fmt: skip

    def check_all(self) -> None:
        """Assert the invariants of every counter, after a fault."""
        self.check(self.world.pg.counters)

    def verify(self) -> None:
        """Assert the exact equalities that hold at rest."""
        pg = self.world.pg
        consumed: dict[int, int] = {}
        for hold in self.holds.values():
            found = pg.resolutions.get(hold.id)
            if hold.state is OPEN:
                if (found and found.state is not HoldState.LEASED) or hold.epoch == pg.epochs[-1].id:
                    self.fail("a hold is unresolved although everything runs", hold=hold.id)
                continue
            entries = [sum(column) for column in zip(*found.entries, strict=True)]
            if tuple(entries) != hold.posted or found.state is not hold.state:
                self.fail("the ledger of a hold is wrong", hold=hold.id, entries=entries)
            self._consumed(hold, found, consumed)
        for draw in [draw for draws in self.leases.values() for draw in draws if draw.reported]:
            found = pg.resolutions[draw.id]
            entries = [sum(column) for column in zip(*found.entries, strict=True)]
            if tuple(entries) != draw.posted:
                self.fail("the ledger of a draw is wrong", draw=draw.id, entries=entries)
            self._consumed(draw, found, consumed)
        for key, counter in pg.counters.items():
            if counter.authority != sum(r.authority for r in counter.rows.values()):
                self.fail("a counter's authority is not the sum of its rows", key=key)
            for row in counter.rows.values():
                expected = row.granted - consumed.get(row.inc, 0) + row.clamped - row.written
                if row.authority != expected:
                    self.fail("authority is not granted - consumed", key=key, inc=row.inc, expected=expected)
                found_key = self.world.servers[-1].keys.get((row.epoch, key))
                if row.state == "live" and row.epoch == pg.epochs[-1].id and found_key:
                    _, seq, _, chunk, used, held, *_ = found_key
                    if (seq, chunk - used + held, held) != (row.seq, row.authority, 0):
                        self.fail("Redis and PostgreSQL differ at rest", key=key, redis=found_key)

    @staticmethod
    def _consumed(hold: Any, found: Any, consumed: dict[int, int]) -> None:
        """Add what a first posting took from the authority of its incarnations."""
        for inc, h, a, live in zip(hold.incs, found.held, found.first, found.live, strict=True):
            consumed[inc] = consumed.get(inc, 0) + (min(a, h) if live else h)
