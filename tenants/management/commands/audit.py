"""`manage.py audit verify|checkpoint|export|adopt`: whether the audit log is as it was written."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.problems import Invalid
from tenants.management.asked import tenant_asked
from tenants.models import Tenant
from tenants.services import audit_chain, audit_files


class Command(BaseCommand):
    help = "The chain of the audit log: verifying it, signing and exporting checkpoints, linking what has no link."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        verify = actions.add_parser(
            "verify",
            help="recompute the chains; exit 1 and the first bad entry where one is not as it was written",
        )
        verify.add_argument(
            "--checkpoints",
            action="append",
            type=Path,
            metavar="FILE",
            help="checkpoints that were kept elsewhere; may be repeated. Those in AUDIT_CHECKPOINTS_DIR are always read",
        )
        verify.add_argument("--json", action="store_true")
        actions.add_parser("checkpoint", help="verify what is new and sign it, now")
        export = actions.add_parser(
            "export", help="write the checkpoints to the standard output, to keep elsewhere"
        )
        adopt = actions.add_parser("adopt", help="link entries that an older version wrote during an upgrade")
        for action in (verify, export, adopt):
            action.add_argument(
                "--tenant", required=action is adopt, help="one tenant's slug; all without it"
            )
        adopt.add_argument("--actor", required=True, help="who vouches for them")
        adopt.add_argument("--reason", required=True)

    def handle(self, *_args: Any, **options: Any) -> None:
        tenant = tenant_asked(options["tenant"]) if options.get("tenant") else None
        match options["action"]:
            case "verify":
                self._verify(tenant, options["checkpoints"] or [], as_json=options["json"])
            case "checkpoint":
                made = audit_chain.make_checkpoints(now=utc_now())
                self.stdout.write(f"{made} chains signed; copies lie in {settings.AUDIT_CHECKPOINTS_DIR}")
            case "export":
                for kept in audit_chain.stored(tenant_id=tenant.pk if tenant else None):
                    self.stdout.write(kept.line())
            case "adopt" if tenant:
                self._adopt(tenant.pk, options["actor"], options["reason"])

    def _verify(self, tenant: Tenant | None, files: list[Path], *, as_json: bool) -> None:
        slugs = {
            one.pk: one.slug for one in ([tenant] if tenant else Tenant.objects.order_by("pk").iterator())
        }
        reports = {pk: audit_chain.verify(tenant_id=pk) for pk in slugs}
        kept = [*files, *audit_files.files_in(settings.AUDIT_CHECKPOINTS_DIR)]
        try:
            audit_chain.compare(
                reports=reports,
                checkpoints=chain.from_iterable(audit_files.read(path) for path in kept),
                all_tenants=tenant is None,
            )
        except (OSError, audit_files.BadCheckpoint) as error:
            raise CommandError(str(error)) from error
        wrong = [report for report in reports.values() if report.findings]
        for report in wrong if not as_json else ():
            slug = slugs.get(report.tenant_id, ids.encode(ids.TENANT, report.tenant_id))
            for finding in report.sorted_findings():
                place = f"place {finding.sequence}" if finding.sequence else "no place"
                self.stdout.write(f"{slug} {place} {finding.entry} {finding.kind}: {finding.detail}")
        if as_json:
            shown = [{"tenant": slugs.get(pk), **asdict(report)} for pk, report in reports.items()]
            self.stdout.write(json.dumps(shown, default=str))
        else:
            entries = sum(report.entries for report in reports.values())
            checkpoints = sum(report.checkpoints for report in reports.values())
            self.stdout.write(
                f"{len(reports)} chains, {entries} entries, {checkpoints} checkpoints: "
                f"{len(wrong)} chains are not as they were written"
            )
        if wrong:
            sys.exit(1)

    def _adopt(self, tenant_id: UUID, actor: str, reason: str) -> None:
        try:
            linked = audit_chain.adopt(
                tenant_id=tenant_id, actor=f"command:audit {actor}"[:200], reason=reason, now=utc_now()
            )
        except Invalid as bad:
            raise CommandError(str(bad)) from bad
        self.stdout.write(f"{linked} entries linked")
