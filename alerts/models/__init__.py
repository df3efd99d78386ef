"""Tables of alerts: what happened, who wants to hear of it, and what became of telling them."""

from alerts.models.alerts import Alert
from alerts.models.deliveries import Attempt, Delivery, DeliveryState
from alerts.models.destinations import Destination, DestinationKind, DisabledBecause

__all__ = [
    "Alert",
    "Attempt",
    "Delivery",
    "DeliveryState",
    "Destination",
    "DestinationKind",
    "DisabledBecause",
]
