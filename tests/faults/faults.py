"""The faults, each a generator: it injects, yields for as long as the fault is to last, and heals.

`FAULTS` is the table of all of them. A fault that could not be injected raises NotInjected and is not counted.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.faults.installation import wait_for
from tests.faults.roles import CONTROLLER_STEPS, GATEWAY_STEPS

if TYPE_CHECKING:
    from tests.faults.harness import Harness

STEP_SECONDS = 4.0
"""How long a process that was told to kill itself at a step may take to come to it."""

HOUR = 3600


class NotInjected(Exception):
    """It did not come to it; the text says why."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `weight`: how often the soak draws it; `about`: the group it is reported under."""

    name: str
    inject: Callable[[Harness], Iterator[None]]
    weight: int
    seconds: float


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, weight: int, seconds: float = 0.0
) -> Callable[[Callable[[Harness], Iterator[None]]], None]:
    """Puts a generator into the table. `seconds` is how long it lasts."""

    def add(inject: Callable[[Harness], Iterator[None]]) -> None:
        FAULTS[name] = Fault(name, inject, weight, seconds)

    return add


# --- gateways and clients ---------------------------------------------------------------------------------


def gateway_at(step: str) -> Callable[[Harness], Iterator[None]]:
    """A gateway that kills itself at a step, under load."""

    def inject(h: Harness) -> Iterator[None]:
        slot = h.chance.randrange(len(h.installation.gateways))
        h.installation.gateways[slot].kill()
        role = h.installation.gateway(slot, kill_at=step, kill_after=h.chance.randint(1, 3))
        h.installation.gateways[slot] = role
        died = role.ended.wait(STEP_SECONDS)
        if not died:
            role.kill()
        h.installation.gateways[slot] = h.installation.gateway(slot)
        if not died or role.status != -signal.SIGKILL:
            raise NotInjected(f"{step} was not reached")
        yield

    return inject


for _step in GATEWAY_STEPS:
    fault(f"gateway killed: {_step}", weight=2)(gateway_at(_step))


@fault("answers of gateways lost", weight=12, seconds=0.3)
def answers_lost(h: Harness) -> Iterator[None]:
    lost = sum(front.lost_answers for front in h.installation.fronts)
    for front in h.installation.fronts:
        front.lose_answers(True)
    yield
    for front in h.installation.fronts:
        front.lose_answers(False)
    if sum(front.lost_answers for front in h.installation.fronts) == lost:
        raise NotInjected("nobody asked")


@fault("answers of Redis lost", weight=10, seconds=0.2)
def redis_answers_lost(h: Harness) -> Iterator[None]:
    yield from _losing(h, "redis_proxy")


@fault("answers of PostgreSQL lost", weight=8, seconds=0.2)
def postgres_answers_lost(h: Harness) -> Iterator[None]:
    yield from _losing(h, "pg_proxy")


def _losing(h: Harness, name: str) -> Iterator[None]:
    proxy = getattr(h.installation, name)
    lost = proxy.lost_answers
    proxy.lose_answers(True)
    yield
    proxy.lose_answers(False)
    if proxy.lost_answers == lost:
        raise NotInjected("nobody asked")


@fault("64 duplicate settlements at once", weight=20)
def duplicates(h: Harness) -> Iterator[None]:
    answered = h.load.call(h.load.storm(random.Random(h.chance.random())))
    if not answered:
        raise NotInjected("no hold was placed")
    assert answered == 64, f"{answered} of 64 duplicates were told that the hold is settled"
    yield


@fault("settle, void and expiry at once", weight=6)
def races(h: Harness) -> Iterator[None]:
    chance = random.Random(h.chance.random())
    if h.load.call(h.load.life(chance, fate="race", fresh=True)) != "allow":
        raise NotInjected("no hold was placed")
    yield


@fault("settled after expiry", weight=6)
def late(h: Harness) -> Iterator[None]:
    chance = random.Random(h.chance.random())
    if h.load.call(h.load.life(chance, fate="late", fresh=True)) != "allow":
        raise NotInjected("no hold was placed")
    yield


