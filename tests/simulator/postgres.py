"""The model of PostgreSQL: counters, grants, epochs, resolutions. Each public method is one transaction.

`bug` names the altered rule of a mutant, else it is empty. Method names follow the functions of docs/escrow.md
without their `nb_`.
"""

from __future__ import annotations

from typing import Any

from budgets.domain import escrow
from budgets.domain.escrow import HoldState, Step

from .leases import LeaseStore
from .rows import Ask, Budget, Counter, CounterKey, Epoch, Message, Resolution, Row

WRITE_OFF_WAIT = escrow.MAX_HOLD_LIFE_SECONDS + escrow.GRACE_SECONDS


class Postgres(LeaseStore):
    """The store of record. `down` makes every call fail before it does anything."""

    def __init__(self, world: Any, bug: str) -> None:
        self.world, self.bug, self.down = world, bug, False
        self.counters: dict[CounterKey, Counter] = {}
        self.budgets: dict[int, Budget] = {}
        self.policy_version = 1
        self.epochs: list[Epoch] = []
        self.resolutions: dict[int, Resolution] = {}
        self.incarnations = 0
        self.touched: set[CounterKey] = set()

    # Reading

    def current(self) -> tuple[int, str, int]:
        """The shard's newest epoch: id, state, recorded valid_until."""
        last = self.epochs[-1]
        return last.id, last.state, last.valid_until

    def policy(self) -> tuple[int, tuple[tuple[int, int, str, int], ...]]:
        """The compiled policy: its version and (budget, version, scope, window) of each budget."""
        rules = tuple((b.id, b.version, b.scope, b.window) for b in self.budgets.values())
        return self.policy_version, rules

    def limit_of(self, key: CounterKey) -> int:
        """The limit in force now: the subject's override, else the budget's, and credit that has not ended."""
        return self._limit(key)[0]

    def _limit(self, key: CounterKey) -> tuple[int, int]:
        """The limit in force now, and when it falls by itself; both are read together."""
        budget = self.budgets[key[0]]
        limit = budget.overrides.get(key[1], budget.limit)
        at, amount = budget.credit.get(key[1], (0, 0))
        # A little early by this clock, so that Redis's question at the instant finds it ended.
        return (limit + amount, at) if at > self.world.now + escrow.ENDS_EARLY_SECONDS else (limit, 0)

    # Granting

    def grant(self, epoch: int, asks: list[Ask]) -> list[Message] | None:
        """Grant what the asks lack; None when the epoch is not open."""
        last = self.epochs[-1]
        if last.id != epoch or last.state != "open":
            return None
        return [self._grant(epoch, ask) for ask in sorted(asks)]

    def _grant(self, epoch: int, ask: Ask) -> Message:
        budget, counter = self.budgets[ask.key[0]], self.counters.get(ask.key)
        if counter is None:
            opening = self.world.truth.opening(ask.key) if budget.made_late else 0
            counter = self.counters[ask.key] = Counter(0, 0, opening)
        self.touched.add(ask.key)
        (counter.limit, counter.until), counter.bv = self._limit(ask.key), budget.version
        row = counter.newest(epoch)
        if row and row.state == "live" and ask.inc == 0 and row.acked:
            if self.bug == "stale_missing_locks":
                row.state = "lost"
                self.world.truth.on_lost(ask.key, row)
            elif self.bug == "missing_key_recreated":
                row.acked = 0  # The authority stays as it is, and the key is made anew.
        if row is None or row.state != "live":
            self.incarnations += 1
            row = counter.rows[self.incarnations] = Row(epoch, self.incarnations)
        room = escrow.headroom(limit=counter.limit, spent=counter.spent, authority=counter.authority)
        if self.bug == "grant_not_capped":
            room = counter.limit
        granted_since = row.granted - (ask.chunk if ask.inc == row.inc else 0)
        chunk = escrow.chunk_size(
            limit=counter.limit,
            room=room,
            want=ask.lack - granted_since,
            previous_chunk=counter.previous,
            previous_age_ms=self.world.now * 1000 - counter.previous_at,
        )
        if chunk:
            counter.previous, counter.previous_at = chunk, self.world.now * 1000
        row.granted += chunk
        self._authority(counter, row, chunk)
        row.seq += 1
        return self._message(ask.key, counter, row)

    def _authority(self, counter: Counter, row: Row, change: int) -> None:
        row.authority += change
        counter.authority += change

    def _message(self, key: CounterKey, counter: Counter, row: Row) -> Message:
        total, free = escrow.message_amounts(
            limit=counter.limit, spent=counter.spent, authority=counter.authority, granted=row.granted
        )
        if self.bug == "shrink_bites_twice":
            free -= row.granted - total
        elif self.bug == "shrink_before_ack" and total < row.granted:
            self._authority(counter, row, total - row.granted)
            row.granted = total
        # The version is that of the limit that was read with it: a newer one would vouch for an old limit.
        version = self.budgets[key[0]].version if self.bug == "version_without_limit" else counter.bv
        until = 0 if self.bug == "end_not_told" else counter.until
        message = Message(key, row.epoch, row.inc, row.seq, total, free, version, row.acked == 0, until)
        self.world.truth.on_message(message)
        return message

    def _publish(self, key: CounterKey, out: list[Message]) -> None:
        counter, last = self.counters[key], self.epochs[-1]
        row = counter.newest(last.id)
        if row and row.state == "live" and last.state == "open":
            row.seq += 1
            out.append(self._message(key, counter, row))

    def ack(self, key: CounterKey, inc: int, kind: str, seq: int, chunk: int) -> None:
        """Record what Redis has. Only the latest sequence completes a shrink."""
        counter = self.counters[key]
        row = counter.rows[inc]
        self.touched.add(key)
        if kind == "MISSING":
            if row.state == "live":
                if self.bug == "missing_not_locked":
                    self._authority(counter, row, -row.authority)
                row.state, row.left_at = "lost", self.world.now
                self.world.truth.on_lost(key, row)
            return
        latest = seq == row.seq or self.bug == "old_ack_counts"
        # Any other row's shrink would change the headroom behind the live row's back.
        serving = row.state == "live" and self.epochs[row.epoch].state != "closed"
        if latest and chunk < row.granted and (serving or self.bug == "any_row_shrinks"):
            self._give_back(counter, row, chunk)
        row.acked = max(row.acked, seq)

    def _give_back(self, counter: Counter, row: Row, kept: int) -> bool:
        """Take from a row what Redis says that it will never draw."""
        back = row.granted - kept
        # After a write-off it was given back already; this answer comes late.
        if back > row.authority and self.bug != "late_answers_count":
            return False
        self.world.count("shrinks")
        self._authority(counter, row, -back)
        row.granted = kept
        return True

    def unacked(self) -> tuple[list[Message], list[tuple[int, CounterKey, int]]]:
        """Load messages and retires (epoch, key, incarnation) to send again."""
        last = self.epochs[-1]
        loads, retires = [], []
        if last.state in ("open", "closing"):
            for key, counter in self.counters.items():
                for row in counter.rows.values():
                    if row.epoch != last.id:
                        continue
                    if row.state == "live" and row.seq > row.acked and last.state == "open":
                        loads.append(self._message(key, counter, row))
                    elif row.state == "retired" and not row.confirmed:
                        retires.append((row.epoch, key, row.inc))
        return loads[:8], retires[:8]

    # Resolving

    def resolve(self, hold: Any, wanted: HoldState, usage: tuple[int, ...]) -> tuple[Any, ...]:
        """Resolve one hold: (step, apply or None, messages).

        `hold` is what the authorization says: id, epoch, counters, amounts, incarnations. The apply lists
        (key, incarnation, change of used, change of held).
        """
        found = self.resolutions.get(hold.id)
        state = found.state if found else HoldState.PLACED
        if hold.lease and wanted is HoldState.PRESUMED:
            usage = self.left_of(hold, found)
        known = found and (found.posted if self.bug == "replay_by_rerated_cost" else found.told)
        same = known == usage
        step = escrow.transition(state, wanted, same_usage=same)
        if self.bug == "settle_after_void_ignored" and state is HoldState.VOIDED:
            step = Step.REPLAY
        if self.bug == "duplicate_posts_twice" and step is Step.REPLAY and wanted is HoldState.SETTLED:
            step = Step.LATER
        out: list[Message] = []
        if found is None or state is HoldState.LEASED:
            found = self._first(hold, wanted, usage, out)
        elif step is Step.LATER:
            self._later(hold, found, wanted, usage, out)
        self.world.truth.on_resolved(hold, wanted, usage, step)
        if self.epochs[hold.epoch].state == "closed" and self.bug != "apply_to_new_epoch":
            return step, None, out
        posted = found.posted if self.bug == "replay_carries_latest" else found.first
        apply = []
        for i, key in enumerate(hold.counters):
            inc = hold.incs[i]
            if self.bug == "apply_to_new_epoch" and not found.live[i]:
                row = self.counters[key].newest(self.epochs[-1].id)
                inc = row.inc if row else inc
            elif not found.live[i] and self.bug != "apply_after_closed":
                continue
            drawn = hold.amounts[i] - found.held[i] if self.bug != "apply_forgets_draws" else 0
            kept = drawn + min(posted[i], found.held[i])
            apply.append((key, inc, kept - hold.amounts[i], -hold.amounts[i]))
        return step, apply, out

    def _first(self, hold: Any, wanted: HoldState, usage: tuple[int, ...], out: list[Message]) -> Resolution:
        bug, live = self.bug, []
        if bug == "release_at_expiry" and wanted is HoldState.PRESUMED:
            usage = tuple(0 for _ in usage)
        if bug == "actual_capped":
            usage = tuple(min(a, h) for a, h in zip(usage, hold.amounts, strict=True))
        held, before = hold.amounts, self.resolutions.get(hold.id)
        if before is not None and before.state is HoldState.LEASED:
            held = self.left_of(hold, before)
        for key, h, inc, a in zip(hold.counters, held, hold.incs, usage, strict=True):
            counter = self.counters[key]
            row = counter.rows[inc]
            alive = row.state == "live" and self.epochs[hold.epoch].state == "open"
            live.append(alive)
            self.touched.add(key)
            spent, consumed = escrow.first_posting(actual=a, held=h)
            counter.spent += spent
            if not alive and bug != "closed_branch_keeps_rest":
                consumed = h
            cut = min(row.authority, consumed)
            row.clamped += consumed - cut
            self._authority(counter, row, -cut)
            if not alive or a > h:
                self._publish(key, out)
        found = self.resolutions[hold.id] = Resolution(wanted, usage, tuple(live), held)
        found.draws = before.draws if before is not None else 0
        return found

    def _later(
        self, hold: Any, found: Resolution, wanted: HoldState, usage: tuple[int, ...], out: list[Message]
    ) -> None:
        again = self.bug == "duplicate_posts_twice" and found.state is HoldState.SETTLED
        base = tuple(0 for _ in usage) if again or self.bug == "late_settle_adds" else found.posted
        delta = tuple(a - h0 for a, h0 in zip(usage, base, strict=True))
        for key, change in zip(hold.counters, delta, strict=True):
            self.counters[key].spent += change
            self.touched.add(key)
            if change and self.bug != "correction_not_published":
                self._publish(key, out)
        found.entries.append(delta)
        found.state, found.posted, found.told = wanted, usage, usage
        found.revision += 1

    # Re-rating

    def preview(self, hold: Any) -> tuple[int, tuple[int, ...]] | None:
        """What a preview sees of a settled call: its revision and what it cost."""
        found = self.resolutions.get(hold.id)
        if found is None or found.state is not HoldState.SETTLED:
            return None
        return found.revision, found.posted

    def rerate(
        self, hold: Any, seen: int, old: tuple[int, ...], new: tuple[int, ...]
    ) -> tuple[bool, list[Message]]:
        """Give one call another cost, if nothing happened to it since its preview: (applied, messages)."""
        found, out = self.resolutions[hold.id], list[Message]()
        as_seen = escrow.reratable(found.state, revision=found.revision, seen=seen)
        if not as_seen and self.bug != "rerated_twice_adds":
            self.world.count("re-ratings of calls that moved")
            return False, out
        delta = tuple(n - o for n, o in zip(new, old, strict=True))
        for key, change in zip(hold.counters, delta, strict=True):
            self.counters[key].spent += change
            self.touched.add(key)
            if change and self.bug != "rerating_not_published":
                self._publish(key, out)
        found.entries.append(delta)
        found.posted, found.revision = new, found.revision + 1
        if self.bug == "rerating_alters_first":
            found.first = new
        self.world.truth.on_rerated(hold, old, new, as_seen)
        return True, out

    # The controller's steps

    def renew(self, epoch: int, record: bool = True) -> int | None:
        """Record a new valid_until and return it; None when the epoch is not open."""
        last = self.epochs[-1]
        if last.id != epoch or last.state != "open":
            return None
        until: int = self.world.now + escrow.EPOCH_VALIDITY_SECONDS
        if record:
            last.valid_until = max(last.valid_until, until)
        return until

    def lost(self, epoch: int) -> tuple[int, int] | None:
        """Close an epoch whose Redis is gone and insert the next: (id, valid_until), None if already closed."""
        last = self.epochs[-1]
        if last.id != epoch or last.state == "closed":
            return None
        if last.state == "open":
            self.world.count("epochs lost")
        return self._close(last)

    def closed(self, epoch: int) -> tuple[int, int] | None:
        """End a planned close whose incarnations are all retired, and insert the next epoch."""
        last = self.epochs[-1]
        if last.id != epoch or last.state != "closing" or self.unacked()[1]:
            return None
        self.world.count("planned closes")
        return self._close(last)

    def _close(self, last: Epoch) -> tuple[int, int]:
        last.state = "closed"
        if self.bug == "released_on_close":
            for key, counter in self.counters.items():
                for row in counter.rows.values():
                    if row.epoch == last.id:
                        self._authority(counter, row, -row.authority)
                        self.touched.add(key)
        fresh = Epoch(last.id + 1, self.world.now + escrow.EPOCH_VALIDITY_SECONDS)
        self.epochs.append(fresh)
        return fresh.id, fresh.valid_until

    def opened(self, epoch: int) -> None:
        """Mark an opening epoch open: its scripts are loaded and its key is set."""
        last = self.epochs[-1]
        if last.id == epoch and last.state == "opening":
            last.state = "open"

    def closing(self, epoch: int) -> bool:
        """Begin a planned close."""
        last = self.epochs[-1]
        if last.id == epoch and last.state == "open":
            last.state = "closing"
        return last.id == epoch and last.state == "closing"

    def retire(self, epoch: int, keys: list[CounterKey] | None = None) -> list[tuple[int, CounterKey, int]]:
        """Mark live incarnations retired and return all that Redis must still give up."""
        if self.epochs[-1].id != epoch or self.epochs[-1].state not in ("open", "closing"):
            return []
        for key in keys or list(self.counters):
            row = self.counters[key].newest(epoch)
            if row and row.state == "live":
                row.state = "retired"
                if self.bug == "writeoff_from_marking":
                    row.left_at = self.world.now
        return self.unacked()[1]

    def retired(self, key: CounterKey, inc: int, used: int | None) -> list[Message]:
        """Book what a retired incarnation had drawn; None (Redis did not know it) keeps its authority locked."""
        counter, out = self.counters[key], list[Message]()
        row = counter.rows[inc]
        self.touched.add(key)
        row.confirmed = True
        if row.left_at is None:
            row.left_at = self.world.now
        if row.state == "live":
            row.state = "retired"  # Only a mutant comes here: the rule marks first.
        if used is not None and used < row.granted and self._give_back(counter, row, used):
            self._publish(key, out)
        return out

    # The operator

    def edit(self, budget: int, subject: str | None, limit: int, eager: bool) -> list[Message]:
        """Change a limit or one subject's override. `eager` also publishes it to loaded counters at once."""
        rule, out = self.budgets[budget], list[Message]()
        rule.version += 1
        self.policy_version += 1
        if subject is None:
            rule.limit = limit
        else:
            rule.overrides[subject] = limit
        self.world.new_limit(budget, subject, limit)
        if eager:
            for key, counter in self.counters.items():
                if key[0] == budget:
                    (counter.limit, counter.until), counter.bv = self._limit(key), rule.version
                    self.touched.add(key)
                    self._publish(key, out)
        return out

    def lend(self, budget: int, subject: str, at: int, amount: int) -> list[Message]:
        """Give a subject credit until a time. No version: loaded counters are told, others read it when they load."""
        rule, out = self.budgets[budget], list[Message]()
        rule.credit[subject] = (at, amount)
        self.world.new_limit(budget, subject, rule.overrides.get(subject, rule.limit))
        for key, counter in self.counters.items():
            if key[:2] == (budget, subject):
                counter.limit, counter.until = self._limit(key)
                self.touched.add(key)
                self._publish(key, out)
        return out

    def add_budget(self, budget: Budget) -> None:
        """Make a budget, once."""
        if budget.id in self.budgets:
            return
        self.budgets[budget.id] = budget
        self.policy_version += 1

    def writeoff(self, key: CounterKey, inc: int) -> tuple[int, list[Message]]:
        """Give stranded authority back: (amount, messages). Refused (0) before its holds must be dead.

        That is counted from the recorded valid_until of a closed epoch, and in an open one from when Redis is known
        to place nothing more: its answer to the retire, or the proof that the key is lost.
        """
        counter, out = self.counters[key], list[Message]()
        row = counter.rows[inc]
        epoch = self.epochs[row.epoch]
        since = epoch.valid_until if epoch.state == "closed" else row.left_at
        early = since is None or self.world.now < since + WRITE_OFF_WAIT
        stranded = epoch.state == "closed" or row.state != "live"
        if not stranded or since is None or (early and self.bug != "writeoff_without_waiting"):
            self.world.count("write-offs refused")
            return 0, out
        if epoch.state != "closed":
            self.world.count("write-offs in an open epoch")
        amount = row.authority
        self.touched.add(key)
        self._authority(counter, row, -amount)
        row.written += amount
        self.world.truth.on_written_off(key, row)
        self._publish(key, out)
        return amount, out
