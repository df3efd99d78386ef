"""Leases: placed as holds, drawn from by their holders, reported and closed here; docs/escrow.md, section 8."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg

from budgets.domain import leases
from budgets.domain.authorization import Hold
from budgets.domain.demands import Attribution, Bound, is_rate, subject_of
from budgets.domain.escrow import LEASE_DRAW_SECONDS
from budgets.domain.leases import Recall
from budgets.domain.policy import Metric, Scope
from budgets.services.epochs import CountersUnavailable, EpochDirectory
from budgets.services.grants import Grants
from budgets.services.guards import Stopped
from budgets.services.holds import Call, Holds, Placed, Refused, Standing
from budgets.services.resolutions import Report, Resolutions, Unrecordable, item_of, void
from budgets.services.snapshots import Snapshot, Snapshots
from budgets.stores.postgres.money import MoneyStore, Row, StorageUnavailable

log = logging.getLogger(__name__)


class NotLeasable(Exception):
    """This call is to be asked about by itself; the text says why."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is recorded of one draw. `outcome` as nb_resolve says it; amounts in nano-USD."""

    outcome: str
    state: str
    cost_nano: int
    revision: int


@dataclass(frozen=True, slots=True)
class Booked:
    """What came of a report: each draw (None: the ledger refuses it), how many there are, whether the lease is closed."""

    draws: list[Drawn | None]
    total: int
    closed: bool


class Leases:
    """Opens, books and closes leases for a gateway."""

    def __init__(
        self,
        *,
        store: MoneyStore,
        holds: Holds,
        epochs: EpochDirectory,
        grants: Grants,
        snapshots: Snapshots,
        resolutions: Resolutions,
    ) -> None:
        self._store, self._holds, self._epochs, self._grants = store, holds, epochs, grants
        self._snapshots, self._resolutions = snapshots, resolutions

    async def open(
        self, snapshot: Snapshot, call: Call, *, least: Bound, admit: Callable[[Snapshot], None]
    ) -> Placed | Refused:
        """Places a lease of at most `call.bound`, and of at least `least`, as one hold.

        Raises NotLeasable, and whatever placing a hold raises.
        """
        who = call.attribution
        if who.run or any(subject_of(rule, who) is not None for rule in snapshot.guards):
            raise NotLeasable("its run, or a guard, looks at each call")
        if snapshot.policy.routing:
            raise NotLeasable("policies choose the model of each call")
        standings = await self._holds.standings(snapshot, who)
        if any(is_rate(s.place.rule) or s.place.rule.scope is Scope.WALLET for s in standings):
            raise NotLeasable("a rate by the minute or a wallet counts these calls")
        found = leases.size(wanted=call.bound, least=least, rooms=_rooms(standings))
        if found is None:
            raise NotLeasable("too little is left for a lease")
        try:
            return await self._holds.place(
                snapshot.policy.tenant_id, msgspec.structs.replace(call, bound=found), admit=admit
            )
        except Stopped as stop:
            # A guard of a newer policy, which took the lease for one large call.
            raise NotLeasable("a guard looks at each call") from stop

    async def book(self, lease: Hold, draws: Sequence[tuple[Hold, Report]], *, total: int | None) -> Booked:
        """Records draws of a lease, each with the hold that it is and what became of it; closes the lease if `total` is
        how many it then has. Raises StorageUnavailable: repeat it."""
        report = void()
        item = item_of(lease, report)
        answer = await self._booked(item, [item_of(*draw) for draw in draws], total)
        await self._grants.deliver(answer["messages"])
        end = answer["end"]
        if end is not None and UUID(end["hold"]) == lease.body.hold_id:
            # Also on a replay: after a lost answer nobody knows whether Redis was told.
            await self._resolutions.apply(lease, report, item, end)
        rows = {UUID(row["hold"]): row for row in answer["draws"]}
        told = [rows.get(hold.body.hold_id) for hold, _ in draws]
        return Booked(
            [row and Drawn(row["outcome"], row["state"], row["cost"], row["revision"]) for row in told],
            answer["total"],
            answer["closed"],
        )

    async def _booked(self, item: Row, draws: list[Row], total: int | None) -> Row:
        """As nb_draw answers; a draw that the ledger refuses fails alone."""
        try:
            return await self._store.draw(item, draws, total)
        except psycopg.Error as error:
            if not draws:
                log.exception("lease %s was refused", item["hold"])
                raise Unrecordable(f"the ledger refused it: {type(error).__name__}") from error
            if len(draws) == 1:
                log.exception("draw %s of lease %s was refused", draws[0]["hold"], item["hold"])
                return await self._booked(item, [], total)
            middle = len(draws) // 2
            first = await self._booked(item, draws[:middle], None)
            second = await self._booked(item, draws[middle:], total)
            joined = {name: first[name] + second[name] for name in ("draws", "messages")}
            return {**second, **joined}

    async def recall(
        self,
        lease: Hold,
        attribution: Attribution,
        *,
        admits: Callable[[Snapshot], Recall | None],
        now: datetime,
    ) -> Recall | None:
        """Why a lease is to end, or None while it may go on, also where nobody can tell. Raises nothing."""
        body = lease.body
        terms = body.lease
        if now.timestamp() * 1000 >= leases.draw_until_ms(lease):
            return Recall.ENDED
        try:
            snapshot = await self._snapshots.newest(body.tenant_id)
            if snapshot is None or terms is None:
                return None
            if (reason := admits(snapshot)) is not None:
                return reason
            if snapshot.policy.version != terms.policy_version:
                return Recall.POLICY
            epoch = self._epochs.current(body.tenant_id)
            if epoch is not None and epoch.epoch_id != body.epoch_id:
                return Recall.EPOCH
            standings = await self._holds.standings(snapshot, attribution)
        except (CountersUnavailable, StorageUnavailable) as error:
            # What the holder has is its own until draw_until; nothing more is given.
            log.info("nobody can say whether a lease is to be recalled: %s", error)
            return None
        held = {c.counter_id: c.amount for c in body.counters}
        # Also of a budget that only warns: near its limit each call is asked about, and told of.
        for standing in standings:
            if standing.remaining < 0:
                return Recall.LIMIT
            if standing.remaining < held.get(standing.place.counter_id, 0):
                return Recall.LOW
        return None


def _rooms(standings: Sequence[Standing]) -> list[tuple[Metric, int]]:
    return [(s.place.rule.metric, s.remaining) for s in standings]


def draw_seconds(lease: Hold) -> float:
    """How long after its placing calls may be drawn."""
    return min(float(LEASE_DRAW_SECONDS), (leases.draw_until_ms(lease) - lease.placed_ms) / 1000)
