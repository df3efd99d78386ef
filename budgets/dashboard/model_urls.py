"""Pages of the dashboard about models and their prices, and the thresholds of budgets."""

from __future__ import annotations

from django.urls import URLPattern, path

from budgets.dashboard.comparison import CompareModels
from budgets.dashboard.negotiated import EndNegotiated, Negotiated, NewNegotiated
from budgets.dashboard.prices import OneModel, Prices
from budgets.dashboard.thresholds import EditThresholds, Thresholds
from budgets.dashboard.unknown import UnknownModelsPage, UnknownPolicy

urlpatterns: list[URLPattern] = [
    path("models", Prices.as_view(), name="models"),
    path("models/one", OneModel.as_view(), name="model"),
    path("models/compare", CompareModels.as_view(), name="model-compare"),
    path("models/negotiated", Negotiated.as_view(), name="price-overrides"),
    path("models/negotiated/new", NewNegotiated.as_view(), name="price-override-new"),
    path("models/negotiated/<str:pov>/end", EndNegotiated.as_view(), name="price-override-end"),
    path("models/unknown", UnknownModelsPage.as_view(), name="models-unknown"),
    path("models/unknown/policy", UnknownPolicy.as_view(), name="models-unknown-policy"),
    path("alerts/thresholds", Thresholds.as_view(), name="alert-thresholds"),
    path("alerts/thresholds/<str:bud>", EditThresholds.as_view(), name="alert-threshold"),
]
