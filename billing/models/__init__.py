"""Tables of billing."""

from billing.models.rate_cards import PresumedApproval, RateCard, RateCardAssignment, RateCardVersion
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
)

__all__ = [
    "Account",
    "CreditGrant",
    "CreditKind",
    "JournalLine",
    "JournalPosting",
    "PostingKind",
    "PresumedApproval",
    "RateCard",
    "RateCardAssignment",
    "RateCardVersion",
    "TopUp",
    "TopUpKind",
    "TopUpState",
    "Wallet",
    "WalletCursor",
    "WalletEntry",
    "WalletHold",
]
