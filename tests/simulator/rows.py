"""The rows and messages that the model of PostgreSQL is made of."""

from __future__ import annotations

from typing import NamedTuple

from budgets.domain import escrow
from budgets.domain.escrow import HoldState

CounterKey = tuple[int, str, int]
"""(budget, subject, window): what the real id hashes."""


class Message(NamedTuple):
    """A load message: what Redis may draw from one incarnation of one counter."""

    key: CounterKey
    epoch: int
    inc: int
    seq: int
    total: int
    parent_free: int
    version: int
    create: bool
    until: int = 0
    """When the limit falls by itself, by Redis's clock; 0: never."""


class Ask(NamedTuple):
    """One counter that a call lacks something on, and what Redis showed of it; `inc` 0 is a missing key."""

    key: CounterKey
    lack: int
    inc: int
    chunk: int


class Budget:
    """A rule: `window` seconds long (0: total), for the whole tenant or each project or customer.

    `credit` is what some subjects have on top of the limit until a time: (time, amount), as a wallet's credit that ends.
    """

    __slots__ = ("credit", "id", "limit", "made_late", "overrides", "scope", "version", "window")

    def __init__(self, id: int, scope: str, limit: int, window: int, made_late: bool = False) -> None:
        self.id, self.scope, self.limit, self.window, self.made_late = id, scope, limit, window, made_late
        self.version = 1
        self.overrides: dict[str, int] = {}
        self.credit: dict[str, tuple[int, int]] = {}


class Row:
    """A grant row: one incarnation of a counter in one epoch."""

    __slots__ = (
        "acked", "authority", "clamped", "confirmed", "epoch", "granted", "inc", "left_at", "seq", "state", "written",
    )  # fmt: skip

    def __init__(self, epoch: int, inc: int) -> None:
        self.epoch, self.inc = epoch, inc
        self.state = "live"
        self.authority = self.granted = self.seq = self.acked = self.clamped = self.written = 0
        self.confirmed = False  # Redis answered the retire.
        self.left_at: int | None = None  # Since when Redis places nothing on it any more.


class Counter:
    """A budget for one subject in one window."""

    __slots__ = ("authority", "bv", "limit", "opening", "previous", "previous_at", "rows", "spent", "until")

    def __init__(self, limit: int, bv: int, opening: int) -> None:
        self.limit, self.bv, self.opening = limit, bv, opening
        self.spent = opening
        self.authority = self.previous = self.until = 0
        self.previous_at = -escrow.RECENT_MS
        self.rows: dict[int, Row] = {}

    def newest(self, epoch: int) -> Row | None:
        """The latest row of this epoch; rows are kept in the order of their incarnations."""
        for inc in reversed(self.rows):
            return self.rows[inc] if self.rows[inc].epoch == epoch else None
        return None


class Epoch:
    """One life of the shard in one Redis."""

    __slots__ = ("id", "state", "valid_until")

    def __init__(self, id: int, valid_until: int) -> None:
        self.id, self.valid_until, self.state = id, valid_until, "opening"


class Resolution:
    """A row of hold_resolutions: `first` and `live` never change after the first posting.

    `told` is what was posted by the last resolution, before any re-rating: what a replay must be recognised by.
    """

    __slots__ = ("draws", "entries", "first", "held", "live", "posted", "revision", "state", "told")

    def __init__(
        self, state: HoldState, posted: tuple[int, ...], live: tuple[bool, ...], held: tuple[int, ...]
    ) -> None:
        self.state, self.posted, self.first, self.live = state, posted, posted, live
        self.told, self.revision = posted, 1
        self.held, self.draws = held, 0  # A lease's: what is left of it, until it ends, and how many drew.
        self.entries = [posted]
