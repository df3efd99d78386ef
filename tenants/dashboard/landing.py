"""Where a person begins at a tenant."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from noburn.dashboard import navigation
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import READABLE, Topic


class Landing(TenantPage):
    """/t/<slug>/: leads on to the first page that this person may see."""

    topic = Topic.TENANT

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Leads on."""
        assert self.access.role is not None
        return HttpResponseRedirect(
            navigation.landing_url(tenant=self.tenant.slug, readable=READABLE[self.access.role])
        )