@fault("client killed in mid-call", weight=10, seconds=0.3)
def client_killed(h: Harness) -> Iterator[None]:
    killed = h.journal.counts["clients killed in mid-call"]
    h.load.hang_up = 1
    yield
    wait_for("a client", lambda: h.journal.counts["clients killed in mid-call"] > killed)


@fault("clock an hour ahead", weight=2, seconds=1.5)
def clock_ahead(h: Harness) -> Iterator[None]:
    yield from _clock(h, HOUR)


@fault("clock an hour behind", weight=2, seconds=1.5)
def clock_behind(h: Harness) -> Iterator[None]:
    yield from _clock(h, -HOUR)


def _clock(h: Harness, seconds: int) -> Iterator[None]:
    installation, slot = h.installation, h.chance.randrange(len(h.installation.gateways))
    installation.gateways[slot].kill()
    installation.gateways[slot] = installation.gateway(slot, clock_seconds=seconds)
    installation.controllers[0].kill()
    installation.controllers[0] = installation.controller(clock_seconds=seconds)
    yield
    installation.gateways[slot].kill()
    installation.gateways[slot] = installation.gateway(slot)
    installation.controllers[0].kill()
    installation.controllers[0] = installation.controller()


@fault("poison rows in batches", weight=2, seconds=1.0)
def poison(h: Harness) -> Iterator[None]:
    slot = h.chance.randrange(len(h.installation.gateways))
    h.installation.gateways[slot].kill()
    h.installation.gateways[slot] = h.installation.gateway(slot, poison_every=5)
    yield
    h.installation.gateways[slot].kill()
    h.installation.gateways[slot] = h.installation.gateway(slot)


# --- Redis ------------------------------------------------------------------------------------------------


@fault("Redis killed", weight=4)
def redis_killed(h: Harness) -> Iterator[None]:
    h.installation.counters.kill()
    h.installation.counters.start()
    yield


@fault("Redis away", weight=2, seconds=1.5)
def redis_away(h: Harness) -> Iterator[None]:
    h.installation.counters.kill()
    yield
    h.installation.counters.start()


@fault("Redis frozen", weight=2, seconds=3.0)
def redis_frozen(h: Harness) -> Iterator[None]:
    h.installation.counters.signal_all(signal.SIGSTOP)
    yield
    h.installation.counters.signal_all(signal.SIGCONT)


@fault("Redis flushed", weight=4)
def redis_flushed(h: Harness) -> Iterator[None]:
    with h.installation.redis() as client:
        client.flushall()
    yield


@fault("scripts of Redis flushed", weight=4)
def scripts_flushed(h: Harness) -> Iterator[None]:
    with h.installation.redis() as client:
        client.script_flush()
    yield


@fault("append-only file cut", weight=4)
def aof_cut(h: Harness) -> Iterator[None]:
    running = h.installation.counters
    running.kill()
    files = sorted((running.server.directory / "appendonlydir").glob("*.incr.aof"), key=os.path.getsize)
    size = os.path.getsize(files[-1]) if files else 0
    if size:
        os.truncate(files[-1], h.chance.randrange(size))
    running.start()
    if not size:
        raise NotInjected("the file was empty")
    yield


@fault("failover to a lagging replica", weight=3, seconds=0.5)
def lagging_replica(h: Harness) -> Iterator[None]:
    replica = h.installation.replicate()
    h.installation.replication.pause()
    yield
    old, h.installation.master = h.installation.counters, replica
    old.kill()
    with h.installation.redis(replica) as client:
        client.replicaof("NO", "ONE")
    h.installation.replication.resume()
    h.installation.lead_to(replica, h.installation.redis_proxy, h.installation.control_proxy)


@fault("two masters at once", weight=3, seconds=1.5)
def two_masters(h: Harness) -> Iterator[None]:
    replica = h.installation.replicate()
    with h.installation.redis(replica) as client:
        client.replicaof("NO", "ONE")
    # The controllers and workers see the new one, gateways still the old one, which goes on serving them.
    h.installation.lead_to(replica, h.installation.control_proxy)
    yield
    old, h.installation.master = h.installation.counters, replica
    h.installation.lead_to(replica, h.installation.redis_proxy)
    old.kill()


