"""Leases of docs/escrow.md, section 8: the transaction of draws, what really happened, and their holders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from budgets.domain import escrow
from budgets.domain.escrow import HoldState, Step

from . import actors
from .rows import Message, Resolution

if TYPE_CHECKING:
    from .truth import Hold

OPEN, LEASED = HoldState.PLACED, HoldState.LEASED
SETTLED, VOIDED, PRESUMED = HoldState.SETTLED, HoldState.VOIDED, HoldState.PRESUMED
DRAW_SECONDS = escrow.LEASE_DRAW_SECONDS


class Draw:
    """One call made from a lease. `amounts` is its hold, which PostgreSQL decides; `bounds` are its holder's."""

    __slots__ = (
        "amounts", "bounds", "committed", "counters", "epoch", "id", "incs", "lease", "posted", "reported", "state",
        "usage",
    )  # fmt: skip

    def __init__(self, lease: Hold, number: tuple[int, int], bounds: tuple[int, ...]) -> None:
        self.lease, self.id, self.bounds = lease, (lease.id, *number), bounds
        self.epoch, self.counters, self.incs = lease.epoch, lease.counters, lease.incs
        self.amounts: tuple[int, ...] = (0,) * len(bounds)
        self.committed = self.posted = self.amounts
        self.usage: tuple[int, ...] | None = None  # None: in flight.
        self.state = OPEN
        self.reported = False


class LeaseStore:
    """PostgreSQL's side: one transaction for the draws of one lease; `Postgres` mixes it in."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The rest is `Postgres`'s."""

    def left_of(self, lease: Hold, found: Resolution | None) -> tuple[int, ...]:
        """What has not been drawn of a lease that nothing has ended."""
        if found is None or self.bug == "lease_ends_whole":
            return lease.amounts
        return found.held

    def draw(
        self, lease: Hold, draws: list[tuple[Draw, HoldState, tuple[int, ...]]], total: int | None
    ) -> tuple[list[Step], bool, Any, list[Message]]:
        """Record draws, and close the lease if `total` is how many it has: (steps, closed, apply, messages)."""
        bug, truth = self.bug, self.world.truth
        out: list[Message] = []
        steps: list[Step] = []
        zero = (0,) * len(lease.amounts)
        found = self.resolutions.get(lease.id)
        if found is None:
            found = self.resolutions[lease.id] = Resolution(LEASED, zero, (), lease.amounts)
        open_, late = found.state is LEASED, found.state is PRESUMED
        left = found.held if open_ else found.posted if late else zero
        if bug == "late_draw_adds" and late:
            left = zero
        taken = zero
        for draw, wanted, usage in draws:
            known = self.resolutions.get(draw.id)
            step = Step.FIRST
            if known is not None:
                step = escrow.transition(known.state, wanted, same_usage=known.told == usage)
            if step is Step.REPLAY and bug == "draw_twice_posts_twice":
                step = Step.FIRST
            if step is Step.FIRST:
                take = tuple(map(min, usage, left))
                if bug == "late_draw_not_capped" and late:
                    take = usage
                left = tuple(x - y for x, y in zip(left, take, strict=True))
                taken = tuple(x + y for x, y in zip(taken, take, strict=True))
                draw.amounts = take if open_ and bug != "draw_holds_nothing" else zero
                self._first(draw, wanted, usage, out)
                found.draws += 1
            elif step is Step.LATER and known is not None:
                self._later(draw, known, wanted, usage, out)
            steps.append(step)
            truth.on_draw(draw, wanted, usage, step)
        if open_:
            found.held = left if bug != "draw_leaves_lease_whole" else lease.amounts
        elif late and any(taken):
            for key, change in zip(lease.counters, taken, strict=True):
                self.counters[key].spent -= change
                self.touched.add(key)
                if change and bug != "late_draw_not_published":
                    self._publish(key, out)
            found.entries.append(tuple(-change for change in taken))
            found.posted = left
        if total is None:
            return steps, False, None, out
        if found.draws != total and bug != "close_without_total":
            self.world.count("closes refused")
            return steps, False, None, out
        truth.on_lease_closed(lease)
        _, apply, more = self.resolve(lease, VOIDED, zero)
        return steps, True, apply, out + more


