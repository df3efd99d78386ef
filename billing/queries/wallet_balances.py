"""What is in wallets: the credit that new calls may use, before what is in flight or not burnt yet."""

from __future__ import annotations

from typing import Final

from django.db.models import BigIntegerField, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce, Now

from billing.models import CreditGrant, Wallet

ACTIVE: Final = Q(voided_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=Now()))
"""Grants that pay for new calls."""


def with_balance(wallets: QuerySet[Wallet]) -> QuerySet[Wallet]:
    """Wallets with `credit_nano`: what new calls may use of their credit."""
    credit = (
        CreditGrant.objects.filter(ACTIVE, wallet_id=OuterRef("pk"), remaining_nano__gt=0)
        .order_by()
        .values("wallet_id")
        .annotate(total=Sum("remaining_nano"))
        .values("total")
    )
    nothing = Value(0, output_field=BigIntegerField())
    return wallets.annotate(credit_nano=Coalesce(Subquery(credit, output_field=BigIntegerField()), nothing))
