"""Servers that are there and say nothing: frozen, or cut off by a network that drops what is sent."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

from budgets.stores.postgres.money import MoneyStore, StorageUnavailable

if TYPE_CHECKING:
    from tests.support.world import World

pytestmark = pytest.mark.real_db


class TestSilentPostgres:
    def test_is_told_of_and_used_again_when_it_speaks(self, world: World, tmp_path: Path) -> None:
        from tests.faults.proxy import Proxy

        parts = conninfo_to_dict(settings.DATABASE_GATEWAY_URL)
        proxy = Proxy(tmp_path / ".s.PGSQL.5432", Path(str(parts["host"])) / ".s.PGSQL.5432")
        host = quote(str(tmp_path), safe="")
        store = MoneyStore(f"postgresql://{parts['user']}@/{parts['dbname']}?host={host}", connections=1)

        async def story() -> None:
            await store.open()
            assert len(await store.epochs()) == 64
            proxy.pause()
            with pytest.raises(StorageUnavailable):
                async with store.connection(seconds=0.2) as connection:
                    await connection.execute("SELECT 1")
            proxy.resume()
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert len(await store.epochs()) == 64
                        break
                    except StorageUnavailable:
                        continue
            await store.close()

        world.run(story())
        proxy.close()


class TestRestartedPostgres:
    def test_costs_nobody_a_request_once_it_is_back(self, world: World) -> None:
        """Every connection of the pool was ended while it lay idle."""

        async def story() -> None:
            store = MoneyStore(settings.DATABASE_GATEWAY_URL, connections=4)
            await store.open()
            async with AsyncExitStack() as all_at_once:
                taken = [await all_at_once.enter_async_context(store.connection()) for _ in range(4)]
                pids = [connection.info.backend_pid for connection in taken]
            async with await psycopg.AsyncConnection.connect(
                settings.DATABASE_GATEWAY_URL, autocommit=True
            ) as other:
                for pid in pids:
                    await other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
            for _ in range(8):
                assert len(await store.epochs()) == 64
            await store.close()

        world.run(story())
