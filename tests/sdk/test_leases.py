"""Leases shown: processes full of threads on one budget, some of them killed, and an edit that reaches them all."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from noburn.runtime.embedded import ROOT

if TYPE_CHECKING:
    from tests.sdk.plane import Customer, Plane

pytestmark = pytest.mark.real_db

LIMIT_NANO = 10**9
PROCESSES, THREADS = 4, 10
PROCESSES_SOAKED, THREADS_SOAKED = 8, 50
TOKENS, TOKENS_SOAKED = 3_000, 1_000
"""What a holder lets the provider say of each call: of large ones a budget pays for fewer, sooner."""
KILLED_AT, KILLED_AT_SOAKED = (60, 300), (200, 1_000)
"""After how many calls holders are killed."""
POLL_SECONDS = 0.05
RENEW_SECONDS = 5.0
END_SECONDS = 600.0
BOUND_SECONDS = 5.0
"""How soon an edit is to reach every holder."""


@dataclass(frozen=True)
class Race:
    """What came of a race: calls that were made, counted by their makers, and what noburn has of them."""

    calls: int
    used: int
    """What these calls cost, in nano-USD."""
    told: list[dict[str, Any]]
    most: int
    counter: dict[str, Any]
    presumed: int


class Holders:
    """Processes that hold leases of one customer's budget. Use as a context."""

    def __init__(self, customer: Customer, folder: Path, *, count: int = PROCESSES, **said: Any) -> None:
        self.customer, self.folder = customer, folder
        self.outbox = str(folder / "outbox")
        self.renew_at = 0.0
        common = {
            "url": customer.plane.url,
            "secret": customer.plane.secret,
            "customer": customer.name,
            "outbox": self.outbox,
            "threads": THREADS,
            "tokens": TOKENS,
            **said,
        }
        self.processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.sdk.lease_holder",
                    json.dumps({**common, "calls": str(folder / f"{number}.calls")}),
                ],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for number in range(count)
        ]

    def __enter__(self) -> Holders:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def calls(self) -> int:
        """How many calls were made so far."""
        return sum(path.stat().st_size for path in self.folder.glob("*.calls"))

    def committed(self) -> int:
        """What the counter has spent, with what is promised."""
        account = self.customer.plane.account
        rows = account.world.sql(
            """SELECT c.spent + coalesce(sum(g.authority), 0)::bigint
            FROM counters c LEFT JOIN grants g USING (tenant_id, counter_id)
            WHERE c.tenant_id = %s AND c.subject = %s GROUP BY c.tenant_id, c.counter_id""",
            account.tenant_id,
            self.customer.name,
        )
        # Nobody has called yet: there is no counter.
        return int(rows[0][0]) if rows else 0

    def _look(self) -> int:
        """What is committed now. Epochs are renewed meanwhile, as a controller does: they are good for a minute."""
        if time.monotonic() > self.renew_at:
            self.customer.plane.account.world.recover()
            self.renew_at = time.monotonic() + RENEW_SECONDS
        time.sleep(POLL_SECONDS)
        return self.committed()

    def until(self, calls: int) -> int:
        """Waits until so many calls were made; returns the most that was ever committed meanwhile."""
        most = 0
        while self.calls() < calls and any(process.poll() is None for process in self.processes):
            most = max(most, self._look())
        return most

    def until_open(self) -> None:
        """Waits until each of them has a lease."""
        while len(list(self.folder.glob("*.open"))) < len(self.processes):
            assert all(process.poll() is None for process in self.processes)
            self._look()

    def end(self) -> tuple[list[dict[str, Any]], int]:
        """Waits for those that were not killed; returns what they told, and the most that was ever committed."""
        most, ends = 0, time.monotonic() + END_SECONDS
        while any(process.poll() is None for process in self.processes) and time.monotonic() < ends:
            most = max(most, self._look())
        told = []
        for process in self.processes:
            out, _ = process.communicate(timeout=END_SECONDS)
            if process.returncode == 0:
                told.append(json.loads(out.splitlines()[-1]))
        return told, most


def take_over(holders: Holders) -> None:
    """Tells what killed processes left in their outbox, as the next process of that machine would."""
    from noburn_sdk.gate import Gate

    plane = holders.customer.plane
    gate = Gate(plane.secret, plane.url, outbox=holders.outbox, flush_timeout=60.0)
    folder = next(iter(Path(holders.outbox).iterdir()), None)
    assert gate.flush(60.0)
    while folder is not None and list(folder.glob("*.jsonl")) and gate.settler.waiting:
        gate.flush(60.0)
    assert gate.close(60.0)