@fault("Redis: fsync errors", weight=2, seconds=1.5)
def redis_fsync(h: Harness) -> Iterator[None]:
    yield from _redis_disk(h, "fsync")


@fault("Redis: disk full", weight=2, seconds=1.5)
def redis_full(h: Harness) -> Iterator[None]:
    yield from _redis_disk(h, "full")


def _redis_disk(h: Harness, failing: str) -> Iterator[None]:
    trap = h.installation.counters.syscalls
    if trap is None:
        raise NotInjected("this installation has no trap for system calls")
    before, trap.failing = trap.refused, failing
    yield
    trap.failing = None
    with h.installation.redis() as client:
        deadline = time.monotonic() + 3

        def writes() -> bool:
            with contextlib.suppress(Exception):
                return bool(client.set("probe", 1))
            return False

        while not writes():
            if time.monotonic() > deadline:
                # It remembers an error of fsync for ever: the runbook says to restart it.
                h.installation.counters.kill()
                h.installation.counters.start()
                break
            time.sleep(0.1)
    if trap.refused == before:
        raise NotInjected("nothing was written")


# --- PostgreSQL -------------------------------------------------------------------------------------------


@fault("PostgreSQL frozen", weight=2, seconds=3.0)
def postgres_frozen(h: Harness) -> Iterator[None]:
    yield from postgres_frozen_for(h)


def postgres_frozen_for(h: Harness) -> Iterator[None]:
    """Frozen, until the caller goes on."""
    h.installation.postgres.signal_all(signal.SIGSTOP)
    yield
    h.installation.postgres.signal_all(signal.SIGCONT)


@fault("PostgreSQL frozen for half a minute", weight=0, seconds=30.0)
def postgres_frozen_long(h: Harness) -> Iterator[None]:
    yield from postgres_frozen_for(h)


@fault("PostgreSQL stopped", weight=2, seconds=2.0)
def postgres_stopped(h: Harness) -> Iterator[None]:
    h.installation.postgres.stop()
    yield
    h.installation.postgres.start()


@fault("PostgreSQL stopped for a minute", weight=0, seconds=60.0)
def postgres_stopped_long(h: Harness) -> Iterator[None]:
    h.installation.postgres.stop()
    yield
    h.installation.postgres.start()


@fault("PostgreSQL killed", weight=3)
def postgres_killed(h: Harness) -> Iterator[None]:
    h.installation.postgres.kill()
    h.installation.postgres.start()
    yield


@fault("PostgreSQL restored from an older backup", weight=1, seconds=1.0)
def postgres_restored(h: Harness) -> Iterator[None]:
    h.settle_down()
    installation = h.installation
    data = installation.postgres.server.directory / "data"
    backup = installation.path / "backup"
    shutil.rmtree(backup, ignore_errors=True)
    installation.postgres.stop()
    _copy(data, backup)
    installation.postgres.start()
    since_ms = time.time() * 1000
    h.load.go()
    yield
    # As the runbook has it: nothing serves, restore, flush, start.
    h.load.rest()
    for role in (*installation.gateways, *installation.controllers):
        role.kill()
    installation.postgres.kill()
    shutil.rmtree(data)
    _copy(backup, data)
    h.journal.forget(since_ms)
    h.load.new_customers()
    with installation.redis() as client:
        client.flushall()
    installation.postgres.start()
    installation.controllers = [installation.controller() for _ in installation.controllers]
    installation.gateways = [installation.gateway(slot) for slot in range(len(installation.gateways))]
    h.load.go()


def _copy(source: os.PathLike[str], target: os.PathLike[str]) -> None:
    def copy(a: str, b: str) -> str:
        shutil.copy2(a, b)
        _own(a, b)
        return b

    shutil.copytree(source, target, copy_function=copy)
    for root, directories, _ in os.walk(source):
        for name in (".", *directories):
            path = os.path.join(root, name)
            _own(path, os.path.join(target, os.path.relpath(path, source)))


