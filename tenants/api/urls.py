"""Tenancy's routes of the management API, under /v1/."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from tenants.api.api_keys import ApiKeys
from tenants.api.audit import Audit
from tenants.api.customers import Customers
from tenants.api.leaks import LeakedKeys
from tenants.api.members import Members
from tenants.api.projects import Projects
from tenants.api.tenant import OwnTenant

router = SimpleRouter(trailing_slash=False)
router.register("projects", Projects, basename="project")
router.register("customers", Customers, basename="customer")
router.register("members", Members, basename="member")
router.register("api-keys", ApiKeys, basename="api-key")
router.register("audit", Audit, basename="audit")

urlpatterns = [
    path("tenant", OwnTenant.as_view({"get": "retrieve", "patch": "partial_update"}), name="tenant"),
    path("leaked-keys", LeakedKeys.as_view(), name="leaked-keys"),
    *router.urls,
]
