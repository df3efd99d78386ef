"""One run: the schedule, the network, the crashes, the clients. Everything is decided by `random.Random(seed)`."""

from __future__ import annotations

import heapq
import random
from collections import Counter as Tally
from typing import Any

from budgets.domain.escrow import HoldState

from . import actors
from .actors import ERROR, Actor, Host
from .faults import Faults
from .leases import LeaseWorld
from .postgres import Postgres
from .profiles import PROFILES
from .redis import Redis
from .rows import Budget, CounterKey, Epoch
from .truth import Truth, Violation

SETTLED, VOIDED, PRESUMED = HoldState.SETTLED, HoldState.VOIDED, HoldState.PRESUMED
FOREVER = 10**9
LIMIT = 15
ONCE_ONLY = frozenset({"script_load", "set_epoch"})
"""A TCP connection delivers a command once; what is sent twice is sent by a retry, and these two have none."""


class Call:
    """A call of a client: who it is for and what it needs of each budget."""

    __slots__ = ("asked_at", "fired", "id", "lease", "needs", "subjects", "tries", "ttl")

    def __init__(self, id: int, subjects: dict[str, str], needs: tuple[int, ...], ttl: int) -> None:
        self.id, self.needs, self.ttl = id, needs, ttl
        self.lease, self.asked_at = False, 0
        self.subjects = tuple(subjects.values())
        self.fired = False
        self.tries = 0


class Process:
    """A running actor; `value` is what its last effect answered."""

    __slots__ = ("actor", "kind", "value")

    def __init__(self, kind: str, actor: Actor) -> None:
        self.kind, self.actor, self.value = kind, actor, None


