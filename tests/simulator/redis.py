"""The model of one Redis server: the scripts of docs/escrow.md, each atomic, on data that faults may roll back."""

from __future__ import annotations

from typing import Any

from budgets.domain import escrow
from budgets.domain.escrow import Verdict

from .rows import Ask, CounterKey, Message

INC, SEQ, BV, CHUNK, USED, HELD, PF, END = range(8)
Item = tuple[CounterKey, int, int, int, int]
"""One counter of a call: key, need, budget version, window start, window end."""


class Redis:
    """Scripts live in memory and die with the process; data survives as far as the last snapshot went."""

    def __init__(self, world: Any, bug: str, skew: int) -> None:
        self.world, self.bug, self.skew = world, bug, skew
        self.alive = True
        self.scripts: set[int] = set()
        self.epoch_key: tuple[int, int] | None = None
        self.keys: dict[tuple[int, CounterKey], list[int]] = {}
        self.gone: dict[tuple[int, CounterKey], tuple[int, int | None]] = {}
        self.holds: dict[tuple[int, int], list[Any]] = {}  # (epoch, call) -> [hold, expires at]
        self.versions: dict[int, int] = {}
        self.snapshots: list[tuple[Any, ...]] = []
        self.touched: set[CounterKey] = set()

    @property
    def time(self) -> int:
        """Redis TIME."""
        return int(self.world.now + self.skew)

    # Persistence and faults

    def save(self) -> None:
        """Keep a copy of the data, as a disk or a replica does."""
        keys = {k: v[:] for k, v in self.keys.items()}
        holds = {k: v[:] for k, v in self.holds.items()}
        self.snapshots.append((self.epoch_key, keys, self.gone.copy(), holds, self.versions.copy()))
        del self.snapshots[:-3]

    def restore(self, copy: tuple[Any, ...] | None) -> None:
        """Come up with a copy of the data, or empty; without scripts."""
        self.scripts = set()
        self.flush()
        if copy:
            self.epoch_key, keys, gone, holds, versions = copy
            self.keys = {k: v[:] for k, v in keys.items()}
            self.holds = {k: v[:] for k, v in holds.items()}
            self.gone, self.versions = gone.copy(), versions.copy()
        self.alive = True

    def flush(self) -> None:
        """Lose all data and keep the scripts, as FLUSHALL does."""
        self.epoch_key = None
        self.keys, self.gone, self.holds, self.versions = {}, {}, {}, {}

    # Plain commands of the controller and the sweeper

    def script_load(self, epoch: int) -> str:
        """Load the scripts of an epoch."""
        self.scripts.add(epoch)
        return "OK"

    def set_epoch(self, epoch: int, until: int) -> str:
        """Set the epoch key."""
        self.epoch_key = (epoch, until)
        return "OK"

    def delete_epoch(self, epoch: int) -> str:
        """Delete the epoch key if it still carries this id."""
        if self.epoch_key and self.epoch_key[0] == epoch:
            self.epoch_key = None
        return "OK"

    def expired(self) -> list[Any]:
        """Holds of any epoch that are past their expiry by this server's clock, a bounded batch."""
        now = self.time
        return [hold for hold, until in self.holds.values() if until <= now][:8]

    def unlink_hold(self, epoch: int, call: int, hold: int) -> str:
        """Remove a hold of a closed epoch; its counters stay as they are."""
        found = self.holds.get((epoch, call))
        if found and found[0].id == hold:
            del self.holds[epoch, call]
        return "OK"

    # Scripts

    def _dead(self, epoch: int) -> bool:
        """The first lock: the id is in the script's text, so only loaded scripts answer."""
        if epoch in self.scripts:
            return False
        if self.bug == "scripts_loaded_by_anyone":
            self.scripts.add(epoch)
        return self.bug != "no_epoch_literal" and epoch not in self.scripts

    def _fenced(self, epoch: int) -> bool:
        """The second lock: the epoch key carries the id."""
        if self.bug == "no_epoch_key":
            return False
        return self.epoch_key is None or self.epoch_key[0] != epoch

    def preflight(
        self, epoch: int, policy: int, call: int, items: list[Item], ttl: int
    ) -> tuple[str, Any, Any]:
        """Place one hold on all counters or on none."""
        bug, now = self.bug, self.time
        if self._dead(epoch):
            return "NOSCRIPT", None, None
        if self._fenced(epoch):
            return "FENCED", None, None
        if bug != "no_valid_until" and self.epoch_key and self.epoch_key[1] <= now:
            return "FENCED", None, None
        if policy < self.versions.get(epoch, 0) and bug != "stale_policy_accepted":
            return "STALE_POLICY", None, None
        found = self.holds.get((epoch, call))
        if found:
            return "REPLAY", found[0], None
        asks: list[Ask] = []
        worst = Verdict.FITS
        refused: tuple[Item, list[int]] | None = None
        for item in items:
            ckey, need, version, start, end = item
            if not start <= now < end and bug != "window_not_checked":
                return "STALE_WINDOW", None, None
            key = self.keys.get((epoch, ckey))
            if key is None:
                asks.append(Ask(ckey, need, 0, 0))
                continue
            _, _, bv, chunk, used, held, pf, end_at = key
            if bv > version:
                return "STALE_POLICY", None, None
            if bug == "held_is_spent":
                held = 0
            elif bug == "parent_free_negative_ignored":
                pf = max(0, pf)
            said = escrow.verdict(chunk=chunk, used=used, held=held, parent_free=pf, need=need)
            if bug == "draws_from_parent" and said is Verdict.ASK:
                said = Verdict.FITS
            ended = 0 < end_at <= now and bug != "ended_credit_held"
            if bv < version or ended or said is Verdict.ASK:
                if ended:
                    self.world.count("answered ASK at an end")
                asks.append(Ask(ckey, need - (chunk - used) - min(0, pf), key[INC], chunk))
            elif said is Verdict.EXCEEDED or (said is Verdict.BUSY and worst is Verdict.FITS):
                worst, refused = said, (item, key)
        if bug == "places_partially" and refused and not asks and items[0] is not refused[0]:
            key = self.keys[epoch, items[0][0]]
            key[USED] += items[0][1]
            key[HELD] += items[0][1]
        if worst is Verdict.EXCEEDED:
            assert refused is not None
            self.world.truth.on_exceeded(self, epoch, refused[0], refused[1])
            return "DENY", "exceeded", refused[0][0]
        if asks:
            return "ASK", asks, None
        if refused is not None:
            return "DENY", "busy", refused[0][0]
        hold = self.world.truth.new_hold(self, epoch, call, items, now + ttl)
        for ckey, need, *_ in items:
            key = self.keys[epoch, ckey]
            key[USED] += need
            key[HELD] += need
            self.touched.add(ckey)
        self.holds[epoch, call] = [hold, now + ttl]
        self.world.truth.on_placed(self, hold, policy, items)
        return "PLACED", hold, None

    def resolve(
        self, epoch: int, call: int, hold: int, deltas: list[tuple[CounterKey, int, int, int]]
    ) -> str:
        """Apply a first posting to the counters that resolved in the live branch, and delete the hold."""
        if self._dead(epoch):
            return "NOSCRIPT"
        found = self.holds.get((epoch, call))
        if found is None or found[0].id != hold:
            if self.bug == "apply_without_hold":
                self._apply(epoch, deltas)
            return "GONE"
        del self.holds[epoch, call]
        self._apply(epoch, deltas)
        return "APPLIED"

    def _apply(self, epoch: int, deltas: list[tuple[CounterKey, int, int, int]]) -> None:
        for ckey, inc, used, held in deltas:
            if self.bug == "apply_to_new_epoch":
                epoch = next((e for e, k in self.keys if k == ckey and self.keys[e, k][INC] == inc), epoch)
            key = self.keys.get((epoch, ckey))
            if key and key[INC] == inc:
                key[USED] += used
                key[HELD] += held
                self.touched.add(ckey)

    def load(self, m: Message) -> tuple[str, int, int, int]:
        """Apply a load message; answers (reply, incarnation, seq, chunk) as this Redis has them afterwards."""
        if self._dead(m.epoch):
            return "NOSCRIPT", 0, 0, 0
        if self._fenced(m.epoch) and self.bug != "load_not_fenced":
            return "FENCED", 0, 0, 0
        where = (m.epoch, m.key)
        if self.gone.get(where, (0, 0))[0] >= m.inc:
            return "RETIRED", m.inc, 0, 0
        key = self.keys.get(where)
        if key is None or key[INC] < m.inc:
            if not m.create:
                return "MISSING", m.inc, m.seq, 0
            self.gone.pop(where, None)
            key = self.keys[where] = [m.inc, 0, 0, 0, 0, 0, 0, 0]
        if key[INC] > m.inc:
            return "KEPT", 0, 0, 0
        self.touched.add(m.key)
        if key[SEQ] >= m.seq and self.bug != "no_seq_compare":
            return "KEPT", m.inc, key[SEQ], key[CHUNK]
        chunk = max(key[USED], m.total)
        if self.bug == "load_increments":
            chunk = key[CHUNK] + m.total
        key[SEQ], key[BV], key[CHUNK], key[PF] = m.seq, m.version, chunk, m.parent_free - (chunk - m.total)
        key[END] = m.until
        return "APPLIED", m.inc, m.seq, chunk

    def retire(self, epoch: int, ckey: CounterKey, inc: int) -> tuple[str, int | None]:
        """Give up an incarnation and leave a tombstone; one that was not there leaves one without `used`."""
        if self._dead(epoch):
            return "NOSCRIPT", None
        where = (epoch, ckey)
        gone, key = self.gone.get(where), self.keys.get(where)
        self.touched.add(ckey)
        if key and key[INC] == inc:
            del self.keys[where]
            if self.bug != "no_tombstone":
                self.gone[where] = (inc, key[USED])
            return "RETIRED", key[USED]
        if gone and gone[0] == inc:
            if gone[1] is None and self.bug == "tombstone_guesses":
                return "RETIRED", 0
            return ("MISSING", None) if gone[1] is None else ("RETIRED", gone[1])
        if key is None and (gone is None or gone[0] < inc) and self.bug != "no_tombstone":
            self.gone[where] = (inc, None)
        return "MISSING", None

    def extend(self, epoch: int, call: int, hold: int, seconds: int) -> tuple[str, int]:
        """Prolong a hold, at most to the longest life from placing."""
        if self._dead(epoch):
            return "NOSCRIPT", 0
        if self._fenced(epoch) or (self.epoch_key and self.epoch_key[1] <= self.time):
            return "FENCED", 0
        found = self.holds.get((epoch, call))
        if found is None or found[0].id != hold:
            return "GONE", 0
        until = self.time + seconds
        if until > found[0].placed_at + escrow.MAX_HOLD_LIFE_SECONDS:
            return "TOO_LONG", 0
        found[1] = max(found[1], until)
        self.world.truth.on_extended(hold, found[1])
        return "EXTENDED", found[1]

    def renew(self, epoch: int, until: int) -> str:
        """Prolong an existing epoch key of this id, never shorten it."""
        if self._dead(epoch):
            return "NOSCRIPT"
        if self._fenced(epoch) and self.bug != "renewal_creates":
            return "FENCED"
        self.epoch_key = (epoch, max(self.epoch_key[1] if self.epoch_key else 0, until))
        return "RENEWED"

    def version(self, epoch: int, policy: int) -> str:
        """Raise the tenant's policy version, never lower it."""
        if self._dead(epoch):
            return "NOSCRIPT"
        if self._fenced(epoch):
            return "FENCED"
        self.versions[epoch] = max(self.versions.get(epoch, 0), policy)
        return "VERSION"