class LeaseTruth:
    """What really happened to leases; `Truth` mixes it in."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The rest is `Truth`'s."""

    def on_drawn(self, draw: Draw, asked_of: list[Draw]) -> None:
        """A call begins that was drawn from a lease. `asked_of` are all draws that the lease ever had."""
        lease, world = draw.lease, self.world
        world.count("drawn")
        for i, most in enumerate(lease.amounts):
            spoken = sum(d.bounds[i] if d.usage is None else min(d.bounds[i], d.usage[i]) for d in asked_of)
            if spoken > most:
                self.fail("draws of a lease exceed it", lease=lease.id, spoken=spoken, lease_of=most)
        now = lease.redis.time
        if now >= lease.placed_at + DRAW_SECONDS:
            self.fail("a draw began after its lease's draw_until", lease=lease.id)
        for key in lease.counters:
            window = world.pg.budgets[key[0]].window
            if window and now >= (key[2] + 1) * window:
                self.fail("a draw began after its window", lease=lease.id, key=key)

    def on_draw(self, draw: Draw, wanted: HoldState, usage: tuple[int, ...], step: Step) -> None:
        """PostgreSQL committed a draw; what it ought to have done is worked out here again."""
        lease = draw.lease
        # What is known exactly is not forgotten for a word that came late, that nothing was seen.
        forgets = draw.state is SETTLED and wanted is PRESUMED
        if draw.reported and (draw.posted == usage or forgets):
            self.world.count("draws reported twice")
            return
        first = not draw.reported
        for i, (key, a) in enumerate(zip(draw.counters, usage, strict=True)):
            back = 0
            if first:
                take = min(a, lease.left[i]) if lease.state in (OPEN, PRESUMED) else 0
                lease.left[i] -= take
                if lease.state is PRESUMED:
                    back = take
                elif draw.incs[i] not in lease.written:
                    self.open[draw.incs[i]] -= take
                cover = min(take, lease.committed[i])
                lease.committed[i] -= cover
                draw.committed = (*draw.committed[:i], cover, *draw.committed[i + 1 :])
            kept = min(a, draw.committed[i])
            self.total[key] += kept - draw.committed[i]
            self.allowed[key] = self.allowed.get(key, 0) + a - kept
            draw.committed = (*draw.committed[:i], kept, *draw.committed[i + 1 :])
            self.posted[key] = self.posted.get(key, 0) + a - draw.posted[i] - back
            if back:
                lease.posted = (*lease.posted[:i], lease.posted[i] - back, *lease.posted[i + 1 :])
        if first:
            self.world.count(f"draws of a lease that is {lease.state}")
        draw.posted, draw.state, draw.reported = usage, wanted, True

    def on_lease_closed(self, lease: Hold) -> None:
        """PostgreSQL releases what is left of a lease."""
        self.world.count("leases closed")
        if any(not draw.reported for draw in self.leases.get(lease.id, ())):
            self.fail("a lease was closed although draws of it are unreported", lease=lease.id)


class Holder:
    """A process with a lease: what it has left by its own account, and what it has not reported yet."""

    __slots__ = ("alive", "asked_at", "draws", "lease", "recalled", "seconds", "unreported")

    def __init__(self, lease: Hold, asked_at: int, seconds: int) -> None:
        self.lease, self.asked_at, self.seconds = lease, asked_at, seconds
        self.alive, self.recalled = True, False
        self.draws: list[Draw] = []
        self.unreported: list[tuple[Draw, HoldState, tuple[int, ...]]] = []

    def room(self, bug: str) -> list[int]:
        """What a draw may be bound by: the lease, less what was used and what is in flight."""
        spoken = [
            [
                (d.usage or ((0,) * len(d.bounds) if bug == "flight_not_reserved" else d.bounds))[i]
                for d in self.draws
            ]
            for i in range(len(self.lease.amounts))
        ]
        return [most - sum(said) for most, said in zip(self.lease.amounts, spoken, strict=True)]


