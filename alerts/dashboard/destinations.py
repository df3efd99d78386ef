"""Destinations: made, changed, tested, removed. A secret is shown in the answer that made it and never again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from alerts.dashboard.base import AlertsPage
from alerts.domain.kinds import ALWAYS, CHOICES, KINDS
from alerts.models import Delivery, Destination, DestinationKind
from alerts.services.destinations import (
    OVERLAP_DEFAULT,
    OVERLAP_MAX,
    DestinationChanges,
    MadeDestination,
    NewDestination,
    change_destination,
    create_destination,
    get_destination,
    ping_destination,
    remove_destination,
    rotate_secret,
    wire_id,
)
from noburn.dashboard.exports import export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

HOURS = 3600
COLUMNS = (
    Column("made", "Added", sort="pk"),
    Column("address", "Where to"),
    Column("kinds", "Hears of"),
    Column("state", "State"),
)
SHOWN_DELIVERIES = 10


class DestinationFields(PageForm):
    """What a destination hears of."""

    description = forms.CharField(
        max_length=200, required=False, help_text="For you: who or what is behind it."
    )
    alert_kinds = forms.MultipleChoiceField(
        label="Kinds of alert",
        choices=[(name, KINDS[name].title) for name in CHOICES],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text="None chosen: all of them. That another destination was switched off is always told.",
    )


class NewDestinationForm(DestinationFields):
    """A destination to be made."""

    kind = forms.ChoiceField(
        label="How it is reached",
        choices=[
            (DestinationKind.EMAIL.value, "E-mail"),
            (DestinationKind.SLACK.value, "Slack, Mattermost and the like (an incoming webhook)"),
            (DestinationKind.WEBHOOK.value, "Signed webhook (Standard Webhooks)"),
        ],
        widget=forms.RadioSelect,
        initial=DestinationKind.EMAIL.value,
    )
    target = forms.CharField(
        label="Address",
        max_length=2048,
        help_text="An e-mail address, or the https URL of the webhook. A Slack URL is a secret: it is not shown again.",
    )
    field_order = ("kind", "target", "description", "alert_kinds")


class DestinationForm(DestinationFields):
    """What may change of one."""

    target = forms.CharField(label="Address", max_length=2048, required=False)
    enabled = forms.BooleanField(label="Switched on", required=False)
    field_order = ("target", "description", "alert_kinds", "enabled")


class RotationForm(PageForm):
    """For how long the old secret still signs."""

    hours = forms.IntegerField(
        label="Hours for which both secrets sign",
        min_value=0,
        max_value=int(OVERLAP_MAX.total_seconds()) // HOURS,
        initial=int(OVERLAP_DEFAULT.total_seconds()) // HOURS,
    )


class Destinations(AlertsPage):
    """Where alerts are sent."""

    tab = "destinations"
    title = "Destinations"
    template_name = "alerts/destinations.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-alert-destinations",
                columns=["id", "kind", "address", "description", "alert_kinds", "enabled", "created_at"],
                rows=(
                    [
                        wire_id(row),
                        row.kind,
                        row.address,
                        row.description,
                        " ".join(row.alert_kinds),
                        str(row.enabled).lower(),
                        row.created_at.isoformat(),
                    ]
                    for row in self._rows().order_by("-pk")
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Destination]:
        return Destination.objects.filter(tenant_id=self.tenant_id, removed_at=None)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of destinations."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="made")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [(row, wire_id(row)) for row in table.rows],
        }


class NewDestinationPage(AlertsPage):
    """The form for another destination."""

    tab = "destinations"
    title = "Add a destination"
    template_name = "alerts/destination_form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, empty at first."""
        extra = {"button": "Add", "back": self.url("destinations"), **kwargs}
        return {"form": NewDestinationForm(), **super().get_context_data(**extra)}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it, and shows its secret if it has one."""
        form = NewDestinationForm(request.POST)
        if form.is_valid():
            try:
                made = create_destination(
                    tenant_id=self.tenant_id,
                    destination=NewDestination(**form.cleaned_data),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid, url="target", email="target")
            else:
                return made_page(self, made)
        return self.show(form=form, status=400)


def made_page(page: AlertsPage, made: MadeDestination) -> HttpResponse:
    """Where the browser goes from here: to the destination, or to a page that shows its secret this once."""
    if not made.secret:
        return page.go(
            "destination", whe=wire_id(made.destination), say="The destination is there. Send it a test."
        )
    page.template_name = "alerts/destination_secret.html"
    return page.show(
        destination=made.destination, wire=wire_id(made.destination), secret=made.secret, title="Its secret"
    )


class _Of(AlertsPage):
    """A page of one destination."""

    tab = "destinations"

    @property
    def destination_id(self) -> UUID:
        """Its id, from the path."""
        return path_id(self.kwargs["whe"], ids.WEBHOOK_ENDPOINT, ids.ALERT_EMAIL)

    def destination(self) -> Destination:
        """Raises Missing for one that is not the tenant's."""
        return get_destination(tenant_id=self.tenant_id, destination_id=self.destination_id)


