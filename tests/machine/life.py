"""What may happen in a life: calls, settlements, edits, losses, operators; and what must be true after each of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch
from uuid import UUID, uuid4

from budgets.domain.escrow import HoldState, Step, transition
from budgets.domain.policy import EACH
from budgets.services.budgets import archive_budget
from budgets.services.increases import NewIncrease, create_increase
from budgets.services.operations import RedisUnavailable, StorageUnavailable, WriteoffTooEarly
from budgets.services.recovery import EpochFailed
from budgets.stores.redis.connection import RedisError
from budgets.stores.redis.keys import Keys, epoch_key
from noburn.kit import ids
from noburn.kit.money import to_usd
from tests.simulator.rows import Message
from tests.support.asgi import Answer, send

from .mirror import Mirror
from .network import ACKS_LOST, Interrupted, Network

if TYPE_CHECKING:
    from budgets.gateway.app import GatewayApp
    from tests.support.world import World

LIMIT: Final = 15
LIMITS: Final = (3, 6, 10, 15, 20, 40)
BUDGETS_MAX: Final = 4
STEPS_OF_A_CLOSE: Final = 14
SWEEPS_MAX: Final = 5
OLD_MS: Final = 20 * 60_000

_S = HoldState


class Life:
    """One tenant, two gateways (one of which hears of nothing by itself), a sweeper, a controller, an operator."""

    def __init__(
        self,
        world: World,
        other: GatewayApp,
        chance: random.Random,
        *,
        days: str | None = None,
        keeps_scripts: bool = False,
    ) -> None:
        self.world, self.apps = world, (world.app, other)
        self.keeps_scripts = keeps_scripts
        # What other lives left behind would be swept with every sweep of this one.
        world.lose_redis()
        world.recover()
        world.sql("UPDATE epochs SET cleaned_at = now() WHERE state = 'closed' AND cleaned_at IS NULL")
        self.account = account = world.account("alice")
        self.mirror = Mirror(account)
        self.truth, self.counts = self.mirror.truth, self.mirror.counts
        self.network = Network(epoch_key(account.shard).partition(":")[0])
        for services in (*(app._plane for app in self.apps), world.operations):
            self.network.before(services)
        self.network.on_load = self._on_load
        self.answers: dict[UUID, Answer] = {}
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.saved: dict[bytes, bytes] = {}
        self.told: list[str] = []
        self.active: dict[str, tuple[str, str]] = {}
        # A tenant that is soon at its limit has no more to tell; one that never is, neither.
        self._budget("tenant", "usd", chance.choice((LIMIT, 60)))
        for scope, metric in chance.sample([("customer", "usd"), ("user", "usd"), ("tenant", "requests")], 2):
            self._budget(
                scope, metric, chance.choice((LIMIT, 20, 40) if scope == "tenant" else (8, LIMIT, 20))
            )
        # What is rare in most lives must be usual in some.
        self.days = chance.choice(list(DAYS)) if days is None else days
        often = DAYS[self.days]
        self.network.acks_lost = often.get("acks lost", ACKS_LOST)
        self.weights = {name: weight * often.get(name, 1) for name, weight in WEIGHTS.items()}

    def close(self) -> None:
        """Gives everything back as it was."""
        self.network.leave()
        self.mirror.bytes.close()

    def happened(self) -> Counter[str]:
        """What happened so far, and to messages."""
        return self.counts + self.network.counts

    # The network

    def faultily(self, chance: random.Random, work: Any) -> Any:
        """Runs work while messages get lost."""
        self.network.chance = chance
        try:
            return self.world.run(work)
        finally:
            self.network.chance = None

    def _on_load(self, keys: list[str], args: list[Any]) -> None:
        """A load message is sent: one sequence has one content."""
        prefix, counter = keys[1].rsplit(":c:", 1)
        epoch = next((e for e in self.mirror._epochs if e.hex[:12] == prefix.rpartition(":")[2]), None)
        key = self.mirror._keys.get(UUID(counter))
        if epoch is None or key is None:
            return
        inc, seq, total, above, version = (int(arg) for arg in args[:5])
        number = self.mirror._epochs[epoch]
        inc = self.mirror.inc_of(UUID(counter), epoch, inc)
        self.truth.on_message(Message(key, number, inc, seq, total, above, version, False))

    def deliver(self, chance: random.Random) -> None:
        """A late message arrives."""
        if self.network.flight:
            self.world.run(self.network.deliver(chance))

    # Clients

    def place(self, chance: random.Random) -> None:
        """A call, or a question about one."""
        if not self._serves() and chance.random() < DAYS[self.days].get("served soon", 0.5):
            # Controllers look twice a second, so most calls come later than the controller.
            self.recover(chance)
            self.mirror.read()
        subject = {"customer": chance.choice("cdefg")}
        if chance.random() < 0.6:
            subject["user"] = chance.choice("uvw")
        # Nothing is never refused (docs/escrow.md knows no such call), so every call needs something.
        need = chance.choice((1, 1, 2, 2, 3, 4, 5, 6, 6, 16))
        body = self.account.call(to_usd(need), subject=subject)
        if chance.random() < 0.1:
            body["dry_run"] = True
        self._call(chance, uuid4().hex, body)

    def _serves(self) -> bool:
        last = self.mirror.pg.epochs[-1]
        return bool(last.state == "open" and self.truth.reachable(self.mirror.redis, last.id))

    def again(self, chance: random.Random) -> None:
        """A call once more under its Idempotency-Key, with the same contents or with others."""
        if self.sent:
            key, body = chance.choice(self.sent)
            if chance.random() < 0.3:
                body = {**body, "cost_usd": to_usd(7)}
            self._call(chance, key, body)

    def with_a_wrong_clock(self, chance: random.Random) -> None:
        """A call through a gateway whose clock is days off."""
        off = chance.choice((-2, 2)) * 86_400_000
        with patch("budgets.services.holds._now_ms", lambda: self.world.redis_ms() + off):
            self.place(chance)

    def _call(self, chance: random.Random, key: str, body: dict[str, Any]) -> None:
        app = self.apps[chance.random() < 0.5]
        before, quiet = dict(self.mirror.redis.keys), self.network.counts.copy()
        dry = bool(body.get("dry_run"))
        answer = self.faultily(
            chance,
            send(app, "POST", "/v1/preflight", body=body, secret=self.account.secret, idempotency_key=key),
        )
        self.counts[answer.decision] += 1
        if answer.status == 200 and answer.decision == "allow" and not dry:
            hold = self.account.hold_of(answer)
            known = self.answers.setdefault(hold.body.hold_id, answer)
            if to_usd(hold.body.cost_nano) != body["cost_usd"] or known["hold"]["id"] != answer["hold"]["id"]:
                self.truth.fail("a replay answers for another call", key=key)
            self.sent.append((key, body))
            return
        self.mirror._read_postgres()
        self.mirror._read_redis()
        if answer.status == 200 and self.network.counts == quiet:
            for name, found in self.mirror.redis.keys.items():
                was = before.get(name)
                if was is not None and was[0] == found[0] and found[4] > was[4]:
                    self.truth.fail("a refused call holds something on one of its counters", key=name)
        if answer.status == 200 and answer.decision == "budget_exceeded" and not dry:
            # A question may be answered by PostgreSQL, from a limit that no counter was loaded with yet.
            self._exceeded(answer, body)
        if answer.status == 503:
            self.sent.append((key, body))

    def _whole(self, hold: Any) -> None:
        """A hold that was placed just now is on all budgets of its call."""
        named = {"customer": hold.body.customer, "user": hold.body.user}
        wanted = {budget for budget, (scope, _) in self.active.items() if scope == "tenant" or named[scope]}
        found = {self.mirror._keys[c.counter_id][0] for c in hold.body.counters}
        if wanted != found:
            self.truth.fail("a hold is not on all its budgets", wanted=wanted, found=found)

    def _exceeded(self, answer: Answer, body: dict[str, Any]) -> None:
        budget = str(ids.decode("bud", answer["budget"]["id"]))
        scope, metric = self.active[budget]
        subject = "tenant" if scope == "tenant" else body["subject"][scope]
        need = 1 if metric == "requests" else round(float(body["cost_usd"]) * 1e9)
        for (epoch, key), found in self.mirror.redis.keys.items():
            if key[:2] == (budget, subject) and epoch == self.mirror.pg.epochs[-1].id:
                self.truth.on_exceeded(self.mirror.redis, epoch, (key, need), found)

    def resolve(self, chance: random.Random) -> None:
        """A settlement of nothing, half, all or thrice of a hold, or of an unknown amount, or a void."""
        if not self.answers:
            return
        recent = list(self.answers)[-12:]
        hold_id = chance.choice(recent)
        hold, answer = self.truth.holds[hold_id], self.answers[hold_id]
        cost = self.mirror.real[hold_id].body.cost_nano
        kind = chance.choice(("nothing", "half", "half", "all", "all", "thrice", "null", "void"))
        actual = {"nothing": 0, "half": cost // 2, "all": cost, "thrice": 3 * cost}.get(kind, 0)
        body: dict[str, Any] = {"authorization": answer["authorization"]}
        if kind == "void":
            wanted, usage, path = _S.VOIDED, (0,) * len(hold.amounts), "/v1/void"
        else:
            path, body["usage"] = "/v1/settle", None
            wanted, usage = _S.PRESUMED, hold.amounts
            if kind != "null":
                body["cost_usd"] = to_usd(actual)
                metrics = [c.metric for c in self.mirror.real[hold_id].body.counters]
                wanted, usage = _S.SETTLED, tuple(1 if metric == "requests" else actual for metric in metrics)
        step = (
            transition(hold.state, wanted, same_usage=hold.posted == usage)
            if hold.state is not wanted or (wanted is _S.SETTLED)
            else Step.REPLAY
        )
        before = self.mirror.revisions.get(hold_id, 0)
        told = self.faultily(
            chance,
            send(self.apps[chance.random() < 0.5], "POST", path, body=body, secret=self.account.secret),
        )
        self.counts[f"{kind}: {told.status}"] += 1
        if told.status == 200:
            if step is Step.CONFLICT:
                self.truth.fail("a conflict was answered as recorded", hold=hold_id, kind=kind)
        elif told.status == 409:
            if step is not Step.CONFLICT:
                self.truth.fail("a legal resolution was refused", hold=hold_id, kind=kind, state=hold.state)
        else:
            self.mirror._read_postgres()
            if self.mirror.revisions.get(hold_id, 0) == before:
                return
        self.truth.on_resolved(hold, wanted, usage, step)
        self.mirror._read_postgres()
        if told.status == 200:
            self.truth.on_acknowledged(hold, wanted, usage, step)

    def extend(self, chance: random.Random) -> None:
        """A hold is prolonged."""
        if self.answers:
            answer = self.answers[chance.choice(list(self.answers)[-6:])]
            body = {"authorization": answer["authorization"], "ttl_seconds": chance.choice((60, 600))}
            path = f"/v1/holds/{answer['hold']['id']}/extend"
            self.faultily(chance, send(self.world.app, "POST", path, body=body, secret=self.account.secret))

    # Time

    def _expire(self, hold: Any) -> None:
        real = self.mirror.real[hold.id]
        keys = Keys(shard=self.account.shard, epoch_id=real.body.epoch_id)
        name, before = keys.hold(hold.id), self.world.redis_ms() - 1
        if self.mirror.bytes.hget(name, "id") == str(hold.id).encode():
            self.mirror.bytes.hset(name, "ex", before)
            self.mirror.bytes.zadd(keys.expiries, {name: before})
        hold.expires_at = before

    def expire(self, chance: random.Random) -> None:
        """The time of some holds runs out."""
        for hold in self._open():
            if chance.random() < 0.5:
                self._expire(hold)

    def _open(self) -> list[Any]:
        return [hold for hold in self.truth.holds.values() if hold.state is _S.PLACED]

    def sweep(self, chance: random.Random) -> None:
        """The sweeper takes a round."""
        try:
            self.faultily(chance, self.world.operations.sweep())
        except (RedisUnavailable, StorageUnavailable, RedisError):
            self.counts["sweeps cut short"] += 1
        self._presumed()

    def _presumed(self) -> None:
        self.mirror._read_postgres()
        now = self.world.redis_ms()
        for hold in self._open():
            if hold.id in self.mirror.revisions:
                if hold.expires_at > now:
                    self.truth.fail("a hold was presumed before its time", hold=hold.id)
                self.truth.on_resolved(hold, _S.PRESUMED, hold.amounts, Step.FIRST)

    def cut_off(self, _: random.Random) -> None:
        """The time up to which this epoch may place runs out, also while it is being closed."""
        last = self.mirror.pg.epochs[-1]
        if last.state in ("open", "closing"):
            self._pass_time(self.mirror.epoch_of(last.id), ms=1)
            self.counts["times run out"] += 1

    def _pass_time(self, epoch: UUID, *, ms: int) -> None:
        """An epoch was valid until so long ago, for PostgreSQL and for a Redis that still carries it."""
        # No disk has a time that was never recorded.
        self.saved = {}
        before, name = self.world.redis_ms() - ms, epoch_key(self.account.shard)
        self.world.sql(
            "UPDATE epochs SET valid_until = to_timestamp(%s / 1000.0) WHERE epoch_id = %s", before, epoch
        )
        if self.world.redis.hget(name, "id") == epoch.hex:
            self.world.redis.hset(name, "until", before)

    # Operators

    def _budget(self, scope: str, metric: str, limit: int) -> None:
        made = self.account.budget(
            uuid4().hex[:8],
            limit if metric == "requests" else to_usd(limit),
            scope=scope,
            subject=EACH,
            metric=metric,
            window="day" if scope == "tenant" else "total",
        )
        self.active[str(made.pk)] = (scope, metric)

    def edit(self, chance: random.Random) -> None:
        """A limit is cut or raised: the budget's, a subject's, or for a while."""
        name, budget = chance.choice(
            [(n, b) for n, b in self.account.budgets.items() if str(b.pk) in self.active]
        )
        scope, metric = self.active[str(budget.pk)]
        amount = chance.choice(LIMITS)
        limit: Any = amount if metric == "requests" else to_usd(amount)
        kind = chance.random()
        if scope != "tenant" and kind < 0.3:
            self.account.override(name, chance.choice("cd" if scope == "customer" else "uv"), limit)
        elif kind < 0.45:
            now = datetime.now(UTC)
            increase = NewIncrease(amount=5 if metric == "requests" else to_usd(5), reason="test",
                ends_at=now + timedelta(hours=1))  # fmt: skip
            create_increase(
                tenant_id=self.account.tenant_id,
                budget_id=budget.pk,
                increase=increase,
                actor="test",
                now=now,
            )
        else:
            self.account.limit(name, limit)
        self.counts["limits changed"] += 1

    def replace_budget(self, chance: random.Random) -> None:
        """A budget is archived, or one is made in the middle of its window."""
        if len(self.active) >= BUDGETS_MAX:
            gone = chance.choice(list(self.active)[1:])
            archive_budget(
                tenant_id=self.account.tenant_id, budget_id=UUID(gone), actor="test", now=datetime.now(UTC)
            )
            del self.active[gone]
        else:
            self._budget(*chance.choice((("customer", "usd"), ("user", "usd"), ("tenant", "usd"))), LIMIT)
        self.counts["budgets replaced"] += 1

    def _controlled(self, chance: random.Random, work: Any) -> None:
        if chance.random() < 0.4:
            self.network.steps_left = chance.randrange(STEPS_OF_A_CLOSE)
        elif chance.random() < 0.3:
            self.network.dies_before = chance.choice(("retire", "retired", "opened"))
        try:
            self.world.run(work)
        except Interrupted:
            self.counts["controllers interrupted"] += 1
        except (EpochFailed, RedisError, RedisUnavailable):
            self.counts["controllers refused"] += 1
        finally:
            self.network.steps_left = self.network.dies_before = None

    def close_epoch(self, chance: random.Random) -> None:
        """The epoch is closed as planned; the controller may end in the middle."""
        self._controlled(chance, self.world.operations.close(self.account.shard))
        self.counts["planned closes"] += 1

    def recover(self, chance: random.Random) -> None:
        """The controller takes a round; it may end in the middle."""
        self._controlled(chance, self.world.operations.recover())

    def write_off(self, chance: random.Random) -> None:
        """An operator writes off what is stranded: too early, which is refused, or when its holds are long dead."""
        rows = self.account.stranded()
        if not rows:
            return
        row = chance.choice(rows)
        number = self.mirror._epochs[row["epoch"]]
        key = self.mirror._keys[row["counter"]]
        inc = self.mirror.inc_of(row["counter"], row["epoch"], row["inc"])
        if chance.random() < 0.7:
            for hold in self._open():
                if hold.epoch == number:
                    self._expire(hold)
            if self.mirror.pg.epochs[number].state == "closed":
                self._pass_time(row["epoch"], ms=OLD_MS)
            self.world.sql(
                f"""UPDATE grants SET left_at = now() - interval '{OLD_MS} milliseconds'
                WHERE tenant_id = %s AND epoch_id = %s AND counter_id = %s AND left_at IS NOT NULL""",
                self.account.tenant_id, row["epoch"], row["counter"],
            )  # fmt: skip
        found = self.mirror.pg.counters[key].rows[inc]
        assert found.epoch == number
        try:
            amount = self.faultily(chance, self.world.operations.write_off(row, actor="alice", reason="test"))
        except WriteoffTooEarly:
            self.counts["write-offs refused"] += 1
            return
        if amount:
            self.mirror.redis.time = self.world.redis_ms()
            self.truth.on_written_off(key, found)
            # A controller that was held up all the while may say now what Redis answered it then.
            self.world.run(self.network.deliver_steps())

    # Losses

    def _names(self) -> list[bytes]:
        return list(
            self.mirror.bytes.scan_iter(self.network.tag.replace("{", "[{]").replace("}", "[}]") + ":*")
        )

    def save(self, _: random.Random) -> None:
        """Redis writes its data to disk."""
        self.saved = {name: self.mirror.bytes.dump(name) for name in self._names()}

    def flush(self, _: random.Random) -> None:
        """Somebody flushes Redis."""
        self.mirror.hurt.add(self.mirror.pg.epochs[-1].id)
        if names := self._names():
            self.mirror.bytes.unlink(*names)
        self.counts["flushes"] += 1

    def lose_a_counter(self, chance: random.Random) -> None:
        """One counter's key vanishes, once PostgreSQL knows that it was there: before, that is outside the fault model.

        No message that may still create it arrives any more either (docs/adr/0006).
        """
        known = [
            self.account.keys().counter_named(key[2])
            for key, counter in self.mirror.pg.counters.items()
            for row in counter.rows.values()
            if row.epoch == self.mirror.pg.epochs[-1].id and row.state == "live" and row.acked
        ]
        if known and self.mirror.pg.epochs[-1].state == "open":
            self.network.flight = [(what, send) for what, send in self.network.flight if what != "create"]
            self.mirror.hurt.add(self.mirror.pg.epochs[-1].id)
            self.mirror.bytes.unlink(chance.choice(known))
            self.counts["keys lost"] += 1

    def restart(self, chance: random.Random) -> None:
        """Redis restarts, on what it has or on what it had saved; its scripts are gone."""
        self.mirror.hurt.add(self.mirror.pg.epochs[-1].id)
        if chance.random() < 0.7:
            self.flush(chance)
            for name, dumped in self.saved.items():
                self.mirror.bytes.restore(name, 0, dumped, replace=True)
        if not self.keeps_scripts:
            self.mirror.bytes.script_flush()
        self.counts["restarts"] += 1

    # The whole

    def step(self, chance: random.Random) -> str:
        """One of all that may happen. Raises Violation."""
        name = chance.choices(list(self.weights), list(self.weights.values()))[0]
        self.told.append(name)
        self.act(name, chance)
        return name

    def act(self, name: str, chance: random.Random) -> None:
        """This very thing happens; then everything must be true."""
        action: Callable[[random.Random], None] = getattr(self, name)
        known, before = set(self.mirror.real), self.mirror.standing()
        action(chance)
        self.mirror.read()
        if name in CALLS:
            for hold_id, hold in self.mirror.real.items():
                if hold_id not in known:
                    self._whole(hold)
        if name not in HURTS:
            self.mirror.compare(before)

    def rest(self) -> None:
        """Everything runs again: no hold is left unresolved, and every figure is exact."""
        while self.network.flight:
            self.deliver(random.Random(0))
            self.mirror.read()
        self.world.recover()
        for hold in self._open():
            self._expire(hold)
        for _ in range(SWEEPS_MAX):
            swept = self.world.sweep()
            self._presumed()
            self.mirror.read()
            if not (swept.presumed or swept.found_resolved or swept.resent or swept.retired):
                break
        for hold in self._open():
            if hold.epoch == self.mirror.pg.epochs[-1].id:
                self.truth.fail("a hold is unresolved although everything runs", hold=hold.id)
        for hold_id, found in self.mirror.pg.resolutions.items():
            hold = self.truth.holds[hold_id]
            if found.state is not hold.state or found.posted != hold.posted:
                self.truth.fail("the ledger of a hold is wrong", hold=hold_id)
        self.world.run(asyncio.sleep(0))
        differences = [
            found
            for found in self.account.verify().differences
            # A key that was taken away, and that no call has asked for since, is told of, as it should be.
            if found.figure != "key in Redis" or not self.counts["keys lost"]
        ]
        if differences:
            self.truth.fail("verify finds differences", differences=differences)


HURTS: Final = ("flush", "restart", "save", "lose_a_counter")
"""What Redis forgets or remembers in these is no message's doing."""

