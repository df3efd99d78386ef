"""Before a tenant's pages: a person's tenants, a new one, and where to go after signing in."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView, View

from noburn.dashboard.forms import PageForm
from noburn.kit.clock import utc_now
from noburn.kit.problems import Invalid
from tenants.domain.time_zones import known_zones
from tenants.models import User
from tenants.queries.memberships import memberships
from tenants.services.founding import found_tenant, may_found


class TenantForm(PageForm):
    """A new tenant."""

    name = forms.CharField(max_length=200, help_text="Your company, or what you build.")
    slug = forms.CharField(
        label="Short name",
        max_length=63,
        required=False,
        help_text="Stands in the address of your pages; made of the name where it is left out.",
    )
    time_zone = forms.ChoiceField(
        label="Time zone",
        initial="UTC",
        choices=lambda: [(zone, zone.replace("_", " ")) for zone in sorted(known_zones())],
        help_text="Days and months of budgets begin in it. It can be changed.",
    )


@method_decorator(never_cache, name="dispatch")
class Enter(LoginRequiredMixin, View):
    """Where signing in leads: to the only tenant, to a choice of several, or to making the first one."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Leads on."""
        places = memberships(user_id=cast(User, request.user).pk)
        if len(places) == 1:
            url = reverse("dashboard:landing", kwargs={"tenant": places[0].tenant.slug})
        else:
            url = reverse("tenants" if places else "new-tenant")
        return HttpResponseRedirect(url)


@method_decorator(never_cache, name="dispatch")
class Tenants(LoginRequiredMixin, TemplateView):
    """All tenants where a person works."""

    template_name = "tenants/tenants.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Places by name."""
        user = cast(User, self.request.user)
        return {
            **super().get_context_data(**kwargs),
            "title": "Tenants",
            "memberships": memberships(user_id=user.pk),
            "may_found": may_found(user=user),
        }


@method_decorator(never_cache, name="dispatch")
class NewTenant(LoginRequiredMixin, TemplateView):
    """Founds a tenant."""

    template_name = "tenants/new_tenant.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form."""
        kwargs.setdefault("form", TenantForm())
        return {
            **super().get_context_data(**kwargs),
            "title": "A new tenant",
            "may_found": may_found(user=cast(User, self.request.user)),
        }

    def post(self, request: HttpRequest) -> HttpResponse:
        """Founds it, and leads to its first page."""
        form = TenantForm(request.POST)
        if form.is_valid():
            try:
                made = found_tenant(user=cast(User, request.user), now=utc_now(), **form.cleaned_data)
            except Invalid as invalid:
                form.take(invalid)
            else:
                return HttpResponseRedirect(reverse("dashboard:start", kwargs={"tenant": made.tenant.slug}))
        return self.render_to_response(self.get_context_data(form=form), status=400)
