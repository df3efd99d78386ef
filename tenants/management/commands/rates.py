"""`manage.py rates --tenant SLUG`: how often a tenant may ask, beside what the installation says."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from noburn.kit.clock import utc_now
from tenants.management.asked import tenant_asked
from tenants.services.rates import InvalidRates, set_rates

NAMES = ("calls_per_second", "requests_per_second")


class Command(BaseCommand):
    help = "Gives a tenant rates of its own: each process answers that many a second, of each key and of all of them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, help="the tenant's slug")
        parser.add_argument("--calls-per-second", help="of the gateway; `default`: as the installation says")
        parser.add_argument("--requests-per-second", help="of the management API; `default`")

    def handle(self, *_args: Any, **options: Any) -> None:
        tenant = tenant_asked(options["tenant"])
        rates = {name: _rate(name, options[name]) for name in NAMES if options[name] is not None}
        try:
            tenant = set_rates(tenant_id=tenant.pk, rates=rates, actor="command:rates", now=utc_now())
        except InvalidRates as invalid:
            raise CommandError(str(invalid)) from None
        for name in NAMES:
            own = getattr(tenant, name)
            self.stdout.write(f"{name}: {'as the installation says' if own is None else own}")


def _rate(name: str, text: str) -> int | None:
    if text == "default":
        return None
    try:
        return int(text)
    except ValueError:
        raise CommandError(f"--{name.replace('_', '-')}: a number, or `default`") from None