CALLS: Final = ("place", "again", "with_a_wrong_clock")

WEIGHTS: Final = {
    "place": 70,
    "again": 6,
    "with_a_wrong_clock": 3,
    "resolve": 40,
    "extend": 3,
    "expire": 5,
    "sweep": 10,
    "deliver": 12,
    "cut_off": 3,
    "edit": 10,
    "replace_budget": 2,
    "close_epoch": 4,
    "recover": 12,
    "write_off": 4,
    "save": 5,
    "flush": 3,
    "lose_a_counter": 4,
    "restart": 2,
}

DAYS: Final[dict[str, dict[str, float]]] = {
    "ordinary": {},
    "edits": {"edit": 4, "deliver": 2, "acks lost": 0.8, "close_epoch": 2, "lose_a_counter": 2, "flush": 0.3},
    "losses": {
        "save": 2,
        "flush": 3,
        "restart": 4,
        "lose_a_counter": 3,
        "recover": 0.7,
        "close_epoch": 0.3,
        "edit": 2,
        "acks lost": 0.6,
    },
    "closes": {
        "close_epoch": 5,
        "deliver": 2,
        "cut_off": 3,
        "write_off": 2,
        "recover": 0.5,
        "served soon": 0.15,
    },
    "overruns": {
        "resolve": 2,
        "edit": 2,
        "flush": 0.2,
        "cut_off": 0.2,
        "restart": 0.2,
        "close_epoch": 0.2,
    },
    "late": {"expire": 4, "sweep": 2, "deliver": 2, "flush": 0.3, "cut_off": 0.3, "restart": 0.3},
}
"""Kinds of bad days: how many times as often something happens then."""