def _own(a: str, b: str) -> None:
    if os.geteuid() == 0:
        found = os.stat(a)
        os.chown(b, found.st_uid, found.st_gid)


@fault("PostgreSQL: fsync errors", weight=2, seconds=1.5)
def postgres_fsync(h: Harness) -> Iterator[None]:
    yield from _postgres_disk(h, "fsync")


@fault("PostgreSQL: disk full", weight=2, seconds=1.5)
def postgres_full(h: Harness) -> Iterator[None]:
    yield from _postgres_disk(h, "full")


def _postgres_disk(h: Harness, failing: str) -> Iterator[None]:
    running = h.installation.postgres
    trap = running.syscalls
    if trap is None:
        raise NotInjected("this installation has no trap for system calls")
    before, trap.failing = trap.refused, failing
    yield
    trap.failing = None
    # It stops at an error of its log, as it should, and is started again.
    if running.process is not None and (running.process.poll() is not None or not running.server.answers()):
        running.kill()
        running.start()
    if trap.refused == before:
        raise NotInjected("nothing was written")


@fault("no partition for this month", weight=2, seconds=0.5)
def missing_partition(h: Harness) -> Iterator[None]:
    month = time.strftime("%Y%m", time.gmtime())
    steps = "BEGIN; SET LOCAL lock_timeout = '5s';"
    for table in ("hold_resolutions", "ledger_entries"):
        steps += f"""ALTER TABLE {table} DETACH PARTITION {table}_{month};
            INSERT INTO {table}_default SELECT * FROM {table}_{month}; DROP TABLE {table}_{month};"""
    h.installation.sql(steps + "COMMIT", owner=True)
    yield
    made = h.installation.ask("partitions")
    assert made == 2, f"the month's partitions were not made again: {made}"


# --- controllers, workers, broker -------------------------------------------------------------------------


def controller_at(step: str) -> Callable[[Harness], Iterator[None]]:
    """Two controllers, both told to kill themselves at a step of a recovery or of a planned close."""

    def inject(h: Harness) -> Iterator[None]:
        installation = h.installation
        word = step.split()[0]
        closes = (
            {"close": h.shard()}
            if word in ("nb_epoch_closing", "close", "nb_retire", "retire", "nb_retired")
            else {}
        )
        # A recovery of 64 shards comes to a step as often; a planned close and a renewal come to it once.
        most = 1 if closes or word == "nb_epoch_renew" else 40
        for role in installation.controllers:
            role.kill()
        armed = [
            installation.controller(kill_at=step, kill_after=h.chance.randint(1, most), **closes)
            for _ in installation.controllers
        ]
        if not closes and word != "nb_epoch_renew":
            with installation.redis() as client:
                client.flushall()
        died = sum(role.ended.wait(STEP_SECONDS) and role.status == -signal.SIGKILL for role in armed)
        for role in armed:
            role.kill()
        installation.controllers = [installation.controller() for _ in armed]
        if not died:
            raise NotInjected(f"{step} was not reached")
        yield

    return inject


for _step in CONTROLLER_STEPS:
    fault(f"controllers killed: {_step}", weight=1)(controller_at(_step))


@fault("planned close", weight=3)
def planned_close(h: Harness) -> Iterator[None]:
    answer = h.installation.ask("close", shard=h.shard())
    if "failed" in answer:
        raise NotInjected(answer["failed"])
    yield


@fault("broker flushed", weight=2)
def broker_flushed(h: Harness) -> Iterator[None]:
    h.need_celery()
    import redis

    with redis.Redis(unix_socket_path=str(h.installation.path / "run" / "broker.sock")) as client:
        client.flushall()
    yield


@fault("worker killed", weight=1)
def worker_killed(h: Harness) -> Iterator[None]:
    h.need_celery()
    name = h.chance.choice(["worker", "worker", "beat"])
    h.installation.kill_celery(name)
    h.installation.start_celery(name)
    yield