def expire_all(customer: Customer) -> None:
    """Lets every hold of the tenant expire, and sweeps."""
    account = customer.plane.account
    keys = account.keys()
    redis = account.world.redis
    names: list[Any] = redis.zrange(keys.expiries, 0, -1)
    for name in names:
        redis.hset(name, "ex", 1)
        redis.zadd(keys.expiries, {name: 1})
    account.world.sweep()


def raced(
    customer: Customer,
    folder: Path,
    *,
    kills: int = 0,
    seed: int = 0,
    tokens: int = TOKENS,
    killed_at: tuple[int, int] = KILLED_AT,
    **said: Any,
) -> Race:
    """Lets processes race for the budget, kills some of them, and brings everything to rest."""
    account = customer.plane.account
    account.limit(customer.name, "1")
    rng = random.Random(seed)
    with Holders(customer, folder, tokens=tokens, **said) as holders:
        most = 0
        for victim in rng.sample(holders.processes, kills):
            most = max(most, holders.until(rng.randint(*killed_at)))
            os.kill(victim.pid, signal.SIGKILL)
        told, last = holders.end()
        take_over(holders)
        expire_all(customer)
        calls = holders.calls()
    verified = account.verify()
    assert verified.differences == ()
    assert verified.unread == 0
    presumed = sum(entry["cost_nano"] for entry in customer.ledger() if entry["kind"] == "presumed")
    voided = sum(
        entry["cost_nano"]
        for entry in customer.ledger()
        if entry["kind"] == "voided" and entry["cost_nano"] < 0
    )
    cost = 10 * 150 + tokens * 600
    return Race(calls, calls * cost, told, max(most, last), account.counter(customer.name), presumed + voided)


@pytest.fixture
def customer(plane: Plane) -> Customer:
    return plane.customer("1")


class TestOneDollar:
    def test_is_used_by_many_processes_and_never_exceeded(
        self, customer: Customer, tmp_path: Path, record_property: Any
    ) -> None:
        race = raced(customer, tmp_path)
        used = race.used
        assert used <= LIMIT_NANO
        assert race.most <= LIMIT_NANO
        assert race.counter["spent"] == used
        assert used >= 0.9 * LIMIT_NANO
        assert all(one["closed"] and not one["unheard"] and not one["open"] for one in race.told)
        drawn = sum(one["drawn"] for one in race.told)
        assert drawn > 0
        record_property("leases", f"{race.calls} calls, {drawn} of them drawn, used {used / LIMIT_NANO:.1%}")

    def test_is_never_exceeded_though_holders_are_killed(
        self, customer: Customer, tmp_path: Path, record_property: Any
    ) -> None:
        race = raced(customer, tmp_path, kills=2, seed=7)
        used = race.used
        assert used <= LIMIT_NANO
        assert race.most <= LIMIT_NANO
        assert race.counter["spent"] <= LIMIT_NANO
        # Calls of a killed process that it had not even settled are covered by what is presumed of its lease.
        assert race.counter["spent"] >= used
        record_property("leases", f"{race.calls} calls, stranded {race.presumed / LIMIT_NANO:.1%}")

    @pytest.mark.soak
    @pytest.mark.parametrize("seed", range(10))
    def test_again_and_again(
        self, customer: Customer, tmp_path: Path, seed: int, record_property: Any
    ) -> None:
        kills = seed % PROCESSES_SOAKED
        race = raced(
            customer,
            tmp_path,
            kills=kills,
            seed=seed,
            count=PROCESSES_SOAKED,
            threads=THREADS_SOAKED,
            tokens=TOKENS_SOAKED,
            killed_at=KILLED_AT_SOAKED,
        )
        used = race.used
        assert used <= race.counter["spent"] <= LIMIT_NANO
        assert race.most <= LIMIT_NANO
        assert kills or used >= 0.9 * LIMIT_NANO
        record_property(
            "leases",
            f"{kills} of {PROCESSES_SOAKED} killed, {race.calls} calls, used {used / LIMIT_NANO:.1%}, "
            f"stranded {race.presumed / LIMIT_NANO:.1%}",
        )


class TestACutToZero:
    def test_reaches_every_holder(self, plane: Plane, tmp_path: Path, record_property: Any) -> None:
        customer = plane.customer("100")
        with Holders(customer, tmp_path, count=3, threads=4, call_seconds=0.02, watch=True) as holders:
            holders.until_open()
            plane.account.limit(customer.name, "0")
            cut_at = time.time()
            told, _ = holders.end()
        assert len(told) == 3
        latest = max(one["cuts"][0] for one in told) - cut_at
        # Told, and held to no time: a busy machine answers late.
        record_property(
            "leases", f"a cut reached every holder in {latest:.1f} s (bound {BOUND_SECONDS:.0f} s)"
        )
        assert plane.account.verify().differences == ()
