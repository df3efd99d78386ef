"""What may happen besides messages: calls, time, operators, crashes and the loss of data; and how a run ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from budgets.domain.escrow import HoldState

from . import actors
from .redis import Redis
from .rows import Budget

SERVERS_MAX = 3


class Faults:
    """The actions of a schedule; `World` mixes them in and provides the state."""

    now: int

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The rest of the state is `World`'s."""

    def advance(self) -> None:
        """A few seconds pass."""
        self.now += self.rng.randint(1, 15)
        self.wake()

    def leap(self) -> None:
        """Minutes pass: holds expire, epochs run out, windows end."""
        self.now += self.rng.choice((40, 100, 300, 1000))
        self.count("leaps in time")
        self.wake()
        self.tick()

    def tick(self) -> None:
        """One of two controllers takes a round."""
        self.start("controller", actors.tick(self, self.rng.choice(self.controllers)))

    def sweep(self) -> None:
        """The sweeper takes a round."""
        self.start("sweeper", actors.sweep(self, self.sweeper))

    def poll(self) -> None:
        """A gateway fetches the policy anew."""
        if not self.pg.down:
            self.rng.choice(self.gateways).policy = self.pg.policy()

    def save(self) -> None:
        """A Redis writes its data to disk."""
        self.rng.choice(self.servers).save()

    # Operators

    def edit(self) -> None:
        """Cut or raise a limit, or a subject's override."""
        rng = self.rng
        budget = self.pg.budgets[rng.choice(list(self.pg.budgets))]
        subject = None
        if budget.scope != "tenant" and rng.random() < 0.5:
            subject = rng.choice("pq" if budget.scope == "project" else "cd")
        limit = rng.choice((3, 6, 10, 15, 20))
        self.count("limits cut" if limit < budget.limit else "limits raised")
        self.start("operator", actors.edit(self, self.sweeper, budget.id, subject, limit, rng.random() < 0.6))

    def lend(self) -> None:
        """Give a subject credit that ends in a while."""
        rng = self.rng
        budget = self.pg.budgets[rng.choice(list(self.pg.budgets))]
        if not self.pg.down:
            self.count("credit that ends")
            subject = {"tenant": "t", "project": rng.choice("pq"), "customer": rng.choice("cd")}[budget.scope]
            at = self.now + rng.choice((20, 60, 200, 900))
            self.start(
                "operator", actors.lend(self, self.sweeper, budget.id, subject, at, rng.choice((4, 8, 15)))
            )

    def add_budget(self) -> None:
        """Make a budget in the middle of its window."""
        ids = self.pg.budgets
        if len(ids) < 4 and not self.pg.down:
            self.count("budgets made in mid-window")
            scope = self.rng.choice(("tenant", "customer"))
            budget = Budget(len(ids), scope, 12, ids[0].window, made_late=True)
            self.start("operator", actors.add_budget(self, self.sweeper, budget))

    def plan_close(self) -> None:
        """Close the epoch as planned."""
        self.start("controller", actors.plan_close(self, self.rng.choice(self.controllers)))

    def retire_one(self) -> None:
        """Retire a counter's incarnation in an open epoch."""
        if self.pg.counters:
            self.count("incarnations retired alone")
            key = self.rng.choice(list(self.pg.counters))
            self.start("sweeper", actors.retire_one(self, self.sweeper, key))

    def write_off(self) -> None:
        """Write stranded authority off, whether or not it is time yet."""
        rows = [
            (key, row.inc)
            for key, counter in self.pg.counters.items()
            for row in counter.rows.values()
            if row.authority and (row.state != "live" or self.pg.epochs[row.epoch].state == "closed")
        ]
        if rows:
            self.count("write-offs asked for")
            self.start("operator", actors.write_off(self, self.sweeper, *self.rng.choice(rows)))

    def rerate(self) -> None:
        """Preview some settled calls at other prices and apply it; now and then two people do at once."""
        settled = [hold for hold in self.truth.holds.values() if hold.state is HoldState.SETTLED]
        if settled:
            self.count("re-ratings")
            holds = self.rng.sample(settled, min(len(settled), 3))
            for _ in range(self.rng.choice((1, 1, 2))):
                factor = self.rng.choice((0, 0.5, 2, 3))
                self.start("operator", actors.rerate(self, self.sweeper, holds, factor))

    # Crashes and losses

    def crash(self) -> None:
        """A process dies between two of its steps."""
        waiting = [i for i, (process, _) in enumerate(self.flight) if process]
        if waiting and self.rng.random() < 0.3:
            i = self.rng.choice(waiting)
            process, effect = self.flight[i]
            assert process is not None
            self.flight[i] = (None, effect)
        elif self.ready:
            process = self.ready.pop(self.rng.randrange(len(self.ready)))
        else:
            return
        self.say("crash", process.kind)
        self.count(f"crashes of a {process.kind}")
        process.actor.close()

    def postgres_down(self) -> None:
        """PostgreSQL stops answering."""
        self.pg.down = True
        self.count("PostgreSQL outages")

    def _copy(self, redis: Redis) -> Any:
        return self.rng.choice([None, *redis.snapshots, *redis.snapshots])

    def restart(self) -> None:
        """A Redis restarts with older data, or none, and without scripts."""
        redis = self.rng.choice(self.servers)
        copy = self._copy(redis)
        self.say("restart redis", self.servers.index(redis), "empty" if copy is None else "rolled back")
        self.count("restarts with data lost" if copy is None else "restarts with data rolled back")
        redis.restore(copy)
        self.truth.check_all()

    def kill(self) -> None:
        """A Redis dies."""
        self.say("kill redis")
        self.rng.choice(self.servers).alive = False
        self.count("Redis killed")

    def flush(self) -> None:
        """A Redis loses its data and keeps its scripts."""
        redis = self.rng.choice(self.servers)
        self.say("flush redis", self.servers.index(redis))
        self.count("Redis flushed")
        redis.flush()
        self.truth.check_all()

    def fail_over(self) -> None:
        """A replica that lags, or is empty, is promoted; some hosts still talk to the old master."""
        if len(self.servers) == SERVERS_MAX:
            return
        old = self.servers[-1]
        new = Redis(self, self.bug, old.skew if self.rng.random() < 0.5 else self.rng.randint(-20, 20))
        new.restore(self._copy(old))
        self.servers.append(new)
        self.say("fail over to redis", len(self.servers) - 1)
        self.count("promotions beside an old master")
        for host in self.hosts():
            if self.rng.random() < 0.5:
                host.redis = new
        self.truth.check_all()

    def stray_delete(self) -> None:
        """One counter's key vanishes. Outside the fault model until its creation is known to PostgreSQL.

        Keys have no TTL, nothing is evicted and no role may DEL, so this is a bug or a hand. It is modelled
        where the design answers it: after an acknowledgement, with no creating message on its way.
        """
        redis = self.rng.choice(self.servers)
        under_way = {e[2].key for _, e in self.flight if e[1] == "load"}
        keys = [
            (epoch, key)
            for (epoch, key), found in redis.keys.items()
            if self.pg.counters[key].rows[found[0]].acked and key not in under_way
        ]
        # A sender that is between two steps may also still send one.
        if keys and not self.ready and all(process is None for process, _ in self.flight):
            where = self.rng.choice(keys)
            self.say("stray delete", where)
            self.count("counter keys deleted by hand")
            del redis.keys[where]
            self.truth.check_all()

    def reconnect(self, host: Any) -> None:
        """A host whose Redis does not serve finds the new master, sooner or later."""
        if self.rng.random() < 0.3:
            host.redis = self.servers[-1]

    def hosts(self) -> list[Any]:
        """Everybody that talks to Redis."""
        return [*self.gateways, *self.controllers, self.sweeper]

    def heal_one(self) -> None:
        """Something broken works again."""
        rng = self.rng
        if self.pg.down:
            self.pg.down = False
            return
        dead = [r for r in self.servers if not r.alive]
        if dead:
            redis = rng.choice(dead)
            redis.restore(self._copy(redis))
            self.truth.check_all()
            return
        rng.choice(self.hosts()).redis = self.servers[-1]

    actions = (
        lambda w: w.call(), advance, tick, sweep, leap, save, poll, heal_one, crash, edit, add_budget, plan_close,
        retire_one, write_off, rerate, restart, kill, flush, fail_over, stray_delete, postgres_down, lend,
        lambda w: w.lease(),
    )  # fmt: skip

    # The end of a run

    def heal(self) -> None:
        """Repair everything, let every process end, and assert what must hold at rest."""
        rng = self.rng
        self.say("heal")
        self.calm, self.pg.down = True, False
        main = self.servers[-1]
        if not main.alive:
            main.restore(self._copy(main))
        for host in self.hosts():
            host.redis = main
        for _ in range(14):
            while self.ready or self.flight:
                if self.ready:
                    self.run(self.ready.pop(rng.randrange(len(self.ready))))
                else:
                    self.deliver()
            for host in self.controllers:
                self.quietly(actors.tick(self, host))
            self.quietly(actors.sweep(self, self.sweeper))
            if not self.events and not main.expired() and self.now % 7 == 0:
                break
            self.now += 7 * 60 - self.now % 7
            self.wake()
        self._at_rest(main)

    def _at_rest(self, main: Redis) -> None:
        pg, truth = self.pg, self.truth
        for _ in range(3):
            self.quietly(actors.tick(self, self.controllers[0]))
            self.quietly(actors.sweep(self, self.sweeper))
        epoch = pg.epochs[-1]
        if epoch.state != "open" or not truth.reachable(main, epoch.id):
            truth.fail("no epoch opens although everything runs", state=epoch.state)
        if self.events or main.expired() or any(pg.unacked()):
            truth.fail("work is left although everything runs", unacked=pg.unacked())
        self.now += 901
        while any(
            (b.window and not 30 < self.now % b.window < b.window - 30)
            # Nor near the end of a credit, of which two clocks think differently.
            or any(-30 < at - self.now < 30 for at, _ in b.credit.values())
            for b in pg.budgets.values()
        ):
            self.now += 61
        for _ in range(6):
            self.quietly(actors.tick(self, self.controllers[0]))
            self.quietly(actors.sweep(self, self.sweeper))
        truth.check_all()
        truth.verify()
        self._is_useful(epoch.id)

    def _is_useful(self, epoch: int) -> None:
        """A fresh budget admits a call, and every counter admits exactly what its true room allows."""
        from .world import Call

        pg, host = self.pg, self.gateways[0]
        pg.budgets[99] = Budget(99, "probe", 15, 0)
        pg.policy_version += 1
        self.quietly(actors.publish(self, self.sweeper))
        probes: list[tuple[Any, int]] = [((99, "new", 0), 15)]
        for key, counter in pg.counters.items():
            here = [row for row in counter.rows.values() if row.state == "live" and row.epoch == epoch]
            if any(row.acked and (epoch, key) not in host.redis.keys for row in here):
                continue  # Deleted by hand, and nobody has missed it yet: the first ask will lock more.
            stranded = counter.authority - sum(row.authority for row in here)
            window = pg.budgets[key[0]].window
            if key[2] == (self.now // window if window else 0):
                probes.append((key, pg.limit_of(key) - counter.spent - stranded))
        whole = pg.policy()
        for key, room in probes:
            self.truth.limit_max.setdefault(key, pg.limit_of(key))
            call = Call(len(self.calls) + 1, {}, (max(1, min(room, 6)),), 30)
            call.subjects = (key[1],) * 4
            self.calls[call.id] = call
            host.policy = (whole[0], tuple(rule for rule in whole[1] if rule[0] == key[0]))
            self.probe = key
            answer = self.quietly(actors.preflight(self, host, call))
            if (answer == "PLACED") != (room >= 1):
                self.truth.fail("a call with room is refused, or one without is placed", key=key, room=room,
                                answer=answer)  # fmt: skip
