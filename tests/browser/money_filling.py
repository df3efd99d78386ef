"""Fills a tenant inside a running noburn: `manage.py shell` calls it there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from alerts.services.alerts import raise_alert
from alerts.services.destinations import NewDestination, create_destination, ping_destination, wire_id
from billing.domain.rate_card_reading import read_terms
from billing.models import BillingPeriod, Measurement, Reconciliation, StripeInvoice
from billing.services.rate_cards import NewVersion, append_version, assign_card, create_rate_card
from billing.services.stripe_accounts import Connection, connect
from billing.services.stripe_links import NewLink, link
from billing.services.wallets import NewGrant, create_wallet, grant_credit
from budgets.dashboard.policies import EXAMPLE
from budgets.services.budgets import NewBudget, create_budget
from budgets.services.guard_rules import NewGuard, create_guard
from budgets.services.price_overrides import NewPriceOverride, create_price_override
from budgets.services.routing import PolicyFields, create_policy, edit_policy
from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.models import Tenant
from tenants.services.customers import CustomerItem, save_customers


def fill(slug: str) -> dict[str, str]:
    """Makes things of every kind; their ids by what they are of."""
    now = utc_now()
    tenant = Tenant.objects.get(slug=slug)
    who: dict[str, Any] = {"tenant_id": tenant.pk, "actor": "user:alice", "now": now}
    earlier: dict[str, Any] = {"tenant_id": tenant.pk, "actor": "user:alice"}
    (acme, _), _ = save_customers(
        items=[CustomerItem(external_id=n, name=n.title()) for n in ("acme", "globex")], **who
    )
    create_budget(
        budget=NewBudget(name="each customer", limit="25", scope="customer", subject="*", window="month"),
        **who,
    )
    create_budget(
        budget=NewBudget(name="whole company", limit="400", scope="tenant", subject="*", window="month"),
        **who,
    )
    hour = now.replace(minute=0, second=0, microsecond=0)
    card, _ = create_rate_card(
        name="standard",
        version=NewVersion(
            terms=read_terms({"markup_percent": "20", "minimum_usd": "5"}),
            effective_from=hour - timedelta(days=40),
        ),
        now=hour - timedelta(days=40),
        **earlier,
    )
    append_version(
        card_id=card.pk,
        version=NewVersion(
            terms=read_terms({"markup_percent": "25", "minimum_usd": "5"}),
            effective_from=hour + timedelta(days=30),
            note="from the new year on",
        ),
        **who,
    )
    assign_card(
        card_id=card.pk,
        customers=None,
        effective_from=hour - timedelta(days=40),
        now=hour - timedelta(days=40),
        **earlier,
    )
    wallet = create_wallet(customer="acme", **who)
    grant_credit(
        wallet_id=wallet.pk,
        grant=NewGrant(
            kind="promotional",
            amount_nano=10_000_000_000,
            expires_at=now + timedelta(days=30),
            reason="Welcome",
        ),
        **who,
    )
    grant_credit(
        wallet_id=wallet.pk,
        grant=NewGrant(kind="paid", amount_nano=50_000_000_000, reason="Bank transfer of Monday"),
        **who,
    )
    create_wallet(customer="initech", **who)
    create_price_override(
        override=NewPriceOverride(provider="anthropic", discount_percent="12.5", note="contract of 2026"),
        **who,
    )
    made = _rules(who)
    hook = create_destination(
        destination=NewDestination(
            kind="webhook", target="https://hooks.example.com/noburn", description="on call"
        ),
        **who,
    ).destination
    create_destination(
        destination=NewDestination(
            kind="email", target="finance@example.com", alert_kinds=["threshold", "wallet_low"]
        ),
        **who,
    )
    raise_alert(
        tenant_id=tenant.pk,
        kind="threshold",
        dedupe_key="one",
        subject="acme",
        details={
            "percent": 80,
            "budget_name": "each customer",
            "scope": "customer",
            "subject": "acme",
            "spent": "20",
            "limit": "25",
            "window": "month",
            "starts_at": "2026-11-01",
        },
        now=now,
    )
    delivery = ping_destination(destination_id=hook.pk, **who)
    connect(
        connection=Connection(secret_key="rk_test_" + "a1" * 20, webhook_secrets=["whsec_" + "b2" * 12]),
        **who,
    )
    link(wanted=NewLink(customer="acme", email="billing@acme.example"), **who)
    invoice = StripeInvoice.objects.create(
        id=ids.new_uuid(now),
        tenant=tenant,
        customer=acme,
        stripe_id="in_1Qabcdefgh",
        number="ACME-0007",
        status="open",
        currency="usd",
        total=12450,
        amount_due=12450,
        amount_paid=0,
        hosted_url="https://invoice.stripe.com/i/1",
        period_starts_at=hour - timedelta(days=60),
        period_ends_at=hour - timedelta(days=30),
        created_at=now - timedelta(days=29),
        seen_at=now,
    )
    period = BillingPeriod.objects.create(
        id=ids.new_uuid(now), tenant=tenant, customer=acme, starts_at=hour - timedelta(days=30), ends_at=hour
    )
    Reconciliation.objects.create(
        id=ids.new_uuid(now),
        tenant=tenant,
        customer=acme,
        period=period,
        owed_nano=12_400_000_000,
        told_micro=12_300_000,
        delivered_micro=12_000_000,
        measured_micro=12_000_000,
        differences=[{"kind": "pending", "micro": 300_000}, {"kind": "failed", "micro": 100_000}],
        unexplained_micro=0,
        agrees=False,
        checked_at=now,
    )
    stuck = Measurement.objects.create(
        id=ids.new_uuid(now),
        tenant=tenant,
        customer=acme,
        period=period,
        kind="usage",
        window_starts_at=hour - timedelta(hours=5),
        seq=0,
        key="nb:test:" + tenant.slug,
        meter_event="noburn_usage_micro_usd",
        stripe_customer="cus_1",
        value_micro=100_000,
        at=now,
        owed_nano=100_000_000,
        created_at=now,
        state="failed",
        next_attempt_at=now,
        finished_at=now,
    )
    return {
        "tenant": ids.encode(ids.TENANT, tenant.pk),
        "card": ids.encode(ids.RATE_CARD, card.pk),
        "wallet": ids.encode(ids.WALLET, wallet.pk),
        "hook": wire_id(hook),
        "delivery": ids.encode(ids.DELIVERY, delivery.pk),
        "invoice": ids.encode(ids.INVOICE, invoice.pk),
        "stuck": ids.encode(ids.MEASUREMENT, stuck.pk),
        **made,
    }


def _rules(who: dict[str, Any]) -> dict[str, str]:
    """Guards, and a policy of two versions."""
    loops = NewGuard(kind="repeat", scope="customer", limits={"times": 10, "seconds": 60}, name="loops")
    create_guard(guard=loops, **who)
    limits = {"cost_nano": 1_000_000_000, "input_tokens": 40_000}
    large = NewGuard(kind="call", scope="tenant", limits=limits, name="size of a call", mode="enforce")
    guard = create_guard(guard=large, **who)
    policy = create_policy(policy=PolicyFields(**EXAMPLE), **who)
    edit_policy(policy_id=policy.pk, changes={"rules": EXAMPLE["rules"][:2]}, **{**who, "now": utc_now()})
    return {
        "guard": ids.encode(ids.GUARD, guard.pk),
        "policy": ids.encode(ids.POLICY, policy.pk),
    }