class LeaseWorld:
    """Holders in the schedule; `World` mixes it in."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The rest is `World`'s."""

    def lease(self) -> None:
        """A client asks for a lease."""
        self.call(lease=True)

    def on_lease(self, call: Any, hold: Hold) -> None:
        """A client got a lease: it draws for a while, reports, and closes it, dies or forks."""
        rng = self.rng
        self.count("leases")
        ends = [
            (key[2] + 1) * window - hold.placed_at
            for key in hold.counters
            if (window := self.pg.budgets[key[0]].window)
        ]
        seconds = min([DRAW_SECONDS, *ends])
        if self.bug == "draws_after_draw_until":
            seconds = 100
        elif self.bug == "draws_after_window":
            seconds = DRAW_SECONDS
        holder = Holder(hold, call.asked_at, seconds)
        for _ in range(rng.randint(2, 8)):
            self.later(rng.randint(0, 50), "holder", holder, "begin")
        for _ in range(rng.randint(0, 3)):
            self.later(rng.randint(1, call.ttl), "holder", holder, "report")
        dice = rng.random()
        if dice < 0.12:
            self.later(rng.randint(1, 60), "holder", holder, "kill")
        elif dice < 0.24:
            self.later(rng.randint(1, 50), "holder", holder, "fork")
        if dice > 0.08:
            self.later(rng.choice((40, 70, 200, call.ttl + 100)), "holder", holder, "close")

    def on_holder(self, holder: Holder, what: str, *more: Any) -> None:
        """Something happens at a holder."""
        if what == "end":
            self._end(holder, *more)
        elif what == "left" or holder.alive:
            getattr(self, f"_{what}")(holder, *more)

    def _begin(self, holder: Holder) -> None:
        """A call is drawn, if its bound fits."""
        bounds = tuple(self.rng.randint(1, max(1, most // 3)) for most in holder.lease.amounts)
        early = self.now - holder.asked_at < holder.seconds
        if not early or any(b > room for b, room in zip(bounds, holder.room(self.bug), strict=True)):
            self.count("draws refused by their holder")
            return
        draw = Draw(holder.lease, (0, len(holder.draws)), bounds)
        holder.draws.append(draw)
        self.truth.leases.setdefault(holder.lease.id, []).append(draw)
        self.truth.on_drawn(draw, self.truth.leases[holder.lease.id])
        self.later(self.rng.randint(1, 150), "holder", holder, "end", draw)

    def _end(self, holder: Holder, draw: Draw) -> None:
        """A call ends; a holder that died does not see it."""
        if not holder.alive:
            return
        factor = self.rng.choice(self.profile.factors)
        unseen = self.rng.random() < 0.1
        draw.usage = draw.bounds if unseen else tuple(max(0, round(b * factor)) for b in draw.bounds)
        holder.unreported.append((draw, PRESUMED if unseen else SETTLED, draw.usage))
        if unseen and self.rng.random() < 0.5:
            usage = tuple(max(0, round(b * factor)) for b in draw.bounds)
            self.later(self.rng.randint(1, 300), "holder", holder, "correct", draw, usage)

    def _correct(self, holder: Holder, draw: Draw, usage: tuple[int, ...]) -> None:
        """A call of which nothing was seen is heard of after all."""
        holder.unreported = [item for item in holder.unreported if item[0] is not draw]
        holder.unreported.append((draw, SETTLED, usage))
        draw.usage = usage

    def _report(self, holder: Holder) -> None:
        """What ended is reported; some of it for the second time."""
        self.start("gateway", actors.report(self, self.rng.choice(self.gateways), holder, None, 0))

    def _close(self, holder: Holder) -> None:
        """The lease is closed once nothing is in flight."""
        holder.seconds = 0
        if any(draw.usage is None for draw in holder.draws) and self.bug != "closed_with_calls_in_flight":
            self.later(20, "holder", holder, "close")
            return
        total = sum(draw.usage is not None for draw in holder.draws)
        if self.rng.random() < 0.4:
            # The draws are on their way, or so this holder thinks: they come in another message, if they come.
            self.start(
                "gateway", actors.report(self, self.rng.choice(self.gateways), holder, total, 0, bare=True)
            )
            self._report(holder)
            return
        self.start("gateway", actors.report(self, self.rng.choice(self.gateways), holder, total, 0))

    def _kill(self, holder: Holder) -> None:
        """The holder dies; what is in its outbox is reported by another process, or by nobody."""
        self.count("holders killed")
        holder.alive = False
        if self.rng.random() < 0.7:
            self.later(self.rng.choice((5, 100, 1000)), "holder", holder, "left")

    def _left(self, holder: Holder) -> None:
        self.count("outboxes taken over")
        total = None
        if self.bug == "outbox_closes":
            total = len(
                {item[0].id for item in holder.unreported} | {d.id for d in holder.draws if d.reported}
            )
        self.start("gateway", actors.report(self, self.rng.choice(self.gateways), holder, total, 0))

    def _fork(self, holder: Holder) -> None:
        """The holder forks; its child drops the lease."""
        self.count("holders forked")
        if self.bug == "fork_keeps_lease":
            child = Holder(holder.lease, holder.asked_at, holder.seconds)
            child.draws = holder.draws[:]
            for _ in range(4):
                self.later(self.rng.randint(0, 30), "holder", child, "begin")
