"""Verifies the chains of the audit log, signs checkpoints of them, and links entries that have no link."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.domain import audit_chain as chain
from tenants.models import AuditCheckpoint, AuditEntry, AuditLink, Tenant
from tenants.services import audit, audit_files
from tenants.services.tenants import lock_tenant

log = logging.getLogger(__name__)

PAGE: Final = 1_000
FINDINGS_MAX: Final = 20
ADOPTED_MAX: Final = 500
TENANTS_MAX: Final = 10_000
STRETCH_MAX: Final = 5_000
"""How much of a chain one checkpoint adds at most; a longer rest is signed by the next one."""


class Kind(StrEnum):
    """What is wrong with an entry, or with the chain behind it."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    FORGED = "forged"
    CUT = "cut"
    UNKNOWN_KEY = "unknown_key"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong; `sequence` is 0 for an entry that has no place."""

    sequence: int
    entry: str
    kind: Kind
    detail: str


@dataclass(kw_only=True)
class Report:
    """What was found in one tenant's chain, the first bad entry first; `findings` holds at most FINDINGS_MAX."""

    tenant_id: UUID
    entries: int = 0
    checkpoints: int = 0
    head: str = ""
    findings: list[Finding] = field(default_factory=list)

    def sorted_findings(self) -> list[Finding]:
        """The findings in the order of the chain; those without a place come last."""
        return sorted(self.findings, key=lambda finding: finding.sequence or 2**62)

    def add(self, sequence: int, entry: UUID | None, kind: Kind, detail: str) -> None:
        """Keeps a finding, unless there are enough."""
        if len(self.findings) < FINDINGS_MAX:
            named = ids.encode(ids.AUDIT_ENTRY, entry) if entry else ""
            self.findings.append(Finding(sequence=sequence, entry=named, kind=kind, detail=detail))


def verify(*, tenant_id: UUID) -> Report:
    """Recomputes a tenant's chain and compares it with its checkpoints in the database.

    Reads in pages while everything goes on; what is written meanwhile may or may not be looked at.
    """
    report = Report(tenant_id=tenant_id)
    _Walk(report).walk(after=0, previous=chain.ROOT, until=None)
    for entry in _unlinked(tenant_id)[:FINDINGS_MAX]:
        report.add(0, entry.pk, Kind.INSERTED, "has no place in the chain: it was not written by noburn")
    _compare(report, _stored_checkpoints(tenant_id))
    return report


def compare(
    *, reports: dict[UUID, Report], checkpoints: Iterable[audit_files.Kept], all_tenants: bool
) -> None:
    """Compares the chains of `reports` with checkpoints that were kept apart, in one pass, and adds what is wrong.

    With `all_tenants` a checkpoint of a tenant that is in no report is a tenant that is gone.
    """
    for page in _pages(checkpoints):
        by_tenant: dict[UUID, list[audit_files.Kept]] = {}
        for kept in page:
            by_tenant.setdefault(kept.point.tenant_id, []).append(kept)
        for tenant_id, theirs in by_tenant.items():
            if all_tenants:
                reports.setdefault(tenant_id, Report(tenant_id=tenant_id))
            if tenant_id in reports:
                _compare(reports[tenant_id], theirs)


