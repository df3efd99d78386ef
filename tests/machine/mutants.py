"""The simulator's mutants in the real code: a text of a script, a function in SQL or a method, with one rule altered.

Every old text must be there exactly once, so that a mutant breaks loudly where the code that it alters changes.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

if TYPE_CHECKING:
    from tests.support.world import World

SQL = Path(__file__).resolve().parents[2] / "budgets" / "stores" / "postgres" / "sql"


class NotThere(AssertionError):
    """A mutant's old text is not in the code exactly once: the code has changed, and the mutant must follow."""


def altered(text: str, old: str, new: str) -> str:
    """The text with `old` replaced. Raises NotThere."""
    if text.count(old) != 1:
        raise NotThere(f"{text.count(old)} times: {old!r}")
    return text.replace(old, new)


@dataclass(frozen=True)
class Mutant:
    """Where a mutant is: `lua:preflight`, `sql:grant`, `python:module:Class.method`; and old and new texts."""

    where: str
    changes: tuple[tuple[str, str], ...]

    @contextmanager
    def applied(self, world: World) -> Iterator[None]:
        """The code altered, and as it was again afterwards."""
        kind, _, name = self.where.partition(":")
        try:
            with {"lua": self._lua, "sql": self._sql, "python": self._python}[kind](name, world):
                yield
        finally:
            # Nothing of an epoch that was opened or renewed under it may outlive it.
            world.redis.flushall()
            world.redis.script_flush()
            world.recover()

    @contextmanager
    def _lua(self, name: str, world: World) -> Iterator[None]:
        from budgets.stores.redis import scripts

        text = _changed(scripts._source(name), self.changes)
        really: Callable[[str], str] = scripts._source
        with patch.object(scripts, "_source", lambda wanted: text if wanted == name else really(wanted)):
            # Its epochs' scripts are those that it was opened with.
            world.redis.script_flush()
            world.recover()
            yield

    @contextmanager
    def _sql(self, name: str, world: World) -> Iterator[None]:
        text = (SQL / f"{name}.sql").read_text()
        world.owner.execute(_changed(text, self.changes).encode())
        try:
            yield
        finally:
            world.owner.execute(text.encode())

    @contextmanager
    def _python(self, name: str, _world: World) -> Iterator[None]:
        module_name, _, path = name.partition(":")
        module: Any = importlib.import_module(module_name)
        owner_name, _, method = path.rpartition(".")
        owner = getattr(module, owner_name) if owner_name else module
        text = textwrap.dedent(inspect.getsource(getattr(owner, method)))
        made: dict[str, Any] = {}
        exec(
            compile("from __future__ import annotations\n" + _changed(text, self.changes), name, "exec"),
            vars(module),
            made,
        )
        with patch.object(owner, method, made[method]):
            yield


