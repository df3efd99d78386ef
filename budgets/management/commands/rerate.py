"""`manage.py rerate preview|apply|status`: what settled calls should have cost, and giving them that cost."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from budgets.api.reratings import ReratingOut
from budgets.models import Rerating, ReratingState
from budgets.services import reratings
from budgets.services.reratings import NewRerating, ReratingConflict
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.problems import Invalid, Missing
from tenants.models import Tenant

SHOWN_MAX: Final = 20
WORK_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 0.2
WAIT_SECONDS: Final = 3_600
AT_WORK: Final = (ReratingState.PREVIEWING, ReratingState.APPLYING)


class Command(BaseCommand):
    help = (
        "Prices settled calls again: a preview, its application by compensating entries, and how far it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        preview = actions.add_parser("preview", help="what calls should have cost; changes nothing")
        whose = preview.add_mutually_exclusive_group(required=True)
        whose.add_argument("--tenant", help="one tenant's slug")
        whose.add_argument("--all-tenants", action="store_true", help="each tenant: a preview of its own")
        preview.add_argument(
            "--from", dest="starts", required=True, help="calls placed then or later (ISO 8601)"
        )
        preview.add_argument("--to", dest="ends", help="calls placed before then; default: now")
        for name in reratings.FILTERS:
            preview.add_argument(f"--{name}", default="", help=f"only calls of this {name}")
        prices = preview.add_mutually_exclusive_group()
        prices.add_argument("--prices-at", help="as though placed then (ISO 8601); default: now")
        prices.add_argument(
            "--as-placed", action="store_true", help="as when they were placed, by today's book"
        )
        preview.add_argument("--reason", required=True, help="why; it stands in the audit log")
        apply = actions.add_parser("apply", help="give the calls of previews their new cost")
        apply.add_argument("rerating", nargs="+", help="ids of previews, rrt_…")
        status = actions.add_parser("status", help="figures and progress")
        status.add_argument("rerating", nargs="*", help="ids, rrt_…; without any, the newest ones")
        status.add_argument("--tenant", help="only those of one tenant, by its slug")
        for action in (preview, apply):
            action.add_argument("--as", dest="actor", default="command:rerate", help="who decides")
        for action in (preview, apply, status):
            action.add_argument("--json", action="store_true")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            match options["action"]:
                case "preview":
                    rows = self._preview(options)
                case "apply":
                    rows = [self._apply(row, options["actor"]) for row in self._named(options["rerating"])]
                case _:
                    rows = self._status(options)
        except Invalid as error:
            raise CommandError(str(error)) from error
        except ReratingConflict as error:
            changes = "; ".join(f"{change.field}: {change.message}" for change in error.changes)
            raise CommandError(f"{error} {changes}") from error
        if options["json"]:
            shown = [{"tenant": row.tenant.slug, **ReratingOut(row).data} for row in rows]
            self.stdout.write(json.dumps(shown, default=str))
            return
        for row in rows:
            self._show(row)

    def _preview(self, options: dict[str, Any]) -> list[Rerating]:
        tenants = Tenant.objects.order_by("slug")
        if options["tenant"]:
            tenants = tenants.filter(slug=options["tenant"])
            if not tenants:
                raise CommandError(f"--tenant: there is no tenant {options['tenant']!r}")
        starts = _time(options["starts"], "--from")
        assert starts is not None
        wanted = NewRerating(
            starts_at=starts,
            ends_at=_time(options["ends"], "--to"),
            prices_at=_time(options["prices_at"], "--prices-at"),
            as_placed=options["as_placed"],
            reason=options["reason"],
            **{name: options[name] for name in reratings.FILTERS},
        )
        found = []
        for tenant in tenants.iterator():
            row = reratings.request_rerating(
                tenant_id=tenant.pk, wanted=wanted, actor=options["actor"], now=utc_now()
            )
            found.append(self._done(row))
        # Of every tenant, those that it concerns.
        return [row for row in found if not options["all_tenants"] or row.changed_calls or row.failure]

    def _apply(self, row: Rerating, actor: str) -> Rerating:
        applied = reratings.apply_rerating(
            tenant_id=row.tenant_id, rerating_id=row.pk, actor=actor, now=utc_now()
        )
        return self._done(applied)

    def _done(self, row: Rerating) -> Rerating:
        """Does the work itself, so that no worker is needed; one that is at it already is waited for."""
        until = time.monotonic() + WAIT_SECONDS
        while row.state in AT_WORK:
            if time.monotonic() > until:
                raise CommandError(f"{_id(row)} is still {row.state}: workers go on with it")
            done = reratings.work(now=utc_now(), seconds=WORK_SECONDS, rerating_id=row.pk)
            row.refresh_from_db()
            if row.state in AT_WORK and not done.seen and not done.applied:
                time.sleep(PAUSE_SECONDS)
        return row

    def _named(self, names: list[str]) -> list[Rerating]:
        return [self._row(name) for name in names]

    def _row(self, name: str) -> Rerating:
        try:
            wanted: UUID = ids.decode(ids.RERATING, name)
            row = Rerating.objects.select_related("tenant").filter(pk=wanted).first()
            if row is None:
                raise Missing(name)
        except (ids.BadId, Missing):
            raise CommandError(f"there is no re-rating {name!r}") from None
        return row

    def _status(self, options: dict[str, Any]) -> list[Rerating]:
        if options["rerating"]:
            return self._named(options["rerating"])
        rows = Rerating.objects.select_related("tenant").order_by("-created_at", "-pk")
        if options["tenant"]:
            rows = rows.filter(tenant__slug=options["tenant"])
        return list(rows[:SHOWN_MAX])

    def _show(self, row: Rerating) -> None:
        told = ReratingOut(row).data
        self.stdout.write(
            f"{told['id']} of {row.tenant.slug}: {row.state}; {row.starts_at:%Y-%m-%d %H:%M} to "
            f"{row.ends_at:%Y-%m-%d %H:%M} UTC: {row.reason}"
        )
        self.stdout.write(
            f"  {row.changed_calls} of {row.seen_calls} calls: {told['old_usd']} USD -> {told['new_usd']} USD "
            f"({told['difference_usd']}); {row.unchanged_calls} have the right cost already"
        )
        for group in told["left_out"]:
            self.stdout.write(
                f"  left out, {group['reason']}: {group['calls']} calls, {group['cost_usd']} USD"
            )
        for group in told["by_model"][:SHOWN_MAX]:
            self.stdout.write(
                f"  {group['provider']}/{group['model']}: {group['calls']} calls, {group['old_usd']} -> "
                f"{group['new_usd']} USD ({group['difference_usd']})"
            )
        for group in told["by_customer"][:SHOWN_MAX]:
            self.stdout.write(
                f"  customer {group['customer'] or '(none)'}: {group['calls']} calls, {group['old_usd']} -> "
                f"{group['new_usd']} USD ({group['difference_usd']})"
            )
        if row.applied_at is not None:
            self.stdout.write(
                f"  applied to {row.applied_calls} calls: {told['applied_usd']} USD; {row.moved_calls} had moved"
            )
        if row.failure:
            self.stdout.write(f"  {row.failure}")


def _id(row: Rerating) -> str:
    return ids.encode(ids.RERATING, row.pk)


def _time(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise CommandError(f"{name}: must be a time that names its zone, as in 2026-11-22T12:00:00Z")
    return at