class _Walk:
    """Goes along a chain and recomputes it."""

    def __init__(self, report: Report) -> None:
        self.report = report
        # Links whose key is unknown are vouched for by a later link that is signed with a known one.
        self.unvouched: AuditLink | None = None

    def walk(self, *, after: int, previous: bytes, until: int | None) -> bytes:
        """Looks at the links after one place, up to `until` or the end; returns the last hash."""
        while page := self._page(after, until):
            entries = AuditEntry.objects.filter(
                tenant_id=self.report.tenant_id, pk__in=[link.pk for link in page]
            ).in_bulk()
            for link in page:
                self._look(link, entries.get(link.pk), after, previous)
                after, previous = link.sequence, bytes(link.hash)
            self.report.entries = after
        self.report.head = previous.hex()
        if self.unvouched is not None:
            self.report.add(
                self.unvouched.sequence,
                self.unvouched.pk,
                Kind.UNKNOWN_KEY,
                f"is signed with the key {self.unvouched.kid!r}, which noburn does not have, and so is all after it",
            )
        return previous

    def _page(self, after: int, until: int | None) -> list[AuditLink]:
        links = AuditLink.objects.filter(tenant_id=self.report.tenant_id, sequence__gt=after)
        if until is not None:
            links = links.filter(sequence__lte=until)
        return list(links.order_by("sequence")[:PAGE])

    def _look(self, link: AuditLink, entry: AuditEntry | None, after: int, previous: bytes) -> None:
        if link.sequence != after + 1:
            self.report.add(
                after + 1,
                None,
                Kind.REMOVED,
                f"entries {after + 1} to {link.sequence - 1} of the chain are gone",
            )
        if entry is None:
            self.report.add(link.sequence, link.pk, Kind.REMOVED, "the entry is gone; its place is left")
        elif link.sequence == after + 1:
            expected = chain.link_hash(
                previous=previous, sequence=link.sequence, content=audit.content(entry)
            )
            if expected != bytes(link.hash):
                self.report.add(
                    link.sequence, link.pk, Kind.ALTERED, "is not what was written, or not at its place"
                )
        key = settings.NOBURN_SIGNING_KEYS.get(link.kid)
        if key is None:
            self.unvouched = self.unvouched or link
        elif chain.is_signature(bytes(link.signature), chain.sign_link(key, bytes(link.hash))):
            self.unvouched = None
        else:
            self.report.add(
                link.sequence,
                link.pk,
                Kind.FORGED,
                "its place was not signed by noburn: the chain is rewritten",
            )


def _unlinked(tenant_id: UUID) -> QuerySet[AuditEntry]:
    linked = AuditLink.objects.filter(tenant_id=tenant_id, pk=OuterRef("pk"))
    return AuditEntry.objects.filter(~Exists(linked), tenant_id=tenant_id).order_by("at", "pk")


def _stored_checkpoints(tenant_id: UUID) -> Iterator[audit_files.Kept]:
    after = 0
    while page := list(
        AuditCheckpoint.objects.filter(tenant_id=tenant_id, sequence__gt=after).order_by("sequence")[:PAGE]
    ):
        yield from map(kept_of, page)
        after = page[-1].sequence


def kept_of(row: AuditCheckpoint) -> audit_files.Kept:
    """Returns a stored checkpoint as it is kept outside of the database."""
    return audit_files.Kept(
        point=chain.Point(tenant_id=row.tenant_id, sequence=row.sequence, hash=bytes(row.hash)),
        made_at=row.made_at,
        kid=row.kid,
        signature=bytes(row.signature),
    )


def _compare(report: Report, checkpoints: Iterable[audit_files.Kept]) -> None:
    for page in _pages(checkpoints):
        links = {
            link.sequence: link
            for link in AuditLink.objects.filter(
                tenant_id=report.tenant_id, sequence__in=[kept.point.sequence for kept in page]
            )
        }
        for kept in page:
            report.checkpoints += 1
            link, sequence = links.get(kept.point.sequence), kept.point.sequence
            key = settings.NOBURN_SIGNING_KEYS.get(kept.kid)
            expected = chain.sign_checkpoint(key, kept.point, kept.made_at) if key else None
            if expected is not None and not chain.is_signature(kept.signature, expected):
                report.add(
                    sequence, None, Kind.FORGED, f"the checkpoint of {kept.made_at} was not signed by noburn"
                )
            elif link is None:
                report.add(
                    sequence, None, Kind.CUT, f"was there at the checkpoint of {kept.made_at}, and is gone"
                )
            elif bytes(link.hash) != kept.point.hash:
                report.add(
                    sequence,
                    link.pk,
                    Kind.FORGED,
                    f"the chain was another at the checkpoint of {kept.made_at}",
                )


def _pages(checkpoints: Iterable[audit_files.Kept]) -> Iterator[list[audit_files.Kept]]:
    rest = iter(checkpoints)
    while page := list(islice(rest, PAGE)):
        yield page