class World(LeaseWorld, Faults):
    """The state of one run and its next step."""

    def __init__(self, seed: int, bug: str = "", trace: bool = False) -> None:
        self.rng = rng = random.Random(seed)
        self.seed, self.bug = seed, bug
        self.trace: list[str] | None = [] if trace else None
        self.now, self.calm = 1000, False
        self.counts: Tally[str] = Tally()
        self.profile = PROFILES[seed % len(PROFILES)]
        self.pg = Postgres(self, bug)
        self.truth = Truth(self)
        first = Redis(self, bug, rng.randint(-20, 20))
        self.servers = [first]
        self.gateways = [Host(first, rng.randint(-5, 5)) for _ in range(3)]
        self.controllers = [Host(first), Host(first)]
        self.sweeper = Host(first)
        self.calls: dict[int, Call] = {}
        self.ready: list[Process] = []
        self.flight: list[tuple[Process | None, tuple[Any, ...]]] = []
        self.events: list[tuple[int, int, tuple[Any, ...]]] = []
        self.ticket = 0
        self._found()

    def _found(self) -> None:
        rng, pg = self.rng, self.pg
        window = rng.choice((0, 700, 1500))
        scopes = ["tenant", *rng.sample(["project", "customer"], rng.randint(1, 2))]
        for i, scope in enumerate(scopes):
            limit = LIMIT if i == 0 else rng.choice((8, LIMIT, 20))
            pg.budgets[i] = Budget(i, scope, limit, window if i == 0 else rng.choice((0, window)))
        pg.epochs.append(Epoch(0, self.now))
        pg.epochs[0].state = "closed"
        pg.epochs.append(Epoch(1, self.now + 60))
        for host in self.gateways:
            host.epoch, host.policy = 1, pg.policy()
        self.quietly(actors.open_next(self, self.controllers[0], (1, self.now + 60)))

    def count(self, what: str) -> None:
        """Tally an event, so that a run in which nothing happened does not pass."""
        self.counts[what] += 1

    def say(self, *words: Any) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:6} " + " ".join(str(w) for w in words))

    # Budgets

    def items(self, host: Host, call: Call) -> list[Any]:
        """The counters of a call by this host's policy and clock."""
        now = self.now + host.skew
        found: list[Any] = []
        for budget, version, scope, window in host.policy[1]:
            index = now // window if window else 0
            subject = call.subjects[("tenant", "project", "customer", "probe").index(scope)]
            if subject is None:
                continue
            key = (budget, subject, index)
            if key not in self.truth.limit_max:
                self.truth.limit_max[key] = self.pg.limit_of(key)
            end = (index + 1) * window if window else FOREVER
            found.append((key, call.needs[budget % len(call.needs)], version, index * window, end))
        return found

    def window_of(self, key: CounterKey, now: int) -> int:
        """The index of the window that a counter's budget is in now."""
        window = self.pg.budgets[key[0]].window
        return now // window if window else 0

    def new_limit(self, budget: int, subject: str | None, limit: int) -> None:
        """Remember the highest limit that a counter ever had."""
        for key in self.truth.limit_max:
            if key[0] == budget and subject in (None, key[1]):
                at, amount = self.pg.budgets[budget].credit.get(key[1], (0, 0))
                lent = amount if at > self.now else 0
                self.truth.limit_max[key] = max(self.truth.limit_max[key], limit + lent)

    # Processes and the network

    def start(self, kind: str, actor: Actor) -> None:
        """Start a process; it runs when the schedule says so."""
        self.ready.append(Process(kind, actor))

    def run(self, process: Process) -> None:
        """Let a process take one step and send its next message."""
        try:
            effect = process.actor.send(process.value)
        except StopIteration:
            return
        self.transmit(process, effect)

    def transmit(self, process: Process, effect: tuple[Any, ...]) -> None:
        """Decide what becomes of a message: done, lost, answer lost, late, twice, or delayed."""
        process.value = ERROR
        fate = 1.0 if self.calm else self.rng.random()
        lost, unanswered, late, twice, delayed = self.profile.network
        if effect[1] == "ack" and not self.calm and self.rng.random() < 0.4:
            fate = unanswered  # Nobody waits for an acknowledgement: they are booked in batches, later.
        if fate >= delayed:
            process.value = self.execute(effect)
        elif fate < lost:
            self.count("messages lost")
        elif fate < unanswered:
            self.execute(effect)
            self.count("answers lost")
        elif fate < late:
            self.flight.append((None, effect))
            self.count("messages late")
        elif fate < twice and effect[0] is not self.pg and effect[1] not in ONCE_ONLY:
            process.value = self.execute(effect)
            self.flight.append((None, effect))
            self.count("messages twice")
        else:
            self.flight.append((process, effect))
            self.count("messages delayed")
            return
        self.ready.append(process)

    def deliver(self) -> None:
        """Deliver one delayed message; a process that still waits for it goes on."""
        waiting = len(self.flight)
        # Most messages are soon there, a few are very late: later than whole recoveries.
        latest = max(self.rng.randrange(waiting), self.rng.randrange(waiting))
        process, effect = self.flight.pop(latest)
        answer = self.execute(effect)
        if process:
            process.value = answer
            self.ready.append(process)

    def execute(self, effect: tuple[Any, ...]) -> Any:
        """Do what a message says, atomically, and assert the invariants of what it touched."""
        store, method, *arguments = effect
        if store is self.pg:
            if store.down:
                self.count("PostgreSQL was down")
                return ERROR
        elif not store.alive:
            self.count("Redis was down")
            return ERROR
        before = None
        if method == "preflight":
            before = self._drawn(store, arguments)
        answer = getattr(store, method)(*arguments)
        if self.trace is not None:
            where = "pg" if store is self.pg else f"redis{self.servers.index(store)}"
            self.say(where, method, *[self.brief(a) for a in arguments], "->", self.brief(answer))
        if before is not None and answer[0] != "PLACED" and before != self._drawn(store, arguments):
            self.truth.fail("a refused call holds something on one of its counters")
        if answer == "VERSION":
            self.truth.published[arguments[0]] = store.versions[arguments[0]]
        if store.touched:
            self.truth.check(store.touched)
            store.touched.clear()
        return answer

    def _drawn(self, redis: Redis, arguments: Any) -> list[Any]:
        epoch = arguments[0]
        return [(k[4], k[5]) for item in arguments[3] if (k := redis.keys.get((epoch, item[0])))]

    @staticmethod
    def brief(value: Any) -> str:
        """Shorten a value for the trace."""
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return "(" + ", ".join(World.brief(v) for v in value) + ")"
        if hasattr(value, "amounts"):
            return f"hold{value.id}{list(zip(value.counters, value.amounts, value.incs, strict=True))}"
        if hasattr(value, "_asdict"):
            return f"{type(value).__name__}({', '.join(f'{k}={v}' for k, v in value._asdict().items())})"
        return str(value)

    def quietly(self, actor: Actor) -> Any:
        """Run a process to its end without faults."""
        value = None
        while True:
            try:
                effect = actor.send(value)
            except StopIteration as end:
                return end.value
            value = self.execute(effect)

    # Clients

    def call(self, *, lease: bool = False) -> None:
        """A client makes a call, or asks for a lease."""
        rng = self.rng
        if self.pg.epochs[-1].state != "open" and rng.random() < 0.4:
            self.tick()  # Controllers look more often while nothing can be placed.
            return
        needs = tuple(rng.randint(1, 6) for _ in range(rng.choice((1, 3))))
        if lease:
            needs = tuple(need + 2 for need in needs)
        subjects = {"tenant": "t", "project": rng.choice("pq"), "customer": rng.choice("cd"), "probe": None}
        call = Call(len(self.calls) + 1, subjects, needs, rng.choice((30, 120, 900)))  # type: ignore[arg-type]
        call.lease, call.asked_at = lease, self.now
        if lease:
            call.ttl = rng.choice((70, 120, 900))
        self.calls[call.id] = call
        self.start("gateway", actors.preflight(self, rng.choice(self.gateways), call))

    def on_unanswered(self, call: Call) -> None:
        """A pre-flight got no answer: its client may try again with the same key, elsewhere."""
        if self.rng.random() < 0.5 and call.tries < 3:
            call.tries += 1
            self.count("calls retried")
            self.start("gateway", actors.preflight(self, self.rng.choice(self.gateways), call))

    def on_answer(self, call: Call, hold: Any) -> None:
        """A client got its authorization: it fires, and later tells what it used, or not."""
        if call.fired:
            return
        if not self.calm and self.rng.random() < self.profile.network[0]:
            self.count("authorizations lost")
            self.on_unanswered(call)
            return
        call.fired = True
        self.count("fired")
        rng = self.rng
        if hold.lease:
            self.on_lease(call, hold)
            return
        usage = self._usage(hold)
        zero = (0,) * len(usage)
        soon, late = rng.randint(1, call.ttl), call.ttl + rng.randint(1, 1500)
        kind = rng.choices(self.profile.plans, self.profile.plan_weights)[0]
        self.count(f"clients that settle {kind}")
        if kind == "never":
            return
        if kind == "late":
            self.later(late, "resolve", hold, SETTLED, usage)
        elif kind == "void late":
            self.later(late, "resolve", hold, VOIDED, zero)
        elif kind in ("void", "void then settle"):
            self.later(soon, "resolve", hold, VOIDED, zero)
        elif kind == "null":
            self.later(soon, "resolve", hold, PRESUMED, hold.amounts)
        else:
            self.later(soon, "resolve", hold, SETTLED, usage)
        again = soon + rng.choice((1, 30, 1000))
        if kind == "twice":
            self.later(again, "resolve", hold, SETTLED, usage)
        elif kind == "with other usage":
            self.later(again, "resolve", hold, SETTLED, self._usage(hold))
        elif kind in ("void then settle", "null"):
            self.later(again, "resolve", hold, SETTLED, usage)
        elif kind == "extended":
            self.later(soon // 2, "extend", hold, rng.choice((60, 400)))

    def _usage(self, hold: Any) -> tuple[int, ...]:
        factor = self.rng.choice(self.profile.factors)
        return tuple(max(0, round(h * factor)) for h in hold.amounts)

    def later(self, seconds: int, *event: Any) -> None:
        """Let a client do something later."""
        self.ticket += 1
        heapq.heappush(self.events, (self.now + seconds, self.ticket, event))

    def retry(self, hold: Any, wanted: HoldState, usage: tuple[int, ...], tries: int) -> None:
        """A client's outbox keeps what was not acknowledged."""
        self.count("settlements kept in an outbox")
        self.later(5 * 2**tries, "resolve", hold, wanted, usage, min(tries + 1, 6))

    def wake(self) -> None:
        """Start what is due."""
        while self.events and self.events[0][0] <= self.now:
            _, _, (what, hold, *rest) = heapq.heappop(self.events)
            if what == "holder":
                self.on_holder(hold, *rest)
                continue
            host = self.rng.choice(self.gateways)
            if what == "report":
                self.start("gateway", actors.report(self, host, hold, *rest))
                continue
            if what == "extend":
                self.start("gateway", actors.extend(self, host, hold, rest[0]))
            else:
                wanted, usage, *tries = rest
                tried = tries[0] if tries else 0
                self.start("gateway", actors.resolve(self, host, hold, wanted, usage, tried))

    # The schedule

    def play(self, steps: int) -> None:
        """Run the schedule, then heal everything and verify what is left. Raises Violation."""
        try:
            for _ in range(steps):
                self.step()
            self.heal()
        except Violation as found:
            self.say("VIOLATION", *found.args)
            raise

    def step(self) -> None:
        """One step: a process goes on, a message arrives, or something new happens."""
        rng = self.rng
        dice = rng.random()
        if self.ready and (dice < 0.66 or len(self.ready) > 8):
            ready = self.ready
            i = rng.randrange(len(ready))
            ready[i], ready[-1] = ready[-1], ready[i]
            self.run(ready.pop())
        elif self.flight and (dice < 0.74 or len(self.flight) > 20):
            self.deliver()
        else:
            rng.choices(self.actions, cum_weights=self.profile.weights)[0](self)
