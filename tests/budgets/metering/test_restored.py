"""A dump restored into another server, whose transaction ids begin anew."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from budgets.services import metering
from budgets.stores.postgres import metering as store
from noburn.runtime.embedded import EmbeddedServers
from noburn.runtime.home import Home
from noburn.runtime.names import APP, DATABASE, OWNER
from noburn.runtime.servers import Postgres
from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups
from tests.runtime.conftest import wait_until_stopped

pytestmark = pytest.mark.real_db

Connection = psycopg.Connection[Any]
ENTRIES = 600


@dataclass(frozen=True)
class Elsewhere:
    """Another PostgreSQL, empty but for its roles."""

    postgres: Postgres

    def restore(self, source_url: str) -> None:
        """Copies a database here, as an operator would."""
        dump = [str(self.postgres.binaries / "pg_dump"), "--no-comments", "-d", source_url]
        load = [str(self.postgres.binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d"]
        text = subprocess.run(dump, check=True, capture_output=True, timeout=60).stdout
        subprocess.run(
            [*load, self.postgres.url("postgres", DATABASE)],
            input=text,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def connect(self, role: str) -> Connection:
        """A connection to the copy, each statement its own transaction."""
        return psycopg.connect(self.postgres.url(role), autocommit=True)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Another server."""
    top = Path(tempfile.mkdtemp(prefix="nbe-", dir="/tmp"))
    home = Home.at(top)
    servers = EmbeddedServers(home, ("postgres",), durable=False)
    servers.ensure()
    yield Elsewhere(Postgres(home, durable=False))
    servers.leave(wait=True)
    wait_until_stopped(home, "postgres")
    shutil.rmtree(top)


def _book(connection: Connection, ledger: RandomLedger) -> None:
    items, outcomes = ledger.batch(100)
    assert resolve(connection, items) == outcomes


def _steps(app: Connection, take: Callable[[psycopg.Cursor[Any]], Any]) -> list[Any]:
    done: list[Any] = []
    for _ in range(2_000):
        with app.transaction(), app.cursor() as cursor:
            step = take(cursor)
        if step is None or getattr(step, "more", True) is False:
            return done
        done.append(step)
    raise AssertionError("it does not come to an end")


class TestARestoredDump:
    def test_is_refused_by_rollers_settled_on_by_gateways_and_exact_after_a_rebuild(
        self,
        owner: Connection,
        owner_database_url: str,
        tenant: Callable[[str], UUID],
        elsewhere: Elsewhere,
    ) -> None:
        ledger = RandomLedger([tenant("alice"), tenant("bob")], seed=5, now=datetime.now(UTC))
        # The copy's transaction ids must fall short of what the original's were.
        for _ in range(ENTRIES):
            owner.execute("SELECT pg_current_xact_id()")
        for _ in range(3):
            _book(owner, ledger)
        metering.roll(now=datetime.now(UTC))
        for _ in range(3):
            # These are dumped before they are rolled up.
            _book(owner, ledger)
        elsewhere.restore(owner_database_url)

        with elsewhere.connect(OWNER) as there, elsewhere.connect(APP) as app, app.cursor() as cursor:
            assert not store.status(cursor).at_home
            for _ in range(2):
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="usage rebuild"):
                    store.roll_step(cursor, 100)
                # A settlement needs no rollups: it goes on, with ids that the old cursor has passed long ago.
                _book(there, ledger)

            with app.transaction(), app.cursor() as inside:
                assert store.begin_rebuild(inside, 500)
            assert store.status(cursor).at_home
            _book(there, ledger)
            rebuilt = _steps(app, store.rebuild_step)
            _book(there, ledger)
            _steps(app, lambda inside: store.roll_step(inside, 100))

            who = sorted({life.tenant_id for life in ledger.lives})
            assert {step[0] for step in rebuilt} >= set(who)
            assert rollups(there, who) == counted(there, ledger)
            assert there.execute("SELECT * FROM nb_verify_usage(NULL)").fetchall() == []
            assert store.status(cursor).waiting == 0

    def test_is_told_from_a_database_that_only_moved_its_rows(self, owner: Connection) -> None:
        # What pg_upgrade, replicas and base backups keep is kept by a vacuum of everything as well.
        owner.execute("VACUUM (FREEZE) usage_home")
        assert metering.status().at_home
        owner.execute("VACUUM (FULL) usage_home")
        assert metering.status().at_home
