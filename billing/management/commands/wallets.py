"""`manage.py wallets check|burn`: compares wallets with their sources; burns what waits. Exit 1 if a figure differs."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from billing.services.burning import burn
from billing.services.wallet_checks import check_wallets
from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.management.asked import tenant_asked

SHOWN_MAX = 50


class Command(BaseCommand):
    help = "Compares each wallet with its journal, the calls that it paid for and its counter; or burns what waits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["check", "burn"])
        parser.add_argument("--tenant", help="one tenant's slug; all without it")
        parser.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        tenant_id = tenant_asked(options["tenant"]).pk if options["tenant"] else None
        if options["action"] == "burn":
            done = burn(now=utc_now(), tenant_id=tenant_id)
            told = json.dumps(asdict(done)) if options["json"] else str(done)
            self.stdout.write(told)
            if done.failed or done.moved:
                sys.exit(1)
            return
        found = check_wallets(tenant_id=tenant_id)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(each) for each in found], default=str))
        else:
            self.stdout.write(f"{len(found)} differences")
            for d in found[:SHOWN_MAX]:
                name = ids.encode(ids.WALLET, d.wallet_id)
                self.stdout.write(f"  {name} {d.figure}: {d.stored}, but its sources say {d.derived}")
        if found:
            sys.exit(1)
