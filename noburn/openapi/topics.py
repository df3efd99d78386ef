"""The topics by which the document groups its operations."""

from __future__ import annotations

from typing import Final

from budgets.gateway.openapi import TAGS as GATEWAY_TAGS

_BY_SEGMENT: Final = {
    "tenant": "Tenant",
    "projects": "Projects",
    "members": "Members",
    "customers": "Customers",
    "api-keys": "API keys",
    "leaked-keys": "API keys",
    "budgets": "Budgets",
    "estimates": "Budgets",
    "price-overrides": "Prices",
    "reratings": "Prices",
    "runs": "Runs",
    "guards": "Guards",
    "policies": "Policies",
    "usage": "Usage",
    "compare": "Usage",
    "ledger": "Usage",
    "decisions": "Usage",
    "rate-cards": "Billing",
    "rate-card-assignments": "Billing",
    "presumed-approvals": "Billing",
    "revenue": "Billing",
    "wallets": "Wallets",
    "audit": "Audit",
    "alerts": "Alerts",
    "alert-emails": "Alerts",
    "deliveries": "Alerts",
    "webhook-endpoints": "Alerts",
    "stripe": "Stripe",
    "stripe-links": "Stripe",
    "measurements": "Stripe",
    "invoices": "Stripe",
    "billing": "Stripe",
    "account": "Account",
    "openapi.json": "This document",
}
"""The topic of a path, by its first word after /v1/."""

DESCRIPTIONS: Final = {
    **GATEWAY_TAGS,
    "Budgets": "Limits per customer, user, project and so on; overrides for single subjects, and temporary increases.",
    "Customers": "The tenant's end customers. Those that calls name are made on their first use.",
    "Projects": "The tenant's applications.",
    "Usage": "What was spent, each entry of the ledger, and each decision with its reason.",
    "Guards": "What stops a call that no budget would: loops, bursts, calls that are too large, unknown newcomers.",
    "Policies": "Rules that choose the model of a call, or block it, before anything is held.",
    "Prices": "Negotiated prices beside the price book, and pricing settled calls again.",
    "Billing": "What customers pay for what they use: rate cards, approvals, revenue and margin.",
    "API keys": "Credentials of programs. A key's secret is shown once, when it is made.",
    "Members": "People at the tenant and their roles.",
    "Alerts": "What is told to whom, and what became of each message.",
    "Stripe": "The tenant's account at Stripe, what is told to it about customers' use, and their invoices.",
    "Wallets": "Customers' prepaid credit: grants, their journal, and payments for more. Enforced before each call.",
    "Account": "noburn's own plan of the tenant, what was used of it, and the doors to change it.",
    "Audit": "Who changed what, with what was before and after.",
    "Tenant": "The tenant itself.",
    "This document": "The document that you read.",
}
"""What each topic is about, in the order in which documentation shows them."""


def tag_of(path: str) -> str:
    """The topic of a path of the management API; the path's own word for one that nobody listed."""
    segment = path.removeprefix("/v1/").split("/")[0]
    return _BY_SEGMENT.get(segment, segment)
