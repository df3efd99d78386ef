"""Which part of a charge a customer's wallet pays: what is left is owed over Stripe, and what is too much goes back.

A wallet is charged each call by itself, at the dearest marginal rate of the card (`wallet_charges`). Of a period so far
it pays what its calls were charged, and never more than the charge for use; docs/billing.md, "Wallets". Calls placed at
times without a card are in no charge: what a wallet was charged for them stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.domain.charging import Charge
from billing.domain.wallets import share_of
from billing.models import Wallet
from billing.queries.rate_cards import cards_of
from billing.queries.wallet_charges import burnt_as_summed, charged_in


@dataclass(frozen=True, kw_only=True, slots=True)
class WalletShare:
    """`charged_nano`: by itself, for the calls of a time; `paid_nano`: the part of their charge that it pays.

    `complete`: what of these calls is in the sums that the charge is made of is burnt, and nothing else.
    """

    charged_nano: int = 0
    paid_nano: int = 0
    complete: bool = True

    @property
    def surplus_nano(self) -> int:
        """What goes back into the wallet."""
        return self.charged_nano - self.paid_nano


NOTHING = WalletShare()


def wallet_of(*, tenant_id: UUID, customer: str) -> Wallet | None:
    """Returns the wallet of a customer by its own name, closed or not; None where there never was one."""
    return Wallet.objects.filter(tenant_id=tenant_id, customer=customer).first()


def share_of_wallet(wallet: Wallet, *, charge: Charge, starts_at: datetime, until: datetime) -> WalletShare:
    """Returns what a wallet pays of its customer's charge for [starts_at, until)."""
    share = shares_in(
        tenant_id=wallet.tenant_id, charges={wallet.customer: charge}, starts_at=starts_at, until=until
    )[wallet.customer]
    return WalletShare(
        charged_nano=share.charged_nano,
        paid_nano=share.paid_nano,
        complete=burnt_as_summed(
            tenant_id=wallet.tenant_id, wallet_id=wallet.pk, since=starts_at, until=until
        ),
    )


def share_in(
    *, tenant_id: UUID, customer: str, charge: Charge, starts_at: datetime, until: datetime
) -> WalletShare:
    """Returns what a customer's wallet pays of its charge for [starts_at, until); nothing without a wallet."""
    found = wallet_of(tenant_id=tenant_id, customer=customer)
    if found is None:
        return NOTHING
    return share_of_wallet(found, charge=charge, starts_at=starts_at, until=until)


def shares_in(
    *, tenant_id: UUID, charges: Mapping[str, Charge], starts_at: datetime, until: datetime
) -> dict[str, WalletShare]:
    """Returns what wallets pay of charges for [starts_at, until), by customer. `complete` is not looked at."""
    charged = _charged(tenant_id, sorted(charges), starts_at, until)
    return {
        name: WalletShare(charged_nano=charged[name], paid_nano=share_of(charge, charged[name]))
        if name in charged
        else NOTHING
        for name, charge in charges.items()
    }


def _charged(
    tenant_id: UUID, customers: Sequence[str], starts_at: datetime, until: datetime
) -> dict[str, int]:
    """What wallets are charged for calls at times with a card, by the customers that ever had a wallet."""
    named = list(
        Wallet.objects.filter(tenant_id=tenant_id, customer__in=customers).values_list("customer", flat=True)
    )
    if not named:
        return {}
    cards = cards_of(tenant_id=tenant_id, customers=named)
    stretches = [
        (name, span.starts_at, span.ends_at)
        for name in named
        for span in cards.spans_of(name, starts_at=starts_at, until=until)
        if span.version is not None
    ]
    return charged_in(tenant_id=tenant_id, stretches=stretches)
