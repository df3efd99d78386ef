"""Pages of the dashboard that show alerts."""

from __future__ import annotations

from django.urls import URLPattern, path

from alerts.dashboard.alerts import Alerts
from alerts.dashboard.deliveries import Deliveries, OneDelivery
from alerts.dashboard.destinations import (
    Destinations,
    NewDestinationPage,
    OneDestination,
    PingDestination,
    RemoveDestination,
    RotateSecret,
)

urlpatterns: list[URLPattern] = [
    path("alerts", Alerts.as_view(), name="alerts"),
    path("alerts/destinations", Destinations.as_view(), name="destinations"),
    path("alerts/destinations/new", NewDestinationPage.as_view(), name="destination-new"),
    path("alerts/destinations/<str:whe>", OneDestination.as_view(), name="destination"),
    path("alerts/destinations/<str:whe>/ping", PingDestination.as_view(), name="destination-ping"),
    path("alerts/destinations/<str:whe>/rotate", RotateSecret.as_view(), name="destination-rotate"),
    path("alerts/destinations/<str:whe>/remove", RemoveDestination.as_view(), name="destination-remove"),
    path("alerts/deliveries", Deliveries.as_view(), name="deliveries"),
    path("alerts/deliveries/<str:dlv>", OneDelivery.as_view(), name="delivery"),
]
