"""Credit notes: asked for over the API, bounded by their invoice, issued at Stripe by workers, each once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from billing.domain.pushing import backoff_seconds, may_repeat
from billing.domain.sink import SinkBusy, SinkError, SinkUnavailable
from billing.models import (
    AccountState,
    CreditNote,
    CreditNoteReason,
    CreditNoteState,
    StripeAccount,
    StripeInvoice,
)
from billing.services import hints
from billing.services.steps import reached
from billing.services.stripe_access import NoPlatformKey, access_of, connected_account
from billing.stripe.invoices import create_credit_note
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from noburn.kit.sealing import Unreadable
from tenants.services import audit
from tenants.services.tenants import lock_tenant

LEASE: Final = timedelta(minutes=5)
MEMO_CHARACTERS_MAX: Final = 300
NOTES_MAX: Final = 100
_chance = random.SystemRandom().random


class InvalidCreditNote(Invalid):
    """A credit note that breaks rules."""


class InvoiceNotFound(Missing):
    """The tenant has no such invoice."""


@dataclass(frozen=True, kw_only=True)
class NewCreditNote:
    """So much, in the smallest unit of the invoice's currency, to be given back; of a paid invoice to the customer's
    balance, or with `refund` to where it was paid from."""

    amount: int
    reason: str
    memo: str = ""
    refund: bool = False


def credit(
    *, tenant_id: UUID, invoice_id: UUID, wanted: NewCreditNote, actor: str, now: datetime
) -> CreditNote:
    """Notes a credit note, which workers issue. Raises InvoiceNotFound, NotConnected, InvalidCreditNote."""
    errors = []
    if wanted.reason not in CreditNoteReason.values:
        errors.append(FieldError("reason", f"must be one of {', '.join(CreditNoteReason.values)}"))
    if len(wanted.memo) > MEMO_CHARACTERS_MAX or not (wanted.memo + " ").isprintable():
        errors.append(FieldError("memo", f"must be at most {MEMO_CHARACTERS_MAX} printable characters"))
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        connected_account(tenant_id=tenant_id)
        invoice = StripeInvoice.objects.filter(tenant_id=tenant_id, pk=invoice_id).first()
        if invoice is None:
            raise InvoiceNotFound(str(invoice_id))
        if invoice.status not in ("open", "paid"):
            errors.append(
                FieldError("invoice", f"is {invoice.status}: only open and paid ones can be credited")
            )
        if wanted.refund and invoice.status != "paid":
            errors.append(FieldError("refund", "is for what was paid; an open invoice is reduced"))
        notes = CreditNote.objects.filter(invoice=invoice)
        if notes.count() >= NOTES_MAX:
            errors.append(FieldError("invoice", f"has {NOTES_MAX} credit notes already"))
        left = _creditable(invoice)
        if not 1 <= wanted.amount <= left:
            errors.append(
                FieldError("amount", f"must be 1 to {left}, in the smallest unit of {invoice.currency}")
            )
        if errors:
            raise InvalidCreditNote(errors)
        row = CreditNote.objects.create(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            invoice=invoice,
            amount=wanted.amount,
            reason=wanted.reason,
            memo=wanted.memo,
            refund=wanted.refund,
            next_attempt_at=now,
            created_by=actor,
            created_at=now,
        )
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="credit_note.create",
            object=ids.encode(ids.CREDIT_NOTE, row.pk),
            after={
                "invoice": ids.encode(ids.INVOICE, invoice.pk),
                "amount": row.amount,
                "currency": invoice.currency,
                "reason": row.reason,
                "refund": row.refund,
            },
            now=now,
        )
        hints.ask_for(hints.SET_UP)
    return row


def _creditable(invoice: StripeInvoice) -> int:
    """What is left of an invoice: its total, or what is due of an open one, less what waits or was given back."""
    given = CreditNote.objects.filter(invoice=invoice).exclude(state=CreditNoteState.FAILED)
    total = int(given.aggregate(total=Sum("amount"))["total"] or 0)
    return max(0, invoice.total - total)


def issue_due(*, now: datetime, chance: Callable[[], float] = _chance) -> int:
    """Issues one credit note that waits; returns how many there were, 0 or 1."""
    ready = StripeAccount.objects.filter(state=AccountState.READY).values("tenant_id")
    with transaction.atomic():
        row = (
            CreditNote.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(state=CreditNoteState.PENDING, next_attempt_at__lte=now, tenant_id__in=ready)
            .order_by("next_attempt_at", "pk")
            .first()
        )
        if row is None:
            return 0
        if not may_repeat(first_sent_at=row.first_sent_at, now=now):
            problem = "Stripe gave no clear answer in a day: look there whether it was issued"
            _pending(row).update(state=CreditNoteState.FAILED, problem=problem)
            return 1
        row.first_sent_at = row.first_sent_at or now
        row.next_attempt_at = now + LEASE
        row.tries += 1
        row.save(update_fields=["first_sent_at", "next_attempt_at", "tries"])
    _issue(row, now, chance())
    return 1


def _pending(row: CreditNote) -> Any:
    return CreditNote.objects.filter(pk=row.pk, state=CreditNoteState.PENDING)


def _issue(row: CreditNote, now: datetime, chance: float) -> None:
    invoice = StripeInvoice.objects.get(pk=row.invoice_id)
    try:
        account = connected_account(tenant_id=row.tenant_id)
        issued = create_credit_note(
            access_of(account),
            invoice=invoice.stripe_id,
            paid=invoice.status == "paid",
            amount=row.amount,
            refund=row.refund,
            reason=row.reason,
            memo=row.memo,
            key=f"nb:credit:{row.pk}",
        )
    except (SinkUnavailable, SinkBusy) as error:
        again_at = now + timedelta(seconds=backoff_seconds(tries=row.tries, chance=chance))
        _pending(row).update(next_attempt_at=again_at, problem=str(error)[:300])
        return
    except (SinkError, NoPlatformKey, Unreadable, Missing) as error:
        _pending(row).update(state=CreditNoteState.FAILED, problem=str(error)[:300])
        return
    reached("credit note issued")
    _pending(row).update(state=CreditNoteState.ISSUED, stripe_id=issued.id, number=issued.number, problem="")
