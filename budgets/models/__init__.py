"""Tables of budgets. The money path's own tables are written in SQL by a migration and have no models."""

from budgets.models.budgets import (
    LIMIT_MAX,
    Budget,
    BudgetIncrease,
    BudgetOverride,
    Estimate,
    OnEpochClose,
    OnExpiry,
    PolicySnapshot,
    WalletCharges,
)
from budgets.models.figures import Figure
from budgets.models.guards import Guard
from budgets.models.learned import LearnedEstimate
from budgets.models.price_overrides import PriceOverride, PriceProposal, ProposalState
from budgets.models.prices import PriceBookVersion, PriceImport, PriceModel, PriceProvider, PriceRow
from budgets.models.reratings import Rerating, ReratingState
from budgets.models.routing import RoutingPolicy
from budgets.models.runs import Run

__all__ = [
    "LIMIT_MAX",
    "Budget",
    "BudgetIncrease",
    "BudgetOverride",
    "Estimate",
    "Figure",
    "Guard",
    "LearnedEstimate",
    "OnEpochClose",
    "OnExpiry",
    "PolicySnapshot",
    "PriceBookVersion",
    "PriceImport",
    "PriceModel",
    "PriceOverride",
    "PriceProposal",
    "PriceProvider",
    "PriceRow",
    "ProposalState",
    "Rerating",
    "ReratingState",
    "RoutingPolicy",
    "Run",
    "WalletCharges",
]
