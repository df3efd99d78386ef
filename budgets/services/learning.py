"""Learns from settled calls how large the next ones will be, for tenants that have a budget which goes by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from budgets.domain.learning import Learned, differs, learn
from budgets.models import Budget, Estimate, LearnedEstimate
from budgets.queries.bounded import TookTooLong, limited
from budgets.queries.learning import settled_samples
from budgets.services.policy import publish
from noburn.kit import ids
from tenants.services.tenants import lock_tenant

LOOK_BACK = timedelta(days=7)
"""Older calls say little of today's."""

MODELS_MAX = 200
"""The most models of a tenant that are learned: those with the most calls."""

STATEMENT_MS = 20_000


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one round did: `models` learned, and whether the policy was published anew."""

    models: int
    published: bool


def learning_tenants() -> list[UUID]:
    """The tenants with a live budget whose estimates are learned, those that were not taught for longest first."""
    live = Budget.objects.filter(archived_at__isnull=True, estimate=Estimate.LEARNED)
    wanted = set(live.values_list("tenant_id", flat=True).distinct())
    taught = dict(
        LearnedEstimate.objects.filter(tenant_id__in=wanted)
        .values_list("tenant_id")
        .annotate(last=Max("learned_at"))
    )
    return sorted(
        wanted, key=lambda tenant: (taught[tenant].timestamp() if tenant in taught else 0.0, tenant)
    )


def learn_tenant(*, tenant_id: UUID, now: datetime) -> Lesson | None:
    """Learns anew from a tenant's newest settled calls; None if the database took too long for it.

    What was learned of a model stays until there is enough to learn from again, so a quiet week forgets nothing.
    Holds change, and the policy is published, only where a percentile moved by more than 2 %.
    """
    try:
        with limited(milliseconds=STATEMENT_MS):
            samples = settled_samples(tenant_id=tenant_id, since=now - LOOK_BACK)
    except TookTooLong:
        return None
    most = sorted(samples.items(), key=lambda item: (-len(item[1]), item[0]))[:MODELS_MAX]
    found = {name: taught for name, told in most if (taught := learn(told)) is not None}
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        before = {
            (row.provider, row.model): row for row in LearnedEstimate.objects.filter(tenant_id=tenant_id)
        }
        moved = False
        for name, taught in found.items():
            row = before.get(name)
            moved |= differs(row.learned if row else None, taught)
            _save(tenant_id, name, row, taught, now)
        if moved:
            publish(tenant_id=tenant_id, now=now)
    return Lesson(models=len(found), published=moved)


def _save(
    tenant_id: UUID, name: tuple[str, str], row: LearnedEstimate | None, taught: Learned, now: datetime
) -> None:
    if row is None:
        row = LearnedEstimate(id=ids.new_uuid(now), tenant_id=tenant_id, provider=name[0], model=name[1])
    row.samples, row.learned_at = taught.samples, now
    row.input_ppm, row.output_tokens = list(taught.input_ppm), list(taught.output_tokens)
    row.save()
