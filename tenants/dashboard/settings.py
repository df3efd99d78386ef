"""The tenant's own settings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, QueryDict

from noburn.dashboard.forms import PageForm
from noburn.kit.problems import Invalid
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic
from tenants.domain.time_zones import known_zones
from tenants.models import UnknownModel
from tenants.services.tenant_settings import TenantSettings, change_settings


class SettingsForm(PageForm):
    """What a tenant may set for itself."""

    name = forms.CharField(max_length=200)
    time_zone = forms.ChoiceField(
        label="Time zone",
        choices=lambda: [(zone, zone.replace("_", " ")) for zone in sorted(known_zones())],
        help_text="Days, weeks and months of budgets begin in it, and pages say times in it.",
    )
    unknown_model = forms.ChoiceField(
        label="A call of a model without a price",
        choices=[
            (UnknownModel.REFUSE, "is refused"),
            (UnknownModel.DEAREST, "counts at the dearest price of its family"),
        ],
        widget=forms.RadioSelect,
    )
    default_max_output_tokens = forms.IntegerField(
        label="Output tokens of a call that names no cap",
        help_text="The client puts this cap into the call, so that the most it can cost is known.",
    )
    decision_retention_days = forms.IntegerField(
        label="Days for which decisions are kept",
        help_text="Each pre-flight's answer with its reasons; the ledger is kept for ever.",
    )
    second_factor_required = forms.BooleanField(
        label="Members need a second factor",
        required=False,
        help_text="Who has none is led to set one up, and sees nothing before that. Only an owner changes this.",
    )


class Settings(TenantPage):
    """Name, time zone, and what calls follow."""

    topic = Topic.TENANT
    section = "settings"
    title = "Settings"
    template_name = "tenants/settings.html"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes them; calls follow at once."""
        form = self._form(request.POST)
        if form.is_valid():
            try:
                change_settings(
                    tenant_id=self.tenant_id,
                    changes=TenantSettings(**form.cleaned_data),
                    owner=self.access.owner,
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("settings", say="Saved. Calls follow it from now on.")
        return self.show(form=form, status=400)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, filled with what holds."""
        if "form" not in kwargs:
            kwargs["form"] = self._form()
        return super().get_context_data(**kwargs)

    def _form(self, data: QueryDict | None = None) -> SettingsForm:
        """The form, without what only an owner decides for those who are none."""
        initial = {name: getattr(self.tenant, name) for name in SettingsForm.base_fields}
        form = SettingsForm(data, initial=initial)
        if not self.access.is_owner:
            del form.fields["second_factor_required"]
        return form
