"""The operators' pages of billing, registered where Django looks for them."""

from billing.admin import stripe as stripe
