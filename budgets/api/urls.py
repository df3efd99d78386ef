"""Routes of budgets, usage and the ledger in the management API, under /v1/."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from budgets.api.budgets import Budgets
from budgets.api.compare import Compare
from budgets.api.counters import Counters
from budgets.api.decisions import Decisions
from budgets.api.guards import Guards
from budgets.api.increases import Increases
from budgets.api.learned import BudgetExposure, LearnedEstimates
from budgets.api.ledger import Ledger
from budgets.api.overrides import Overrides
from budgets.api.policies import Policies
from budgets.api.price_overrides import PriceOverrides
from budgets.api.reratings import Reratings
from budgets.api.runs import OneRun, Runs
from budgets.api.usage import Usage

router = SimpleRouter(trailing_slash=False)
router.register("budgets", Budgets, basename="budget")
router.register("policies", Policies, basename="policy")
router.register("price-overrides", PriceOverrides, basename="price-override")
router.register("guards", Guards, basename="guard")
router.register("reratings", Reratings, basename="rerating")

urlpatterns = [
    *router.urls,
    path("budgets/<pk>/counters", Counters.as_view({"get": "list"}), name="counters"),
    path("budgets/<pk>/exposure", BudgetExposure.as_view({"get": "retrieve"}), name="exposure"),
    path("budgets/<pk>/overrides", Overrides.as_view({"get": "list", "put": "update"}), name="overrides"),
    path("budgets/<pk>/overrides/bulk", Overrides.as_view({"post": "bulk"}), name="overrides-bulk"),
    path("budgets/<pk>/overrides/<override>", Overrides.as_view({"delete": "destroy"}), name="override"),
    path("budgets/<pk>/increases", Increases.as_view({"get": "list", "post": "create"}), name="increases"),
    path(
        "budgets/<pk>/increases/<increase>/cancel",
        Increases.as_view({"post": "cancel"}),
        name="increase",
    ),
    path("decisions", Decisions.as_view({"get": "list"}), name="decisions"),
    path("decisions/<pk>", Decisions.as_view({"get": "retrieve"}), name="decision"),
    path("estimates", LearnedEstimates.as_view({"get": "list"}), name="estimates"),
    path("runs", Runs.as_view({"get": "list"}), name="runs"),
    path("runs/<pk>", OneRun.as_view({"get": "retrieve"}), name="run"),
    path("usage", Usage.as_view({"get": "ask"}), name="usage"),
    path("compare", Compare.as_view({"get": "ask"}), name="compare"),
    path("ledger", Ledger.as_view({"get": "list"}), name="ledger"),
    path("ledger/<pk>", Ledger.as_view({"get": "history"}), name="hold-history"),
]
