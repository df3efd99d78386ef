"""A gateway behind a real socket, on this test process's own PostgreSQL and Valkey, and what it booked."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any
from uuid import uuid4

from granian.constants import Interfaces
from granian.server.embed import Server

from budgets.gateway.app import GatewayApp
from tests.doubles.program import free_port
from tests.support.world import Account, gateway_config

ENOUGH = "10"
START_SECONDS = 60.0
FIELDS = "kind, cost_nano, tokens, outcome, model, reported_model, flags, tags, usage"


class Served:
    """A gateway in a thread of its own."""

    def __init__(self, app: Any = None, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._app: Any = app or GatewayApp(gateway_config())
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._thread.start()
        assert self._ready.wait(START_SECONDS), "the gateway did not start"
        assert self._error is None, self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._app.startup()
        self._server: Any = Server(
            self._app, port=self.port, interface=Interfaces.ASGINL, log_enabled=False, websockets=False
        )
        serving = asyncio.ensure_future(self._server.serve())
        try:
            await self._listening()
            self._ready.set()
            await serving
        finally:
            await self._app.shutdown()

    async def _listening(self) -> None:
        for _ in range(1000):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
        raise RuntimeError("the gateway does not listen")

    def close(self) -> None:
        """Ends it."""
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()


class Plane:
    """A tenant at a running gateway; its customers."""

    def __init__(self, url: str, account: Account) -> None:
        self.url = url
        self.account = account
        self.secret = account.secret

    def customer(self, limit_usd: str = ENOUGH, **fields: Any) -> Customer:
        """A customer with a budget."""
        name = f"acme-{uuid4().hex[:12]}"
        self.account.budget(name, limit_usd, **fields)
        return Customer(self, name)


class Customer:
    """One customer, and what noburn booked for its calls."""

    def __init__(self, plane: Plane, name: str) -> None:
        self.plane, self.name = plane, name

    def ledger(self) -> list[dict[str, Any]]:
        """Its ledger entries, oldest first, costs in USD."""
        rows = self.plane.account.world.sql(
            f"""SELECT {FIELDS} FROM ledger_entries WHERE tenant_id = %s AND customer = %s
            ORDER BY recorded_at, hold_id, revision""",
            self.plane.account.tenant_id,
            self.name,
        )
        entries = [dict(zip(FIELDS.split(", "), row, strict=True)) for row in rows]
        return [{**entry, "cost_usd": Decimal(entry["cost_nano"]) / 10**9} for entry in entries]

    def remaining(self) -> Decimal:
        """What its budget has left in USD, holds taken off."""
        return Decimal(self.plane.account.remaining(self.name)) / 10**9
