"""Tables of billing."""

from billing.models.invoices import CreditNote, CreditNoteReason, CreditNoteState, StripeInvoice
from billing.models.outbox import (
    ACTIVE,
    BillingPeriod,
    Measurement,
    MeasurementKind,
    MeasurementState,
    Sendable,
)
from billing.models.plans import PlanAccount, PlanCursor, PlanReport, PlanStatus
from billing.models.rate_cards import PresumedApproval, RateCard, RateCardAssignment, RateCardVersion
from billing.models.reconciliations import Reconciliation
from billing.models.reported import ReportedPayment
from billing.models.stripe_accounts import AccessMode, AccountState, StripeAccount
from billing.models.stripe_events import EventState, StripeEvent
from billing.models.stripe_links import BILLED, LinkState, StripeLink
from billing.models.wallets import (
    Account,
    CreditGrant,
    CreditKind,
    JournalLine,
    JournalPosting,
    PostingKind,
    TopUp,
    TopUpKind,
    TopUpState,
    Wallet,
    WalletCursor,
    WalletEntry,
    WalletHold,
    WalletTrueUp,
)

__all__ = [
    "ACTIVE",
    "BILLED",
    "AccessMode",
    "Account",
    "AccountState",
    "BillingPeriod",
    "CreditGrant",
    "CreditKind",
    "CreditNote",
    "CreditNoteReason",
    "CreditNoteState",
    "EventState",
    "JournalLine",
    "JournalPosting",
    "LinkState",
    "Measurement",
    "MeasurementKind",
    "MeasurementState",
    "PlanAccount",
    "PlanCursor",
    "PlanReport",
    "PlanStatus",
    "PostingKind",
    "PresumedApproval",
    "RateCard",
    "RateCardAssignment",
    "RateCardVersion",
    "Reconciliation",
    "ReportedPayment",
    "Sendable",
    "StripeAccount",
    "StripeEvent",
    "StripeInvoice",
    "StripeLink",
    "TopUp",
    "TopUpKind",
    "TopUpState",
    "Wallet",
    "WalletCursor",
    "WalletEntry",
    "WalletHold",
    "WalletTrueUp",
]
