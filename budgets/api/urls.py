"""Routes of budgets, usage and the ledger in the management API, under /v1/."""

from __future__ import annotations

from django.urls import path

from budgets.api.ledger import Ledger
from budgets.api.usage import Usage

urlpatterns = [
    path("usage", Usage.as_view({"get": "ask"}), name="usage"),
    path("ledger", Ledger.as_view({"get": "list"}), name="ledger"),
    path("ledger/<str:pk>", Ledger.as_view({"get": "history"}), name="hold-history"),
]
