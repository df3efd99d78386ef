"""Pages of the dashboard about budgets, usage, the ledger and decisions."""

from __future__ import annotations

from django.urls import URLPattern, path

from budgets.dashboard.budget import BudgetArchive, BudgetEdit, BudgetPage
from budgets.dashboard.budget_imports import BudgetImport
from budgets.dashboard.budgets import BudgetNew, Budgets
from budgets.dashboard.decisions import Decision, Decisions
from budgets.dashboard.exceptions import IncreaseCancel, IncreaseNew, OverrideNew, OverrideRemove
from budgets.dashboard.feed import Feed
from budgets.dashboard.ledger import Hold, Ledger
from budgets.dashboard.overview import Overview
from budgets.dashboard.usage import Usage

urlpatterns: list[URLPattern] = [
    path("overview", Overview.as_view(), name="overview"),
    path("overview/feed", Feed.as_view(), name="feed"),
    path("usage", Usage.as_view(), name="usage"),
    path("usage/ledger", Ledger.as_view(), name="ledger"),
    path("usage/ledger/<str:hold_id>", Hold.as_view(), name="hold"),
    path("usage/decisions", Decisions.as_view(), name="decisions"),
    path("usage/decisions/<str:dec_id>", Decision.as_view(), name="decision"),
    path("budgets", Budgets.as_view(), name="budgets"),
    path("budgets/new", BudgetNew.as_view(), name="budget-new"),
    path("budgets/import", BudgetImport.as_view(), name="budget-import"),
    path("budgets/<str:bud_id>", BudgetPage.as_view(), name="budget"),
    path("budgets/<str:bud_id>/edit", BudgetEdit.as_view(), name="budget-edit"),
    path("budgets/<str:bud_id>/archive", BudgetArchive.as_view(), name="budget-archive"),
    path("budgets/<str:bud_id>/overrides/new", OverrideNew.as_view(), name="override-new"),
    path(
        "budgets/<str:bud_id>/overrides/<str:ovr_id>/remove", OverrideRemove.as_view(), name="override-remove"
    ),
    path("budgets/<str:bud_id>/increases/new", IncreaseNew.as_view(), name="increase-new"),
    path(
        "budgets/<str:bud_id>/increases/<str:inc_id>/cancel", IncreaseCancel.as_view(), name="increase-cancel"
    ),
]