def _changed(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for old, new in changes:
        text = altered(text, old, new)
    return text


def _one(where: str, old: str, new: str) -> Mutant:
    return Mutant(where, ((old, new),))


_FENCE = (
    "if fence[1] ~= '@EPOCH@' or now >= tonumber(fence[2]) then return {'FENCED', now} end\nlocal version"
)
_ACK = "IF a.seq = g.seq AND g.state = 'live' AND a.chunk < g.granted AND g.authority >= g.granted - a.chunk"
_CAPPED = "ARRAY(SELECT least(q.p, q.h) FROM unnest(i.posted, i.held) WITH ORDINALITY AS q (p, h, at) ORDER BY q.at)"

REAL: Final[dict[str, Mutant]] = {
    "no_epoch_key": _one(
        "lua:preflight",
        _FENCE,
        "if fence[2] and '@EPOCH@' ~= '' and now >= tonumber(fence[2]) then return {'FENCED', now} end\nlocal version",
    ),
    "no_valid_until": _one(
        "lua:preflight", _FENCE, "if fence[1] ~= '@EPOCH@' then return {'FENCED', now} end\nlocal version"
    ),
    "sent_before_recorded": _one(
        "sql:epochs",
        "RETURNING e.epoch_id, e.valid_until)",
        "RETURNING e.epoch_id, e.valid_until + interval '30 seconds' AS valid_until)",
    ),
    "renewal_creates": Mutant(
        "lua:renew",
        (
            (
                "if redis.call('HGET', KEYS[1], 'id') ~= '@EPOCH@' then return {'FENCED'} end",
                "redis.call('HSETNX', KEYS[1], 'id', '@EPOCH@')",
            ),
            ("redis.call('HGET', KEYS[1], 'until')", "redis.call('HGET', KEYS[1], 'until') or '0'"),
        ),
    ),
    "load_not_fenced": _one(
        "lua:load",
        "if redis.call('HGET', KEYS[1], 'id') ~= '@EPOCH@' then return {'FENCED'} end\n",
        "-- @EPOCH@\n",
    ),
    "no_seq_compare": _one("lua:load", "tonumber(c[2]) >= tonumber(ARGV[2])", "c[2] == ARGV[2]"),
    "load_increments": _one(
        "lua:load",
        "local total = tonumber(ARGV[3])",
        "local total = tonumber(ARGV[3]) + (fresh and 0 or tonumber(c[3]))",
    ),
    "shrink_before_ack": _one(
        "sql:publish",
        "target = greatest(0, granted + least(0, v_free)), sent_at = now()",
        "target = greatest(0, granted + least(0, v_free)), sent_at = now(), "
        "granted = greatest(0, granted + least(0, v_free)), "
        "authority = greatest(0, authority - (granted - greatest(0, granted + least(0, v_free))))",
    ),
    "old_ack_counts": _one("sql:grant", "IF a.seq = g.seq AND", "IF"),
    "any_row_shrinks": _one("sql:grant", _ACK, _ACK.replace("AND g.state = 'live' ", "")),
    "shrink_bites_twice": _one(
        "sql:publish", "p_parent_free + g.clamped + g.granted - g.target", "p_parent_free + g.clamped"
    ),
    "version_without_limit": _one(
        "sql:publish",
        "'bv', c.budget_version",
        "'bv', (SELECT b.version FROM budgets_budget b WHERE b.tenant_id = c.tenant_id AND b.id = c.budget_id)",
    ),
    "missing_key_recreated": _one(
        "lua:load", "if fresh and ARGV[7] ~= '1' then return {'MISSING'} end\n", ""
    ),
    "missing_not_locked": _one(
        "sql:grant",
        "UPDATE grants SET state = 'lost', left_at = now()",
        "UPDATE grants SET state = 'lost', left_at = now(), authority = 0",
    ),
    "stale_missing_locks": _one(
        "sql:grant", "a.lost = g.incarnation THEN", "a.chunk = 0 AND a.used = 0 AND g.granted > 0 THEN"
    ),
    "no_tombstone": _one("lua:retire", "if ARGV[2] ~= '1' then", "if false then"),
    "tombstone_guesses": _one(
        "lua:retire",
        "if c[3] == ARGV[1] and c[2] then return {'RETIRED', tonumber(c[2])} end",
        "if c[3] == ARGV[1] then return {'RETIRED', tonumber(c[2] or '0')} end",
    ),
    "grant_not_capped": _one(
        "sql:grant", "v_chunk := least(v_free, greatest(", "v_chunk := greatest(0, greatest("
    ),
    "draws_from_parent": _one("lua:preflight", "(kind == 'w' and above or math.min(0, above))", "above"),
    "parent_free_negative_ignored": _one("lua:preflight", "math.min(0, above)", "0"),
    "places_partially": _one(
        "lua:preflight",
        "if refused then return",
        "if refused and refused[1] > 1 and redis.call('EXISTS', KEYS[5]) == 1 then\n"
        "  redis.call('HINCRBY', KEYS[5], 'used', ARGV[8])\nend\nif refused then return",
    ),
    "held_is_spent": _one(
        "lua:preflight", "if need > free + above + held then", "if need > free + above then"
    ),
    "window_not_checked": _one(
        "lua:preflight", "if now < starts or (ends > 0 and now >= ends) then", "if false then"
    ),
    "stale_policy_accepted": _one(
        "lua:preflight", "if not version or tonumber(version) > tonumber(ARGV[1]) then", "if not version then"
    ),
    "release_at_expiry": _one(
        "python:budgets.services.resolutions:_posted",
        "0 if c.released_on_expiry else c.amount",
        "0 * c.amount",
    ),
    "closed_branch_keeps_rest": _one(
        "sql:resolve",
        "CASE WHEN p.live THEN least(p.posted, p.held) ELSE p.held END",
        "least(p.posted, p.held)",
    ),
    "apply_after_closed": _one(
        "python:budgets.services.resolutions:Resolutions._apply", "if lives:", "if True:"
    ),
    "apply_without_hold": _one(
        "lua:resolve", "if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return {'GONE'} end\n", ""
    ),
    "replay_carries_latest": _one(
        "sql:resolve", "to_jsonb(coalesce(d.first, r.first))", "to_jsonb(coalesce(d.posted, r.posted))"
    ),
    "duplicate_posts_twice": Mutant(
        "sql:resolve",
        (
            (
                "posted_before = CASE WHEN r.state = 'leased' THEN NULL ELSE r.posted END,",
                "posted_before = CASE WHEN r.state IN ('leased', 'settled') THEN NULL ELSE r.posted END,",
            ),
            (
                "OR (r.state = 'voided' AND EXCLUDED.state = 'settled')",
                "OR (r.state IN ('voided', 'settled') AND EXCLUDED.state = 'settled')",
            ),
        ),
    ),
    "settle_after_void_ignored": _one(
        "sql:resolve", "OR (r.state = 'voided' AND EXCLUDED.state = 'settled')", ""
    ),
    "late_settle_adds": _one("sql:resolve", "sum(p.posted - coalesce(p.before, 0))", "sum(p.posted)"),
    "actual_capped": _one(
        "sql:resolve",
        "i.posted, i.posted, i.held_cost",
        f"{_CAPPED}, {_CAPPED}, i.held_cost",
    ),
    "correction_not_published": _one(
        "sql:resolve", "WHERE d.revision > 1 OR NOT p.live OR p.posted > p.held", "WHERE false"
    ),
    "writeoff_without_waiting": _one("sql:epochs", "IF now() < v_from THEN", "IF false THEN"),
    "late_answers_count": _one("sql:epochs", "AND o.authority >= o.granted - x.used AS frees", "AS frees"),
    "released_on_close": _one(
        "sql:epochs",
        "UPDATE epochs SET state = 'closed', closed_at = now(), reason = p_reason WHERE epoch_id = v_current;",
        "UPDATE epochs SET state = 'closed', closed_at = now(), reason = p_reason WHERE epoch_id = v_current;\n"
        "    UPDATE grants SET authority = 0 WHERE epoch_id = v_current;",
    ),
}
"""By the simulator's names."""

AROUND: Final = {
    "no_epoch_literal": "Redis keeps its scripts over a restart, as before 7.0",
    "scripts_loaded_by_anyone": "NOSCRIPT is answered by loading",
}
"""Mutants of what the code relies on: a life is told to go so."""

WITHOUT_EFFECT: Final = {
    "retire_before_marking": "the controller retires only while its epoch is `closing`, which stops grants, publishing"
    " and the live branch; a shrink acknowledged in between gives back what the answer then does not",
}
"""Mutants that could be run and would change nothing, and why."""

MODEL_ALONE: Final = {
    "opening_repeated": "no text to alter: whoever finds an epoch that is opening replaces it, and keeps no other way",
    "apply_to_new_epoch": "no counterpart: keys' names carry their epoch, so an apply cannot mean another one's counter",
    **dict.fromkeys(
        ("rerating_not_published", "rerated_twice_adds", "rerating_alters_first", "replay_by_rerated_cost"),
        "no life re-rates: tests/budgets/rerating/ holds the real code to these rules",
    ),
    **dict.fromkeys(
        ("ended_credit_held", "end_not_told"),
        "no life has wallets: tests/billing/wallets/test_escrow.py runs both on the real code",
    ),
    **dict.fromkeys(
        (
            "lease_ends_whole",
            "apply_forgets_draws",
            "draw_holds_nothing",
            "draw_leaves_lease_whole",
            "draw_twice_posts_twice",
            "late_draw_adds",
            "late_draw_not_capped",
            "late_draw_not_published",
            "close_without_total",
            "closed_with_calls_in_flight",
            "outbox_closes",
            "flight_not_reserved",
            "fork_keeps_lease",
            "draws_after_draw_until",
            "draws_after_window",
        ),
        "no life has leases: tests/gateway/test_leases.py and the SDK's own hold the real code to these rules",
    ),
    "writeoff_from_marking": "no counterpart: incarnations retire alone only after their window, where nothing is placed",
}
"""Mutants that the simulator alone can run, and why."""
