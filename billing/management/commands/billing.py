"""`manage.py billing status|push|reconcile`: how billing through Stripe stands, doing what is due, and comparing."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from billing.models import Reconciliation
from billing.services import freezing, pushing, reconciling
from billing.services.stripe_access import NotConnected, connected_account
from noburn.kit.clock import utc_now
from noburn.kit.money import to_usd
from tenants.management.asked import tenant_asked

ROUNDS_MAX = 100_000
SHOWN_MAX = 50


class Command(BaseCommand):
    help = "Billing through Stripe: how it stands, doing what is due now, and comparing ledger, outbox and Stripe."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        status = actions.add_parser(
            "status", help="what is missing, what waits, whose use is billed to nobody"
        )
        push = actions.add_parser("push", help="freeze what is closed and send what is due, of every tenant")
        reconcile = actions.add_parser(
            "reconcile", help="compare ledger, outbox and Stripe; exit 1 where something waits for a person"
        )
        for action in (status, reconcile):
            action.add_argument("--tenant", help="one tenant's slug; all without it")
        for action in (status, push, reconcile):
            action.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        match options["action"]:
            case "status":
                self._status(_tenants(options["tenant"]), as_json=options["json"])
            case "push":
                self._push(as_json=options["json"])
            case "reconcile":
                self._reconcile(_tenants(options["tenant"]), as_json=options["json"])

    def _status(self, tenants: dict[UUID, str], *, as_json: bool) -> None:
        now = utc_now()
        shown: list[dict[str, Any]] = []
        for tenant_id, slug in tenants.items():
            found = reconciling.status(account=connected_account(tenant_id=tenant_id), now=now)
            shown.append(
                {
                    "tenant": slug,
                    "state": found.account.state,
                    "missing": found.missing,
                    "links": found.links,
                    "measurements": found.measurements,
                    "oldest_pending_at": found.oldest_pending_at,
                    "waiting": [
                        {"customer": w.customer, "owed_usd": to_usd(w.owed_nano), "reason": w.reason}
                        for w in found.waiting
                    ],
                }
            )
        if as_json:
            self.stdout.write(json.dumps(shown, default=str))
            return
        for one in shown:
            words = ", ".join(
                f"{count} {what} {state}"
                for what in ("links", "measurements")
                for state, count in one[what].items()
                if count
            )
            self.stdout.write(f"{one['tenant']}: {one['state']}; {words or 'nothing under way'}")
            for step in one["missing"]:
                self.stdout.write(f"  to do: {step}")
            for waits in one["waiting"][:SHOWN_MAX]:
                self.stdout.write(f"  {waits['customer']} owes ${waits['owed_usd']}: {waits['reason']}")

    def _push(self, *, as_json: bool) -> None:
        frozen = sent = 0
        for _ in range(ROUNDS_MAX):
            more = freezing.freeze_due(now=utc_now())
            done = pushing.push_batch(now=utc_now())
            frozen, sent = frozen + more, sent + done
            if not more and not done:
                break
        if as_json:
            self.stdout.write(json.dumps({"customers": frozen, "measurements": sent}))
            return
        self.stdout.write(f"{frozen} customers were looked at, {sent} measurements were tried")

    def _reconcile(self, tenants: dict[UUID, str], *, as_json: bool) -> None:
        shown: list[dict[str, Any]] = []
        wrong = 0
        for tenant_id, slug in tenants.items():
            for row in reconciling.reconcile(tenant_id=tenant_id, now=utc_now()):
                wrong += not row.agrees
                shown.append(_seen(slug, row))
        if as_json:
            self.stdout.write(json.dumps(shown, default=str))
        else:
            self.stdout.write(f"{len(shown)} periods, {wrong} do not agree")
            for one in [one for one in shown if not one["agrees"]][:SHOWN_MAX]:
                why = ", ".join(f"{d['kind']} ${d['usd']}" for d in one["differences"])
                self.stdout.write(f"  {one['tenant']} {one['customer']} {one['starts_at']}: {why}")
        if wrong:
            sys.exit(1)


def _seen(slug: str, row: Reconciliation) -> dict[str, Any]:
    return {
        "tenant": slug,
        "customer": row.customer.external_id,
        "starts_at": row.period.starts_at.isoformat(),
        "ends_at": row.period.ends_at.isoformat(),
        "owed_usd": to_usd(row.owed_nano),
        "delivered_usd": to_usd(row.delivered_micro * 1000),
        "measured_usd": None if row.measured_micro is None else to_usd(row.measured_micro * 1000),
        "differences": [
            {"kind": each["kind"], "usd": to_usd(each["micro"] * 1000)} for each in row.differences
        ],
        "agrees": row.agrees,
    }


def _tenants(slug: str | None) -> dict[UUID, str]:
    if slug is None:
        return {account.tenant_id: account.tenant.slug for account in reconciling.accounts()}
    tenant = tenant_asked(slug)
    try:
        connected_account(tenant_id=tenant.pk)
    except NotConnected:
        raise CommandError(f"{slug} has not connected Stripe") from None
    return {tenant.pk: slug}
