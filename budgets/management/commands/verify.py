"""`manage.py verify`: recomputes every counter from ledger, grants and Redis; exit 1 if a figure differs."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from budgets.services.operations import Operations, RedisUnavailable, StorageUnavailable
from budgets.services.verification import Verification
from tenants.management.asked import tenant_asked

SHOWN_MAX = 50


class Command(BaseCommand):
    help = "Recomputes every counter from the ledger, the grants and Redis. Exact at rest; exit 1 on a difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", help="one tenant's slug; all without it")
        parser.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        tenant_id = tenant_asked(options["tenant"]).pk if options["tenant"] else None

        async def work() -> Verification:
            urls = {"database_url": settings.DATABASE_URL, "redis_url": settings.REDIS_URL}
            async with Operations.connected(**urls) as operations:
                return await operations.verify(tenant_id)

        try:
            found = asyncio.run(work())
        except (StorageUnavailable, RedisUnavailable) as error:
            raise CommandError(f"cannot be done now: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(found), default=str))
        else:
            totals = found.totals
            self.stdout.write(
                f"{totals.counters} counters, {totals.entries} ledger entries, {totals.open_holds} open holds, "
                f"stranded {totals.stranded}, overrun {totals.overrun}: {len(found.differences)} differences"
            )
            for d in found.differences[:SHOWN_MAX]:
                self.stdout.write(f"  {d.object} {d.figure}: {d.stored}, but its sources say {d.derived}")
        if found.differences:
            sys.exit(1)
