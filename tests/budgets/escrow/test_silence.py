"""Servers that are there and say nothing: frozen, or cut off by a network that drops what is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from tests.support.world import World

pytestmark = pytest.mark.real_db


class TestSilentPostgres:
    def test_is_told_of_and_used_again_when_it_speaks(self, world: World, tmp_path: Path) -> None:
        from budgets.stores.postgres.money import MoneyStore, StorageUnavailable
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
