"""The journal of wallets: the one place that writes postings, and turns what a purse says into rows.

Every posting adds up to nothing, which a trigger checks at the commit. What a grant has left and what a wallet owes are
kept on their rows and derive from the lines; `billing.services.wallet_checks` compares them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from billing.domain.wallets import Credit, Lines, Purse
from billing.models import CreditGrant, JournalLine, JournalPosting, PostingKind, Wallet
from budgets.services.wallet_limits import Fall, WalletLimit, set_limit
from noburn.kit import ids
from noburn.kit.problems import Missing


class WalletNotFound(Missing):
    """The tenant has no such wallet."""


def lock_wallet(*, tenant_id: UUID, wallet_id: UUID) -> Wallet:
    """Returns a wallet that nobody else changes until the transaction ends. Raises WalletNotFound."""
    found = Wallet.objects.select_for_update(no_key=True).filter(tenant_id=tenant_id, pk=wallet_id).first()
    if found is None:
        raise WalletNotFound(str(wallet_id))
    return found


def purse_of(wallet: Wallet, *, also: Collection[UUID] = ()) -> Purse:
    """Returns the credit of a locked wallet: what has something left, and the grants in `also`."""
    grants = CreditGrant.objects.filter(
        Q(remaining_nano__gt=0) | Q(pk__in=also), tenant_id=wallet.tenant_id, wallet_id=wallet.pk
    ).order_by("created_at", "pk")
    return Purse((credit_of(grant) for grant in grants), owed=wallet.owed_nano)


def credit_of(grant: CreditGrant) -> Credit:
    """A grant as burning sees it."""
    return Credit(
        id=grant.pk,
        kind=grant.kind,
        amount=grant.amount_nano,
        remaining=grant.remaining_nano,
        priority=grant.priority,
        expires_at=grant.expires_at,
        voided_at=grant.voided_at,
        created_at=grant.created_at,
    )


def post(
    wallet: Wallet,
    purse: Purse,
    *,
    kind: PostingKind,
    actor: str,
    now: datetime,
    note: str = "",
    calls: int = 0,
) -> JournalPosting | None:
    """Writes what happened to a purse: the posting, what each grant has left, what is owed; None if nothing did.

    The purse's lines begin anew afterwards. The wallet is locked, and its limit is to be told by `tell`.
    """
    lines = purse.lines.listed()
    purse.lines = Lines()
    if not lines:
        return None
    posting = JournalPosting.objects.create(
        id=ids.new_uuid(now),
        tenant_id=wallet.tenant_id,
        wallet_id=wallet.pk,
        kind=kind,
        note=note,
        calls=calls,
        actor=actor,
        created_at=now,
    )
    JournalLine.objects.bulk_create(
        JournalLine(
            id=ids.new_uuid(now),
            tenant_id=wallet.tenant_id,
            posting_id=posting.pk,
            wallet_id=wallet.pk,
            account=account,
            grant_id=grant,
            amount_nano=amount,
        )
        for account, grant, amount in lines
    )
    for grant in sorted({grant for _, grant, _ in lines if grant is not None}):
        CreditGrant.objects.filter(tenant_id=wallet.tenant_id, pk=grant).update(
            remaining_nano=purse.credits[grant].remaining
        )
    if wallet.owed_nano != purse.owed:
        wallet.owed_nano = purse.owed
        wallet.save(update_fields=["owed_nano"])
    return posting


def tell(wallet: Wallet, credits: Iterable[Credit], *, now: datetime) -> None:
    """Tells the escrow what is in a locked wallet, in the transaction that changed it; nothing of a closed one."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("what is in a wallet is told in the transaction that changed it")
    if wallet.closed_at is not None:
        return
    set_limit(
        tenant_id=wallet.tenant_id,
        wallets_id=wallet.wallets_id,
        customer=wallet.customer,
        limit=limit_of(wallet, list(credits), now=now),
    )


def limit_of(wallet: Wallet, credits: Sequence[Credit], *, now: datetime) -> WalletLimit:
    """Returns what new calls may be held on: credit without an end, and credit that ends, by its instant."""
    base, falls = -wallet.owed_nano, dict[datetime, int]()
    for credit in credits:
        if not credit.active(now) or not credit.remaining:
            continue
        if credit.expires_at is None:
            base += credit.remaining
        else:
            falls[credit.expires_at] = falls.get(credit.expires_at, 0) + credit.remaining
    return WalletLimit(
        base=base,
        burnt=wallet.burnt_nano,
        falls=[Fall(at=at, amount=amount) for at, amount in sorted(falls.items())],
    )
