"""The operators' pages of billing, registered where Django looks for them."""

from billing.admin import rate_cards as rate_cards
from billing.admin import reported as reported
from billing.admin import stripe as stripe
from billing.admin import wallets as wallets
