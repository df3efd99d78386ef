"""Tenancy's routes of the management API, under /v1/."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from tenants.api.projects import Projects

router = SimpleRouter(trailing_slash=False)
router.register("projects", Projects, basename="project")

urlpatterns = router.urls
