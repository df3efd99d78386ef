"""What runs in the processes that the harness kills: a gateway, a controller, an operator. Forked by zygote.py.

Each is the real thing over real sockets. What a fault needs is put around it here, from outside: a place at which the
process kills itself, a clock that is wrong, months that last seconds, a row that PostgreSQL refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from budgets.domain import demands
from budgets.domain.policy import WindowKind
from budgets.domain.windows import Window, window_at
from budgets.gateway.app import GatewayApp
from budgets.gateway.config import GatewayConfig
from budgets.services.operations import Operations
from budgets.services.recovery import EpochFailed
from budgets.stores.postgres.money import MoneyStore, StorageUnavailable
from budgets.stores.redis.connection import RedisConnection
from budgets.stores.redis.scripts import NAMES, ScriptSet
from tests.support.asgi import send

RETRY_SECONDS = 0.1
LINE_MAX = 4_000_000

GATEWAY_STEPS = (
    *(
        f"{step} {when}"
        for step in ("nb_grant", "nb_ack", "nb_resolve", "load", "preflight", "resolve")
        for when in ("before", "sent", "after")
    ),
    "/v1/preflight answered",
    "/v1/settle answered",
    "/v1/void answered",
)
"""Where a gateway may kill itself: before it asks PostgreSQL or Redis, while the question is on its way, once it has the
answer, and when its own answer is made and not sent."""

CONTROLLER_STEPS = tuple(
    f"{step} {when}"
    for step in (
        "nb_epoch_replace",
        "nb_epoch_renew",
        "SCRIPT",
        "open",
        "nb_epoch_opened",
        "nb_epoch_closing",
        "close",
        "nb_retire",
        "retire",
        "nb_retired",
    )
    for when in ("before", "sent", "after")
)
"""The same for the recovery controller, in a recovery and in a planned close."""


def run(order: dict[str, Any]) -> None:
    """Runs one role until it is killed. `order`: role, config, socket, and what the fault needs."""
    if "kill_at" in order:
        die_at(order["kill_at"], order.get("kill_after", 1))
    if order.get("clock_seconds"):
        shift_clock(order["clock_seconds"])
    if order.get("month_seconds"):
        shorten_months(order["month_seconds"])
    if order.get("poison_every"):
        poison(order["poison_every"])
    asyncio.run({"gateway": gateway, "controller": controller, "operator": operator}[order["role"]](order))


# --- what is put around it --------------------------------------------------------------------------------


def die_at(step: str, occurrence: int) -> None:
    """Kills this process with SIGKILL when it comes to a step for the n-th time."""
    wanted, _, when = step.rpartition(" ")
    left = occurrence
    scripts: dict[str, str] = {}

    def now(name: str, moment: str) -> bool:
        nonlocal left
        if (name, moment) != (wanted, when):
            return False
        left -= 1
        return left <= 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def stepped(name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        if now(name, "before"):
            die()
        if now(name, "sent"):
            task = asyncio.ensure_future(work())
            # Two turns of the loop: what was to be sent is on its way, and no answer has been read.
            for _ in range(2):
                await asyncio.sleep(0)
            die()
            return await task
        answer = await work()
        if now(name, "after"):
            die()
        return answer

    of_rows, of_call, of_init = MoneyStore._rows, RedisConnection.call, ScriptSet.__init__

    async def rows(self: MoneyStore, sql: str, params: Any) -> Any:
        name = next((word.split("(")[0] for word in sql.split() if word.startswith("nb_")), "")
        return await stepped(name, lambda: of_rows(self, sql, params))

    async def call(self: RedisConnection, *command: Any, asking: bool = False) -> Any:
        name = scripts.get(command[1], "") if command[0] == "EVALSHA" else str(command[0])
        return await stepped(name, lambda: of_call(self, *command, asking=asking))

    def init(self: ScriptSet, recorded: Any) -> None:
        of_init(self, recorded)
        scripts.update({recorded[name]: name for name in NAMES if name in recorded})

    MoneyStore._rows, RedisConnection.call, ScriptSet.__init__ = rows, call, init  # type: ignore[method-assign]
    global _answered

    def answered(_path: str) -> None:
        if now(_path, "answered"):
            die()

    _answered = answered


def _answered(_path: str) -> None:
    pass


def shift_clock(seconds: float) -> None:
    """Makes every clock that this program's own code reads wrong by so much."""
    of_time, off = time.time, timedelta(seconds=seconds)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + off

    time.time = lambda: of_time() + seconds
    for name, module in list(sys.modules.items()):
        if (
            name.startswith(("budgets.", "noburn.", "tenants."))
            and getattr(module, "datetime", None) is datetime
        ):
            module.datetime = Shifted  # type: ignore[attr-defined]