def make_checkpoints(*, now: datetime) -> int:
    """Signs the chains that have grown since their last checkpoint, and returns how many were signed.

    What is new of a chain is verified first. A chain that is not as it was written is not signed any more, and says
    so in the log as an error, every time. Copies go to AUDIT_CHECKPOINTS_DIR.
    """
    mine = OuterRef("pk")
    head = AuditLink.objects.filter(tenant_id=mine).order_by("-sequence").values("sequence")[:1]
    signed = AuditCheckpoint.objects.filter(tenant_id=mine).order_by("-sequence").values("sequence")[:1]
    # Shorter than its checkpoint is wrong, and is said again until somebody looks.
    moved = Q(head__gt=F("signed")) | Q(head__lt=F("signed"))
    moved |= Q(head__isnull=False, signed=None) | Q(head=None, signed__isnull=False)
    ends = Tenant.objects.annotate(head=Subquery(head), signed=Subquery(signed))
    wanted = ends.filter(moved).order_by("pk")
    made = []
    for tenant_id in wanted.values_list("pk", flat=True)[:TENANTS_MAX]:
        checkpoint = make_checkpoint(tenant_id=tenant_id, now=now)
        if checkpoint is not None:
            made.append(kept_of(checkpoint))
    try:
        audit_files.append(settings.AUDIT_CHECKPOINTS_DIR, made, now=now)
    except OSError as error:
        log.error("checkpoints of the audit log lie in the database alone: %s", error)
    return len(made)


def make_checkpoint(*, tenant_id: UUID, now: datetime) -> AuditCheckpoint | None:
    """Verifies what a chain has got since its last checkpoint, at most STRETCH_MAX entries, and signs it.

    Returns None where nothing is new or another worker signed it, and, with an error in the log, where something is
    wrong.
    """
    last = AuditCheckpoint.objects.filter(tenant_id=tenant_id).order_by("-sequence").first()
    report = Report(tenant_id=tenant_id)
    after, previous = 0, chain.ROOT
    if last is not None:
        after, previous = last.sequence, bytes(last.hash)
        _compare(report, [kept_of(last)])
    report.entries = after
    reached = _Walk(report).walk(after=after, previous=previous, until=after + STRETCH_MAX)
    if report.findings:
        first = report.findings[0]
        log.error(
            "the audit log of tenant %s is not as it was written: place %s %s %s: manage.py audit verify",
            ids.encode(ids.TENANT, tenant_id),
            first.sequence,
            first.entry,
            first.detail,
        )
        return None
    if report.entries == after:
        return None
    kid = settings.NOBURN_SIGNING_KID
    point = chain.Point(tenant_id=tenant_id, sequence=report.entries, hash=reached)
    row = AuditCheckpoint(
        id=ids.new_uuid(now),
        tenant_id=tenant_id,
        sequence=point.sequence,
        hash=point.hash,
        kid=kid,
        signature=chain.sign_checkpoint(settings.NOBURN_SIGNING_KEYS[kid], point, now),
        made_at=now,
    )
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        if AuditCheckpoint.objects.filter(tenant_id=tenant_id, sequence__gte=point.sequence).exists():
            return None
        row.save(force_insert=True)
    return row


def stored(*, tenant_id: UUID | None) -> Iterator[audit_files.Kept]:
    """Yields the checkpoints in the database, of one tenant or of all, tenant by tenant."""
    tenants = Tenant.objects.order_by("pk").values_list("pk", flat=True)
    for one in [tenant_id] if tenant_id else tenants.iterator():
        yield from _stored_checkpoints(one)


def adopt(*, tenant_id: UUID, actor: str, reason: str, now: datetime) -> int:
    """Links entries that have no link, oldest first, at most ADOPTED_MAX; returns how many.

    A person vouches for them by name: `reason` and their ids become an entry of their own. Meant for entries that an
    older version wrote during an upgrade. Raises Invalid.
    """
    if not 1 <= len(reason.strip()) <= 200:
        raise Invalid([FieldError("reason", "must be 1 to 200 characters")])
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        entries = list(_unlinked(tenant_id)[:ADOPTED_MAX])
        if entries:
            audit.link(tenant_id=tenant_id, entries=entries)
            audit.record(
                tenant_id=tenant_id,
                actor=actor,
                action="audit.adopt",
                object=ids.encode(ids.TENANT, tenant_id),
                after={
                    "reason": reason.strip(),
                    "entries": [ids.encode(ids.AUDIT_ENTRY, entry.pk) for entry in entries],
                },
                now=now,
            )
    return len(entries)
