"""Compiles a tenant's policy in the transaction of each edit, and tells when a new version is in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.dispatch import Signal

from budgets.domain import charging, routing, routing_rules
from budgets.domain.policy import (
    Action,
    BudgetRule,
    GuardKind,
    GuardRule,
    KeyRecord,
    LearnedRule,
    Metric,
    Policy,
    PriceOverrideRule,
    Scope,
    WalletRule,
    WindowKind,
    encode,
)
from budgets.models import (
    Budget,
    Estimate,
    Guard,
    LearnedEstimate,
    OnExpiry,
    PolicySnapshot,
    PriceOverride,
    RoutingPolicy,
    WalletCharges,
)
from budgets.models.guards import GuardMode
from noburn.kit.money import rate_to_pico
from tenants.models import ApiKey, Customer, Project, Tenant
from tenants.services.tenants import TenantNotFound, lock_tenant

MEMORY = timedelta(days=400)
"""For how long an ended key or negotiated price stays in the policy: as long as an authorization may be settled."""

policy_published = Signal()
"""Sent after the commit of an edit: `tenant_id` (UUID), `version` (int).

A receiver that fails is logged and does not undo the edit: gateways also poll for newer versions.
"""


def compile_policy(*, tenant_id: UUID, version: int, now: datetime) -> Policy:
    """Returns the tenant's policy as the database has it in this transaction. Raises TenantNotFound."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        raise TenantNotFound(str(tenant_id))
    projects = dict(
        Project.objects.filter(tenant_id=tenant_id).order_by("slug", "pk").values_list("pk", "slug")
    )
    remembered = now - MEMORY
    keys = (
        ApiKey.objects.filter(tenant_id=tenant_id)
        .filter(Q(revoked_at__isnull=True) | Q(revoked_at__gt=remembered))
        .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=remembered))
        .order_by("pk")
    )
    suspended = Customer.objects.filter(tenant_id=tenant_id, suspended_at__isnull=False)
    budgets = Budget.objects.filter(tenant_id=tenant_id, archived_at__isnull=True)
    return Policy(
        tenant_id=tenant_id,
        version=version,
        suspended=tenant.suspended_at is not None,
        time_zone=tenant.time_zone,
        default_max_output_tokens=tenant.default_max_output_tokens,
        unknown_model=tenant.unknown_model,
        keys=tuple(
            KeyRecord(
                key_id=key.pk,
                digest=bytes(key.digest),
                project=projects[key.project_id] if key.project_id else "",
                scopes=tuple(key.scopes),
                expires_at=key.expires_at,
                revoked_at=key.revoked_at,
            )
            for key in keys
        ),
        projects=tuple(projects.values()),
        suspended_customers=frozenset(suspended.values_list("external_id", flat=True)),
        budgets=tuple(_rule(budget) for budget in budgets.order_by("created_at", "pk")),
        price_overrides=price_rules(tenant_id=tenant_id, since=remembered),
        learned=_learned(tenant_id, budgets.filter(estimate=Estimate.LEARNED).exists()),
        wallet=_wallet(tenant_id),
        refused_until=tenant.calls_refused_until,
        guards=_guards(tenant_id),
        project_ids=tuple(projects),
        routing=routing_of(tenant_id=tenant_id),
        calls_per_second=tenant.calls_per_second,
    )


def routing_of(*, tenant_id: UUID) -> tuple[routing.RoutingPolicy, ...]:
    """A tenant's policies as gateways have them, in their order."""
    live = RoutingPolicy.objects.filter(tenant_id=tenant_id, archived_at__isnull=True, enabled=True)
    return tuple(
        routing_rules.compiled(policy_id=row.pk, rules=row.rules, tiers=row.tiers, time_zone=row.time_zone)
        for row in live.order_by("position", "created_at", "pk")
    )


def _guards(tenant_id: UUID) -> tuple[GuardRule, ...]:
    """A tenant's guards; those that stop calls come first, so that a refusal names one of them."""
    rows = Guard.objects.filter(tenant_id=tenant_id, archived_at__isnull=True).order_by("created_at", "pk")
    rules = [
        GuardRule(
            guard_id=row.pk,
            name=row.name,
            kind=GuardKind(row.kind),
            enforce=row.mode == GuardMode.ENFORCE,
            scope=Scope(row.scope),
            subject=row.subject,
            limits=dict(row.limits),
        )
        for row in rows
    ]
    return tuple(sorted(rules, key=lambda rule: not rule.enforce))