def shorten_months(seconds: int) -> None:
    """Lets a month end every so many seconds, so that holds are open when it does."""

    def shortened(kind: WindowKind, *, now: datetime, zone: str, anchor_day: int | None) -> Window:
        if kind is not WindowKind.MONTH:
            return window_at(kind, now=now, zone=zone, anchor_day=anchor_day)
        start = int(now.timestamp()) // seconds * seconds
        return Window(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(start + seconds, UTC))

    demands.window_at = shortened  # type: ignore[attr-defined]


def poison(every: int) -> None:
    """Makes PostgreSQL refuse one resolution of so many, by a state that no row may have."""
    of, seen = MoneyStore.resolve, 0
    chosen: set[str] = set()

    async def resolve(self: MoneyStore, items: Any) -> Any:
        nonlocal seen
        for item in items:
            seen += 1
            if seen % every == 0:
                chosen.add(str(item["hold"]))
        sick = [{**item, "state": "poisoned"} if str(item["hold"]) in chosen else item for item in items]
        return await of(self, sick)

    MoneyStore.resolve = resolve  # type: ignore[method-assign]


# --- the roles --------------------------------------------------------------------------------------------


async def gateway(order: dict[str, Any]) -> None:
    """A gateway: lines of JSON in, the answers of the ASGI application out."""
    config = order["config"]
    app = GatewayApp(
        GatewayConfig(
            order["database_url"],
            order["redis_url"],
            b64decode(config["pepper"]),
            {kid: b64decode(key) for kid, key in config["signing_keys"].items()},
            config["signing_kid"],
            config["base_url"],
        )
    )
    while True:
        try:
            await app.startup()
            break
        except StorageUnavailable:
            # As a web process that cannot start is started again.
            await asyncio.sleep(RETRY_SECONDS)

    async def one(line: bytes, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(line)
        answer = await send(
            app,
            asked["method"],
            asked["path"],
            body=asked.get("body"),
            secret=asked["secret"],
            idempotency_key=asked.get("key"),
        )
        _answered(asked["path"])
        with contextlib.suppress(OSError):
            writer.write(
                json.dumps({"id": asked["id"], "status": answer.status, "body": answer.body}).encode() + b"\n"
            )
            await writer.drain()

    await _serve(order["socket"], one)


async def controller(order: dict[str, Any]) -> None:
    """The recovery controller, as `manage.py epoch run`; `close` closes a shard as planned, again and again."""
    urls = {"database_url": order["database_url"], "redis_url": order["redis_url"]}
    async with Operations.connected(**urls) as operations:
        if "close" not in order:
            await operations.control()
        while True:
            with contextlib.suppress(Exception):
                await operations.close(order["close"])
            await asyncio.sleep(RETRY_SECONDS)


async def operator(order: dict[str, Any]) -> None:
    """An operator: one command a line, each on connections of its own."""
    urls = {"database_url": order["database_url"], "redis_url": order["redis_url"]}

    async def one(line: bytes, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(line)
        try:
            async with asyncio.timeout(60), Operations.connected(**urls) as operations:
                answer: Any = await _operate(operations, asked)
        except EpochFailed as error:
            answer = {"failed": str(error)}
        except Exception as error:  # Whatever it is, the harness decides what to make of it.
            answer = {"failed": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps({"id": asked["id"], "answer": answer}, default=str).encode() + b"\n")
            await writer.drain()

    await _serve(order["socket"], one)


async def _operate(operations: Operations, asked: dict[str, Any]) -> Any:
    match asked["do"]:
        case "verify":
            return asdict(await operations.verify(None))
        case "check":
            return asdict(await operations.check(seconds=asked.get("seconds", 20.0)))
        case "sweep":
            return asdict(await operations.sweep())
        case "close":
            return asdict(await operations.close(asked["shard"]))
        case "partitions":
            return await operations.make_partitions(2)
        case "clean_up":
            return await operations.clean_up()
        case "used":
            return await operations.used_shards()
    raise ValueError(asked["do"])


async def _serve(path: str, one: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]) -> None:
    under_way: set[asyncio.Future[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                task = asyncio.ensure_future(one(line, writer))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = await asyncio.start_unix_server(serve, path, limit=LINE_MAX)
    async with server:
        await server.serve_forever()
