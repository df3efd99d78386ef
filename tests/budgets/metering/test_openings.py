"""What a new counter begins with: taken from rollups and ledger together, against a count over every call."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from budgets.domain.policy import WindowKind
from budgets.domain.windows import window_at
from budgets.services import metering
from tests.budgets.metering.ledger import Life, RandomLedger, figures_of, resolve

pytestmark = pytest.mark.real_db

QUESTIONS = 250
FIGURES = {"usd": "cost_nano", "tokens": "tokens", "requests": "requests"}
COLUMNS = {
    "project": "project",
    "customer": "customer",
    "user": "end_user",
    "plan": "plan",
    "api_key": "api_key",
    "provider": "provider",
    "model": "model",
}
SCOPES = ("tenant", "tag", *COLUMNS)
KINDS = tuple(kind for kind in WindowKind if kind not in (WindowKind.MINUTE, WindowKind.RUN))
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati")
TAG = "feature"


@pytest.fixture
def ledger(owner: psycopg.Connection[Any], tenant: Callable[[str], UUID]) -> RandomLedger:
    """Alice's ledger: some of it rolled up, the rest not yet."""
    made = RandomLedger([tenant("alice")], seed=23, now=datetime.now(UTC), customers=4)
    for _ in range(5):
        items, outcomes = made.batch(100)
        assert resolve(owner, items) == outcomes
    assert not metering.roll(now=datetime.now(UTC)).more
    items, outcomes = made.batch(80)
    assert resolve(owner, items) == outcomes
    return made


def _is_of(life: Life, scope: str, subject: str) -> bool:
    if scope == "tenant":
        return True
    return (life.tags.get(TAG) if scope == "tag" else life.names[COLUMNS[scope]]) == subject


def _opening(
    owner: psycopg.Connection[Any],
    budget: dict[str, Any],
    subject: str,
    starts: datetime,
    ends: datetime | None,
) -> int:
    row = owner.execute(
        "SELECT nb_opening(jsonb_populate_record(NULL::budgets_budget, %s), %s, %s, %s)",
        [json.dumps(budget), subject, starts, ends],
    ).fetchone()
    assert row is not None
    return int(row[0])


def _compare(owner: psycopg.Connection[Any], ledger: RandomLedger, *, seed: int) -> int:
    """Asks for openings of random budgets; how many of them were not nothing."""
    chance = random.Random(seed)
    found = 0
    for _ in range(QUESTIONS):
        life, scope, metric = chance.choice(ledger.lives), chance.choice(SCOPES), chance.choice(list(FIGURES))
        if scope == "tag" and not life.tags.get(TAG):
            continue
        subject = (
            "tenant"
            if scope == "tenant"
            else (life.tags[TAG] if scope == "tag" else life.names[COLUMNS[scope]])
        )
        window = window_at(
            chance.choice(KINDS),
            now=life.at + timedelta(hours=chance.uniform(-2, 2)),
            zone=chance.choice(ZONES),
            anchor_day=None,
        )
        budget = {"tenant_id": str(life.tenant_id), "scope": scope, "metric": metric, "tag": TAG}
        expected = sum(
            figures_of(other)[FIGURES[metric]]
            for other in ledger.lives
            if other.tenant_id == life.tenant_id
            and window.starts_at <= other.at
            and (window.ends_at is None or other.at < window.ends_at)
            and _is_of(other, scope, subject)
        )
        assert _opening(owner, budget, subject, window.starts_at, window.ends_at) == expected, (
            budget,
            window,
        )
        found += expected != 0
    return found


class TestOpenings:
    def test_are_what_every_call_in_the_window_adds_up_to(
        self, owner: psycopg.Connection[Any], ledger: RandomLedger
    ) -> None:
        assert _compare(owner, ledger, seed=1) > QUESTIONS / 2

    def test_do_not_lean_on_rollups_that_are_being_counted_anew(
        self, owner: psycopg.Connection[Any], ledger: RandomLedger
    ) -> None:
        owner.execute("UPDATE usage_cursor SET rebuild_began_at = now()")
        try:
            owner.execute("DELETE FROM usage_rollups WHERE tenant_id = %s", [ledger.lives[0].tenant_id])
            assert _compare(owner, ledger, seed=2) > QUESTIONS / 2
        finally:
            owner.execute("UPDATE usage_cursor SET rebuild_began_at = NULL")

    def test_do_not_lean_on_hours_that_are_forgotten(
        self, owner: psycopg.Connection[Any], ledger: RandomLedger
    ) -> None:
        (before,) = owner.execute("SELECT hours_from FROM usage_cursor").fetchone() or (None,)
        try:
            owner.execute(
                "UPDATE usage_cursor SET hours_from = date_trunc('hour', now() - interval '20 hours', 'UTC')"
            )
            # Of this tenant alone: other tests have hours of their own.
            owner.execute(
                """DELETE FROM usage_rollups USING usage_cursor
                WHERE tenant_id = %s AND grain LIKE '%%hours' AND bucket < hours_from""",
                [ledger.lives[0].tenant_id],
            )
            assert _compare(owner, ledger, seed=3) > QUESTIONS / 2
        finally:
            owner.execute("UPDATE usage_cursor SET hours_from = %s", [before])
