"""The one load generator: many clients of many gateways, who repeat what was not answered, and write down what was.

It runs in a thread of its own. Lives of calls are drawn at random: settled, voided, lost, late, abandoned, raced.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from tests.faults.journal import HoldTold, Journal

T = TypeVar("T")
ANSWER_SECONDS = 5.0
GIVE_UP_SECONDS = 90.0
REPEAT_SECONDS = 0.05
TTL_SECONDS = 2
LATE_TTL_SECONDS = 1
AMOUNT_MAX = 120
CUSTOMERS = 8
CALLS_A_CUSTOMER = 40
DUPLICATES = 64
FATES = {"settle": 60, "void": 10, "lose": 5, "late": 5, "abandon": 8, "race": 6, "repeat": 6}


class Unanswered(Exception):
    """The connection broke or nothing came in time: what was asked may have happened, or not."""


class Line:
    """One connection to one gateway; answers come in any order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[tuple[int, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._connecting = asyncio.Lock()
        self._reading: asyncio.Future[None] | None = None

    async def ask(self, word: dict[str, Any], *, forget: bool = False) -> tuple[int, Any]:
        """Status and body. `forget`: hangs up once it is sent, as a client that is killed. Raises Unanswered."""
        number = next(self._numbers)
        future: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        try:
            async with self._connecting:
                if self._writer is None or self._writer.is_closing():
                    reader, self._writer = await asyncio.open_unix_connection(self._path, limit=2**22)
                    self._reading = asyncio.ensure_future(self._read(reader, self._writer))
                writer = self._writer
            self._waiting[number] = future
            writer.write(json.dumps({"id": number, **word}).encode() + b"\n")
            if forget:
                await asyncio.sleep(0.001)
                writer.close()
                raise Unanswered("hung up")
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        except (OSError, TimeoutError) as error:
            raise Unanswered(str(error)) from error
        finally:
            self._waiting.pop(number, None)
            future.cancel()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, ValueError):
                while line := await reader.readline():
                    answer = json.loads(line)
                    future = self._waiting.get(answer["id"])
                    if future is not None and not future.done():
                        future.set_result((answer["status"], answer["body"]))
        finally:
            if self._writer is writer:
                self._writer = None
            writer.transport.abort()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(OSError("the gateway hung up"))


class Load:
    """Clients, as many as `clients`, over tenants and gateways' sockets."""

    def __init__(
        self,
        tenants: list[dict[str, Any]],
        sockets: list[Path],
        journal: Journal,
        *,
        seed: int,
        clients: int,
        month_ms: int,
    ) -> None:
        self._tenants, self._sockets, self.journal = tenants, sockets, journal
        self._chance, self._clients, self._month_ms = random.Random(seed), clients, month_ms
        self._customers = itertools.count()
        self._pool: list[tuple[str, int]] = []
        self._running, self._stopped = asyncio.Event(), False
        self._idle = 0
        self.pause_seconds = 0.02
        self.hang_up = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load", daemon=True)
        self._thread.start()
        self._lines = [Line(path) for path in sockets]
        self._work = [self._start(self._client(random.Random(self._chance.random()))) for _ in range(clients)]

    def _start(self, work: Coroutine[Any, Any, T]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something in the load's own thread, and waits for it."""
        answer: T = self._start(work).result(GIVE_UP_SECONDS + 30)
        return answer

    def go(self) -> None:
        """Begins, or goes on."""
        self._loop.call_soon_threadsafe(self._running.set)

    def rest(self) -> None:
        """Ends every life under way and begins none. Raises AssertionError if that takes for ever."""
        self._loop.call_soon_threadsafe(self._running.clear)
        deadline = time.monotonic() + GIVE_UP_SECONDS + 30
        while self._idle < self._clients:
            assert time.monotonic() < deadline, f"{self._clients - self._idle} clients are not done"
            for work in self._work:
                if work.done():
                    work.result()
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped = True

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            # A turn of the loop in which transports close.
            await asyncio.sleep(0)

        self._start(end()).result(GIVE_UP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def new_customers(self) -> None:
        """Leaves the customers of now: fresh ones from here on."""
        self._pool = []

    async def _client(self, chance: random.Random) -> None:
        while not self._stopped:
            if not self._running.is_set():
                self._idle += 1
                await self._running.wait()
                self._idle -= 1
            await self.life(chance)
            await asyncio.sleep(self.pause_seconds * chance.random() * 2)

    def _customer(self, chance: random.Random) -> str:
        while len(self._pool) < CUSTOMERS:
            self._pool.append((f"c{next(self._customers)}", CALLS_A_CUSTOMER))
        at = chance.randrange(len(self._pool))
        name, left = self._pool.pop(at)
        if left > 1:
            self._pool.insert(at, (name, left - 1))
        return name

    # --- one call's life ---

    async def life(
        self,
        chance: random.Random,
        *,
        fate: str | None = None,
        fresh: bool = False,
        tenant: dict[str, Any] | None = None,
    ) -> str:
        """One call from its pre-flight to its end; returns what came of the pre-flight."""
        count = self.journal.counts
        tenant = tenant or chance.choice(self._tenants)
        customer = f"f{uuid4().hex[:8]}" if fresh else self._customer(chance)
        amount = chance.randint(1, AMOUNT_MAX)
        fate = fate or chance.choices(list(FATES), list(FATES.values()))[0]
        ttl = LATE_TTL_SECONDS if fate in ("late", "abandon", "race") else TTL_SECONDS
        body = {
            "model": "own-tool",
            "max_output_tokens": 1,
            "cost_usd": f"0.{amount:09d}",
            "subject": {"customer": customer},
            "ttl_seconds": ttl,
            "wait_ms": chance.choice([0, 0, 50]),
        }
        count["calls"] += 1
        forget, self.hang_up = self.hang_up > 0, max(0, self.hang_up - 1)
        try:
            status, answer = await self._repeat(chance, "/v1/preflight", body, tenant, forget=forget)
        except Unanswered:
            count["clients killed in mid-call" if forget else "given up"] += 1
            return "unanswered"
        if status != 200:
            count[f"problem {status} {answer['type'].rsplit('/', 1)[-1]}"] += 1
            return str(status)
        if answer["decision"] != "allow":
            count[answer["reason"]] += 1
            subject = f"customer:{customer}"
            if answer["reason"] == "budget_exceeded" and answer["budget"]["scope"] == "customer":
                self.journal.refused[tenant["tenant_id"], subject, 0].append(amount)
            return str(answer["reason"])
        count["allow"] += 1
        hold = answer["hold"]["id"]
        expires_ms = datetime.fromisoformat(answer["hold"]["expires_at"]).timestamp() * 1000
        # Up to a millisecond later than it was: whole ones are told.
        placed_ms = expires_ms - ttl * 1000 + 1
        windows = (
            (tenant["tenant_id"], f"customer:{customer}", 0),
            (tenant["tenant_id"], "project:default", int((placed_ms - 1) // self._month_ms)),
        )
        self.journal.allowed(HoldTold(hold, tenant["tenant_id"], windows, amount, placed_ms))
        await self._end(chance, fate, tenant, hold, answer["authorization"], amount)
        if fate in ("race", "late"):
            count[fate] += 1
        if int((placed_ms - 1) // self._month_ms) != int(now_ms() // self._month_ms) and fate != "abandon":
            count["open over the end of a month"] += 1
        return "allow"

    async def _end(
        self,
        chance: random.Random,
        fate: str,
        tenant: dict[str, Any],
        hold: str,
        authorization: str,
        amount: int,
    ) -> None:
        used = chance.randint(0, amount)
        settled = {"authorization": authorization, "usage": {}, "cost_usd": f"0.{used:09d}"}
        if fate == "abandon":
            self.journal.counts["abandoned"] += 1
            return
        await asyncio.sleep(
            chance.random() * 0.05 if fate != "late" else LATE_TTL_SECONDS * (1 + chance.random())
        )
        if fate == "lose":
            await self._resolve(
                chance, "/v1/settle", {"authorization": authorization, "usage": None}, tenant, hold, amount
            )
        elif fate == "void":
            self.journal.freeing(hold, amount, now_ms())
            await self._resolve(chance, "/v1/void", {"authorization": authorization}, tenant, hold, 0)
        elif fate == "race":
            await self.race(chance, tenant, hold, authorization, amount, used)
        else:
            self.journal.freeing(hold, amount - used, now_ms())
            for _ in range(2 if fate == "repeat" else 1):
                await self._resolve(chance, "/v1/settle", settled, tenant, hold, used)

    async def race(
        self,
        chance: random.Random,
        tenant: dict[str, Any],
        hold: str,
        authorization: str,
        amount: int,
        used: int,
    ) -> None:
        """Settle, void and (by the sweep at its expiry) presume, all at once: any may win, and all are told the same."""
        await asyncio.sleep(LATE_TTL_SECONDS * chance.choice([0.0, 0.9, 1.0, 1.1]))
        self.journal.freeing(hold, amount, now_ms())
        body = {"authorization": authorization}
        settle = {**body, "usage": {}, "cost_usd": f"0.{used:09d}"}
        settled, voided = await asyncio.gather(
            self._resolve(chance, "/v1/settle", settle, tenant, hold, used),
            self._resolve(chance, "/v1/void", body, tenant, hold, 0),
        )
        # A settlement after a void is a named case: it may exceed, and so may what was granted before Redis hears of it.
        if settled == "settled" and voided != "voided" and hold in self.journal.holds:
            for window in self.journal.holds[hold].windows:
                self.journal.events[window].append((now_ms(), used, False))

    async def storm(self, chance: random.Random) -> int:
        """64 settlements of one hold at once, over every gateway; returns how many were answered alike."""
        tenant = chance.choice(self._tenants)
        customer, amount = f"f{uuid4().hex[:8]}", chance.randint(20, AMOUNT_MAX)
        body = {"model": "own-tool", "max_output_tokens": 1, "cost_usd": f"0.{amount:09d}"}
        body |= {"subject": {"customer": customer}, "ttl_seconds": TTL_SECONDS}
        status, placed = await self._repeat(chance, "/v1/preflight", body, tenant)
        if status != 200 or placed["decision"] != "allow":
            return 0
        hold = placed["hold"]["id"]
        windows = ((tenant["tenant_id"], f"customer:{customer}", 0),)
        self.journal.allowed(HoldTold(hold, tenant["tenant_id"], windows, amount, now_ms()))
        used = amount // 2
        settle = {"authorization": placed["authorization"], "usage": {}, "cost_usd": f"0.{used:09d}"}
        self.journal.freeing(hold, amount - used, now_ms())
        answers = await asyncio.gather(
            *(self._resolve(chance, "/v1/settle", settle, tenant, hold, used) for _ in range(DUPLICATES))
        )
        return answers.count("settled")

    async def _resolve(
        self,
        chance: random.Random,
        path: str,
        body: dict[str, Any],
        tenant: dict[str, Any],
        hold: str,
        amount: int,
    ) -> str:
        count = self.journal.counts
        try:
            status, answer = await self._repeat(chance, path, body, tenant)
        except Unanswered:
            count["resolution given up"] += 1
            return "unanswered"
        if status == 200:
            count[answer["state"]] += 1
            if hold in self.journal.holds:
                self.journal.acknowledged(hold, answer["state"], amount)
            return str(answer["state"])
        count[f"problem {status} {answer['type'].rsplit('/', 1)[-1]}"] += 1
        return str(status)

    async def _repeat(
        self,
        chance: random.Random,
        path: str,
        body: dict[str, Any],
        tenant: dict[str, Any],
        *,
        forget: bool = False,
    ) -> tuple[int, Any]:
        """Repeats with the same key, at any gateway, until it is answered otherwise than by 503. Raises Unanswered."""
        word = {"method": "POST", "path": path, "body": body, "key": uuid4().hex, "secret": tenant["api_key"]}
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                status, answer = await chance.choice(self._lines).ask(word, forget=forget)
                if status != 503:
                    return status, answer
                self.journal.counts["503"] += 1
            except Unanswered:
                self.journal.counts["broken connections"] += 1
                if forget:
                    raise
            if time.monotonic() > deadline:
                raise Unanswered("given up")
            await asyncio.sleep(REPEAT_SECONDS * (0.5 + chance.random()))


def now_ms() -> float:
    """Milliseconds since 1970."""
    return time.time() * 1000
