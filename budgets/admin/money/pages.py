"""What the money path's pages share: who may see them, their filters, their tables, their pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from budgets.queries.bounded import TookTooLong
from noburn.kit import ids
from tenants.models import Tenant

PAGE_ROWS = 50

View = Callable[..., HttpResponse]


def money_page(view: View) -> Callable[..., HttpResponseBase]:
    """A page for operators who may see budgets; others are sent to the sign-in, or refused."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.has_perm("budgets.view_budget"):
            raise PermissionDenied
        try:
            return view(request, *args, **kwargs)
        except TookTooLong as error:
            return shown(
                request,
                "admin/operator/slow.html",
                title="That takes too long here",
                problem=str(error),
                status=503,
            )

    # The site that is in force when a request comes, not the one at import.
    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return admin.site.admin_view(guarded)(request, *args, **kwargs)

    return page


def shown(
    request: HttpRequest, template: str, *, title: str, status: int = 200, **context: object
) -> HttpResponse:
    """A page of the admin with its sidebar and header."""
    return TemplateResponse(
        request, template, {**admin.site.each_context(request), "title": title, **context}, status=status
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, object]:
    """A table as the admin's component takes it; on a narrow screen each row becomes a card."""
    return {"headers": list(headers), "rows": [list(row) for row in rows]}


def next_url(request: HttpRequest, cursor: Mapping[str, object] | None) -> str:
    """The address of the next page: this one's filters, and where to go on; empty on the last page."""
    if cursor is None:
        return ""
    kept = {name: value for name, value in request.GET.items() if name not in cursor}
    return "?" + urlencode({**kept, **cursor})


class TenantField(forms.CharField):
    """A tenant, by its slug or wire id."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> Tenant | None:
        text = str(super().clean(value) or "").strip()
        if not text:
            return None
        found = Tenant.objects.filter(slug=text).first()
        if found is None and text.startswith(f"{ids.TENANT}_"):
            try:
                found = Tenant.objects.filter(pk=ids.decode(ids.TENANT, text)).first()
            except ids.BadId as error:
                raise forms.ValidationError(str(error)) from error
        if found is None:
            raise forms.ValidationError("There is no such tenant.")
        return found


class BudgetIdField(forms.CharField):
    """A budget's wire id, or its UUID."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> UUID | None:
        text = str(super().clean(value) or "").strip()
        if not text:
            return None
        try:
            return ids.decode(ids.BUDGET, text) if text.startswith(f"{ids.BUDGET}_") else UUID(text)
        except ValueError as error:
            raise forms.ValidationError("must be a budget's id, bud_…") from error


class FilterForm(forms.Form):
    """Filters in a page's address. A wrong value is said beside its field, and then nothing is listed."""

    template_name = "admin/operator/filters.html"


def choice(*words: tuple[str, str]) -> forms.ChoiceField:
    """A filter with a few fixed answers."""
    return forms.ChoiceField(choices=words, required=False, widget=UnfoldAdminSelectWidget)


def text(label: str, **options: Any) -> forms.CharField:
    """A filter with a text, compared exactly."""
    return forms.CharField(label=label, required=False, widget=UnfoldAdminTextInputWidget, **options)
