"""The routes under /docs/."""

from __future__ import annotations

from django.urls import path

from noburn.docs import views

app_name = "docs"
urlpatterns = [
    path("", views.index, name="index"),
    path("search", views.search, name="search"),
    path("reference", views.reference, name="reference"),
    path("reference/<slug:topic>", views.topic, name="topic"),
    path("problems/<slug:slug>", views.problem, name="problem"),
    path("<path:slug>", views.page, name="page"),
]
