"""`manage.py usage status|verify|rebuild`: how far the rollups are, whether they are right, and counting them anew."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from budgets.services import metering
from noburn.kit.clock import utc_now
from tenants.management.asked import tenant_asked

SHOWN_MAX = 50
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Command(BaseCommand):
    help = "The rollups of usage: how far they are, whether they equal the ledger, and counting them anew."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser("status", help="how far the rollups are")
        status.add_argument("--json", action="store_true")
        verify = actions.add_parser(
            "verify", help="compare every rollup with the ledger; exit 1 on a difference"
        )
        verify.add_argument("--json", action="store_true")
        rebuild = actions.add_parser("rebuild", help="count anew from the ledger, while everything goes on")
        rebuild.add_argument(
            "--restart", action="store_true", help="do not go on with a rebuild that was killed"
        )
        for action in (verify, rebuild):
            action.add_argument("--tenant", help="one tenant's slug; all without it")

    def handle(self, *_args: Any, **options: Any) -> None:
        tenant_id = tenant_asked(options["tenant"]).pk if options.get("tenant") else None
        match options["action"]:
            case "status":
                self._status(as_json=options["json"])
            case "verify":
                self._verify(tenant_id, as_json=options["json"])
            case "rebuild":
                self._rebuild(tenant_id, resume=not options["restart"])

    def _status(self, *, as_json: bool) -> None:
        found = metering.status()
        if as_json:
            self.stdout.write(json.dumps(asdict(found), default=str))
            return
        if not found.at_home:
            self.stdout.write("this database was restored from a dump: run manage.py usage rebuild")
        if found.through_at is None:
            behind = "nothing is rolled up yet"
        else:
            behind = f"{(utc_now() - found.through_at).total_seconds():.1f} s behind"
        pruned = (
            f"; hours before {found.hours_from:%Y-%m-%d %H:%M} UTC are pruned"
            if found.hours_from > NEVER
            else ""
        )
        self.stdout.write(f"{behind}; {found.waiting} entries wait{pruned}")
        if found.rebuild_began_at is not None:
            self.stdout.write(
                f"a rebuild since {found.rebuild_began_at:%Y-%m-%d %H:%M:%S} UTC is at tenant {found.rebuild_tenant}, "
                f"day {found.rebuild_day}"
            )

    def _verify(self, tenant_id: UUID | None, *, as_json: bool) -> None:
        found = list(metering.verify(tenant_id=tenant_id))
        if as_json:
            self.stdout.write(json.dumps([asdict(figure) for figure in found], default=str))
        else:
            self.stdout.write(f"{len(found)} differences")
            for f in found[:SHOWN_MAX]:
                self.stdout.write(
                    f"  {f.tenant_id} {f.object} {f.figure}: {f.stored}, but the ledger says {f.derived}"
                )
        if found:
            sys.exit(1)

    def _rebuild(self, tenant_id: UUID | None, *, resume: bool) -> None:
        days = rows = 0
        try:
            for _, _, written in metering.rebuild(tenant_id=tenant_id, resume=resume):
                days, rows = days + 1, rows + written
        except (metering.UsageMoved, metering.UsageBusy) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{days} days counted anew, {rows} rows")
