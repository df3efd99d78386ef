"""Pages of the dashboard about what is decided beside budgets: policies, guards and runs."""

from __future__ import annotations

from django.urls import URLPattern, path

from budgets.dashboard.guards import GuardArchive, GuardEdit, GuardNew, GuardPage, Guards
from budgets.dashboard.policies import (
    Policies,
    PolicyArchive,
    PolicyDraft,
    PolicyEdit,
    PolicyNew,
    PolicyPage,
)
from budgets.dashboard.reratings import ReratingApply, ReratingNew, ReratingPage, Reratings
from budgets.dashboard.runs import RunPage, Runs, RunStop

urlpatterns: list[URLPattern] = [
    path("policies", Policies.as_view(), name="policies"),
    path("policies/new", PolicyNew.as_view(), name="policy-new"),
    path("policies/draft", PolicyDraft.as_view(), name="policy-draft"),
    path("policies/<str:pol>", PolicyPage.as_view(), name="policy"),
    path("policies/<str:pol>/edit", PolicyEdit.as_view(), name="policy-edit"),
    path("policies/<str:pol>/archive", PolicyArchive.as_view(), name="policy-archive"),
    path("guards", Guards.as_view(), name="guards"),
    path("guards/new", GuardNew.as_view(), name="guard-new"),
    path("guards/<str:grd>", GuardPage.as_view(), name="guard"),
    path("guards/<str:grd>/edit", GuardEdit.as_view(), name="guard-edit"),
    path("guards/<str:grd>/archive", GuardArchive.as_view(), name="guard-archive"),
    path("runs", Runs.as_view(), name="runs"),
    # By the query string: a run is called as its caller likes, also with a slash.
    path("runs/one", RunPage.as_view(), name="run"),
    path("runs/one/stop", RunStop.as_view(), name="run-stop"),
    path("models/reratings", Reratings.as_view(), name="reratings"),
    path("models/reratings/new", ReratingNew.as_view(), name="rerating-new"),
    path("models/reratings/<str:rrt>", ReratingPage.as_view(), name="rerating"),
    path("models/reratings/<str:rrt>/apply", ReratingApply.as_view(), name="rerating-apply"),
]
