"""Tables of billing."""

from billing.models.rate_cards import PresumedApproval, RateCard, RateCardAssignment, RateCardVersion

__all__ = ["PresumedApproval", "RateCard", "RateCardAssignment", "RateCardVersion"]