class OneDestination(_Of):
    """One destination: what it hears of, how it fares, and what may be done with it."""

    template_name = "alerts/destination.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The destination and its last deliveries."""
        found = self.destination()
        form = DestinationForm(
            initial={
                "target": "" if found.kind == DestinationKind.SLACK else found.address,
                "description": found.description,
                "alert_kinds": found.alert_kinds,
                "enabled": found.enabled,
            }
        )
        if found.kind == DestinationKind.SLACK:
            form.fields["target"].help_text = "Left empty it stays as it is; it is not shown again."
        newest = Delivery.objects.filter(tenant_id=self.tenant_id, destination=found).select_related("alert")
        return {
            "form": form,
            **super().get_context_data(**kwargs),
            "title": found.address,
            "destination": found,
            "wire": wire_id(found),
            "hears": [KINDS[name].title for name in (found.alert_kinds or CHOICES)],
            "always": [KINDS[name].title for name in ALWAYS],
            "deliveries": [
                (row, ids.encode(ids.DELIVERY, row.pk), KINDS[row.alert.kind].title)
                for row in newest.order_by("-created_at", "-pk")[:SHOWN_DELIVERIES]
            ],
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes it."""
        found = self.destination()
        form = DestinationForm(request.POST)
        if form.is_valid():
            given = form.cleaned_data
            try:
                change_destination(
                    tenant_id=self.tenant_id,
                    destination_id=found.pk,
                    changes=DestinationChanges(**{**given, "target": given["target"] or None}),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid, url="target", email="target")
            else:
                return self.go("destination", whe=wire_id(found), say="Saved.")
        return self.show(form=form, status=400)


class PingDestination(_Of):
    """Sends a test to one destination."""

    for_changing = True

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Nothing is asked for by looking; the button is on the destination's page."""
        return self.go("destination", whe=wire_id(self.destination()))

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Asks for it; what became of it stands on the delivery's page."""
        made = ping_destination(
            tenant_id=self.tenant_id, destination_id=self.destination_id, actor=self.actor, now=self.now
        )
        return self.go("delivery", dlv=ids.encode(ids.DELIVERY, made.pk), say="A test is on its way.")


class RotateSecret(ConfirmPage, _Of):
    """Asks before a new secret signs."""

    topic = Topic.ALERTS
    section = "alerts"
    title = "Rotate the secret"
    button = "Make a new secret"
    destructive = False

    def question(self) -> str:
        """What is asked."""
        return f"Make a new signing secret for {self.destination().address}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "The new secret is shown once, on the next page.",
            "Until the overlap is over each message is signed with both secrets, and a receiver may check either.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("destination", whe=self.kwargs["whe"])

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The question, and for how long both sign."""
        return {"form": RotationForm(), **super().get_context_data(**kwargs)}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it and shows it."""
        form = RotationForm(request.POST)
        if not form.is_valid():
            return self.show(form=form, status=400)
        made = rotate_secret(
            tenant_id=self.tenant_id,
            destination_id=self.destination_id,
            overlap=timedelta(hours=form.cleaned_data["hours"]),
            actor=self.actor,
            now=self.now,
        )
        self.template_name = "alerts/destination_secret.html"
        return self.show(
            destination=made.destination,
            wire=wire_id(made.destination),
            secret=made.secret,
            title="Its secret",
        )


class RemoveDestination(ConfirmPage, _Of):
    """Asks before a destination goes."""

    topic = Topic.ALERTS
    section = "alerts"
    title = "Remove a destination"
    button = "Remove it"

    def question(self) -> str:
        """What is asked."""
        return f"Remove {self.destination().address}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        waiting = Delivery.objects.filter(
            tenant_id=self.tenant_id, destination_id=self.destination_id, state="pending"
        ).count()
        return [
            f"{waiting} message{'' if waiting == 1 else 's'} that wait for it will not be sent.",
            "Its secrets are forgotten. Adding the same address later makes a new destination.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("destination", whe=self.kwargs["whe"])

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Removes it."""
        remove_destination(
            tenant_id=self.tenant_id, destination_id=self.destination_id, actor=self.actor, now=self.now
        )
        return self.go("destinations", say="The destination was removed.")