def _wallet(tenant_id: UUID) -> WalletRule | None:
    """The rule over a tenant's wallets, if it ever made one."""
    budget = Budget.with_wallets.filter(
        tenant_id=tenant_id, scope=Scope.WALLET, archived_at__isnull=True
    ).first()
    if budget is None:
        return None
    written = WalletCharges.objects.filter(pk=tenant_id).first()
    rules = charging.decode(bytes(written.body)) if written is not None else charging.ChargeRules()
    return WalletRule(budget_id=budget.pk, version=budget.version, charges=rules)


def _learned(tenant_id: UUID, wanted: bool) -> tuple[LearnedRule, ...]:
    """What calls taught, for a tenant with a budget that goes by it."""
    if not wanted:
        return ()
    rows = LearnedEstimate.objects.filter(tenant_id=tenant_id).order_by("provider", "model", "pk")
    return tuple(LearnedRule(row.provider, row.model, *row.learned.used) for row in rows)


def _rule(budget: Budget) -> BudgetRule:
    return BudgetRule(
        budget_id=budget.pk,
        version=budget.version,
        scope=Scope(budget.scope),
        subject=budget.subject,
        tag=budget.tag,
        metric=Metric(budget.metric),
        window=WindowKind(budget.window),
        anchor_day=budget.anchor_day,
        limit=budget.limit,
        action=Action.BLOCK if budget.action == Action.DOWNGRADE else Action(budget.action),
        time_zone=budget.time_zone,
        release_on_expiry=budget.on_expiry == OnExpiry.RELEASE,
        learned=budget.estimate == Estimate.LEARNED,
        plan=budget.plan,
        upgrade_to=budget.upgrade_to,
        downgrade_to=budget.downgrade_model or "",
    )


def price_rules(*, tenant_id: UUID, since: datetime) -> tuple[PriceOverrideRule, ...]:
    """Returns a tenant's negotiated prices that had not ended by a time, as gateways have them."""
    lasting = PriceOverride.objects.filter(tenant_id=tenant_id).filter(
        Q(effective_to__isnull=True) | Q(effective_to__gt=since)
    )
    return tuple(_price_rule(override) for override in lasting.order_by("created_at", "pk"))


def _price_rule(override: PriceOverride) -> PriceOverrideRule:
    discount = override.discount_percent
    return PriceOverrideRule(
        override_id=override.pk,
        provider=override.provider,
        model=override.model,
        # Four places of a percentage are millionths of the whole.
        kept_ppm=None if discount is None else int((100 - discount) * 10_000),
        prices=tuple(
            (row["variant"], row["unit"], row["tier_start"], rate_to_pico(row["price"], field="price"))
            for row in override.prices or ()
        ),
        effective_from=override.effective_from,
        effective_to=override.effective_to,
    )


_gathering: ContextVar[Mapping[UUID, list[datetime]]] = ContextVar(
    "publications that wait", default=MappingProxyType({})
)


@contextmanager
def one_publication(*, tenant_id: UUID, now: datetime) -> Iterator[None]:
    """Makes many changes of a tenant one transaction with one publication, at its end if anything asked for one.

    Inside, `publish` of this tenant only remembers; another `one_publication` of it joins this one. An exception
    undoes every change. Raises TenantNotFound.
    """
    gathering = _gathering.get()
    if tenant_id in gathering:
        yield
        return
    wanted: list[datetime] = []
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        token = _gathering.set({**gathering, tenant_id: wanted})
        try:
            yield
        finally:
            _gathering.reset(token)
        if wanted:
            publish(tenant_id=tenant_id, now=now)


def publish(*, tenant_id: UUID, now: datetime) -> None:
    """Compiles and stores the next version of a tenant's policy, in the edit's transaction if there is one.

    Sends `policy_published` once that transaction has committed. Within `one_publication` this is done once, at its
    end. Raises TenantNotFound.
    """
    if (wanted := _gathering.get().get(tenant_id)) is not None:
        wanted.append(now)
        return
    with transaction.atomic():
        # Before the snapshot's row, as every edit does: two edits can then not wait for each other.
        lock_tenant(tenant_id=tenant_id)
        snapshot = PolicySnapshot.objects.select_for_update().filter(pk=tenant_id).first()
        version = 1 if snapshot is None else snapshot.version + 1
        policy = compile_policy(tenant_id=tenant_id, version=version, now=now)
        PolicySnapshot.objects.update_or_create(
            tenant_id=tenant_id, defaults={"version": version, "body": encode(policy), "compiled_at": now}
        )
        transaction.on_commit(
            partial(policy_published.send_robust, sender=Policy, tenant_id=tenant_id, version=version)
        )


def on_policy_changed(*, tenant_id: UUID, now: datetime, **_: Any) -> None:
    """Receives tenancy's `policy_changed`."""
    publish(tenant_id=tenant_id, now=now)
