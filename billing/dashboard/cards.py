"""Rate cards: what customers pay, version by version, and what a card would have charged."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse

from billing.dashboard.base import BillingPage
from billing.dashboard.card_forms import CardForm, RenameForm, TermsForm, VersionForm, initial_of
from billing.domain.rate_cards import Terms
from billing.models import RateCard, RateCardAssignment, RateCardVersion
from billing.services.card_periods import PERIODS
from billing.services.rate_cards import (
    NewVersion,
    RateCardNotFound,
    append_version,
    create_rate_card,
    rename_rate_card,
    withdraw_version,
)
from billing.services.slow_figures import compared, would_kind
from budgets.services.figures import figure
from noburn.dashboard.exports import export
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

COLUMNS = (
    Column("made", "Made", sort="pk"),
    Column("name", "Card", sort="name"),
    Column("says", "Says now"),
    Column("assigned", "Holds for"),
)
PREVIEW_NANO = ("cost_nano", "charged_nano", "would_be_nano", "difference_nano")
PREVIEW_COLUMNS = ("customer", "cost_usd", "charged_usd", "would_be_usd", "difference_usd")


def said(terms: dict[str, Any]) -> str:
    """What terms say, in a few words."""
    parts = []
    if terms.get("markup_percent") is not None:
        parts.append(f"cost + {terms['markup_percent']} %")
    if rules := terms.get("rules"):
        parts.append(f"{len(rules)} rule{'' if len(rules) == 1 else 's'}")
    if terms.get("included_usd") not in (None, "0"):
        parts.append(f"${terms['included_usd']} included")
    if terms.get("tiers"):
        parts.append("tiers")
    if terms.get("minimum_usd") not in (None, "0"):
        parts.append(f"at least ${terms['minimum_usd']}")
    return ", ".join(parts) or "everything is free"


class RateCards(BillingPage):
    """The tenant's cards."""

    tab = "rate-cards"
    title = "Rate cards"
    template_name = "billing/cards.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-rate-cards",
                columns=["id", "name", "says_now", "created_at"],
                rows=(
                    [
                        ids.encode(ids.RATE_CARD, row.pk),
                        row.name,
                        self._says(row),
                        row.created_at.isoformat(),
                    ]
                    for row in self._rows().order_by("-pk")
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Any]:
        begun = RateCardVersion.objects.filter(withdrawn_at=None, effective_from__lte=self.now).order_by(
            "-effective_from"
        )
        return RateCard.objects.filter(tenant_id=self.tenant_id).prefetch_related(
            Prefetch("versions", queryset=begun, to_attr="begun")
        )

    def _says(self, row: Any) -> str:
        return said(row.begun[0].terms) if row.begun else "nothing yet"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of cards, with for whom each holds."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="name")
        cards = [row.pk for row in table.rows]
        assigned = RateCardAssignment.objects.filter(
            tenant_id=self.tenant_id, card_id__in=cards, withdrawn_at=None, effective_from__lte=self.now
        )
        counts = dict(
            assigned.exclude(customer="")
            .order_by("card_id")
            .values_list("card_id")
            .annotate(count=Count("customer", distinct=True))
        )
        default = (
            RateCardAssignment.objects.filter(
                tenant_id=self.tenant_id, customer="", withdrawn_at=None, effective_from__lte=self.now
            )
            .order_by("-effective_from")
            .first()
        )
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [
                (
                    row,
                    ids.encode(ids.RATE_CARD, row.pk),
                    self._says(row),
                    counts.get(row.pk, 0),
                    default is not None and default.card_id == row.pk,
                )
                for row in table.rows
            ],
            "has_default": default is not None and default.card_id is not None,
        }


class _Form(BillingPage):
    """A form of what a card says, which can be previewed before it is saved."""

    tab = "rate-cards"
    template_name = "billing/card_form.html"
    for_changing = True
    # A preview adds up past use, for seconds; the services take the lock for what they change.
    locked = False

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The periods of which a preview can be."""
        return {
            **super().get_context_data(**kwargs),
            "periods": PERIODS,
            "period": self.request.POST.get("period", PERIODS[0][0]),
        }

    def previewed(self, form: TermsForm, terms: Terms) -> HttpResponse:
        """The form as it is, with what it would have charged."""
        try:
            found = compared(self.tenant, terms, self.request.POST.get("period", ""), self.now)
        except Invalid as invalid:
            return self.show(form=form, preview_problem=invalid.errors[0].message)
        return self.show(form=form, **previewed(found))


def previewed(found: dict[str, Any]) -> dict[str, Any]:
    """What templates need of a preview."""
    times = {name: datetime.fromisoformat(found[name]) for name in ("starts_at", "until")}
    return {"preview": {**found, **times}}


class NewCard(_Form):
    """A card and its first version."""

    title = "Make a rate card"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, empty at first."""
        return {
            "form": CardForm(),
            **super().get_context_data(**kwargs),
            "button": "Make it",
            "back": self.url("rate-cards"),
            "lead": "It prices nothing until it is assigned, to customers or to everybody.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Makes it, or shows what it would have charged."""
        form = CardForm(request.POST)
        if "preview" in request.POST:
            form.fields["name"].required = False
        if form.is_valid() and (terms := form.terms()) is not None:
            if "preview" in request.POST:
                return self.previewed(form, terms)
            given = form.cleaned_data
            try:
                card, _ = create_rate_card(
                    tenant_id=self.tenant_id,
                    name=given["name"],
                    version=NewVersion(
                        terms=terms, effective_from=given["effective_from"], note=given["note"]
                    ),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go(
                    "rate-card",
                    rcd=ids.encode(ids.RATE_CARD, card.pk),
                    say="The card is there. Assign it, so that it prices something.",
                )
        return self.show(form=form, status=400)


def card_of(page: BillingPage) -> RateCard:
    """The card that the path names. Raises Missing."""
    wanted = path_id(page.kwargs["rcd"], ids.RATE_CARD)
    found = RateCard.objects.filter(tenant_id=page.tenant_id, pk=wanted).first()
    if found is None:
        raise RateCardNotFound(page.kwargs["rcd"])
    return found


class OneCard(BillingPage):
    """One card: its versions, and for whom it holds."""

    tab = "rate-cards"
    template_name = "billing/card.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The versions, newest first, and the newest assignments."""
        card = card_of(self)
        versions = list(
            RateCardVersion.objects.filter(tenant_id=self.tenant_id, card=card).order_by("-number")[:100]
        )
        standing = [row for row in versions if row.withdrawn_at is None and row.effective_from <= self.now]
        current = max(standing, key=lambda row: row.effective_from, default=None)
        assignments = RateCardAssignment.objects.filter(tenant_id=self.tenant_id, card=card)
        return {
            **super().get_context_data(**kwargs),
            "title": card.name,
            "card": card,
            "wire": self.kwargs["rcd"],
            "versions": [
                (
                    row,
                    ids.encode(ids.RATE_CARD_VERSION, row.pk),
                    said(row.terms),
                    json.dumps(row.terms, indent=1),
                    "withdrawn"
                    if row.withdrawn_at
                    else "to come"
                    if row.effective_from > self.now
                    else "holds"
                    if row is current
                    else "past",
                )
                for row in versions
            ],
            "assignments": [
                (row, ids.encode(ids.RATE_CARD_ASSIGNMENT, row.pk), row.effective_from > self.now)
                for row in assignments.order_by("-effective_from", "-pk")[:100]
            ],
        }


class CardPreview(BillingPage):
    """What a saved card would have charged."""

    tab = "rate-cards"
    title = "What it would have charged"
    template_name = "billing/card_preview.html"
    partials = {"preview": "billing/_would_have.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        card = card_of(self)
        newest = (
            RateCardVersion.objects.filter(tenant_id=self.tenant_id, card=card, withdrawn_at=None)
            .order_by("-effective_from")
            .first()
        )
        period = request.GET.get("period", PERIODS[0][0])
        context: dict[str, Any] = {
            "card": card,
            "wire": self.kwargs["rcd"],
            "periods": PERIODS,
            "period": period,
        }
        if newest is None:
            return self.show(**context, preview_problem="The card has no version that stands.")
        if period not in dict(PERIODS):
            raise Invalid([FieldError("period", f"must be one of {', '.join(dict(PERIODS))}")])
        found = figure(tenant=self.tenant, kind=would_kind(newest, period), now=self.now)
        if form := request.GET.get("format"):
            if found.body is None or found.body["problem"]:
                raise Invalid([FieldError("period", "is still being added up: ask again in a moment")])
            return export(
                form,
                name=f"{self.tenant.slug}-preview",
                columns=PREVIEW_COLUMNS,
                rows=[
                    [
                        row["customer"],
                        *(to_usd(row[name]) for name in PREVIEW_NANO),
                    ]
                    for row in found.body["rows"]
                ],
            )
        context |= {"pending": found.pending, "as_of": found.as_of}
        if found.body is None:
            return self.show(**context)
        if problem := found.body["problem"]:
            return self.show(**context, preview_problem=problem)
        return self.show(**context, **previewed(found.body))


class AppendVersion(_Form):
    """What a card is to say from a later hour on."""

    title = "Change a rate card"

    def _newest(self, card: RateCard) -> RateCardVersion | None:
        return (
            RateCardVersion.objects.filter(tenant_id=self.tenant_id, card=card, withdrawn_at=None)
            .order_by("-effective_from")
            .first()
        )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, as the card's last version has it."""
        card = card_of(self)
        newest = self._newest(card)
        return {
            "form": VersionForm(initial=initial_of(newest.terms) if newest else {}),
            **super().get_context_data(**kwargs),
            "title": f"Change {card.name}",
            "button": "Append this version",
            "back": self.url("rate-card", rcd=self.kwargs["rcd"]),
            "lead": "What was used before it begins keeps its price. A version that has not begun can be withdrawn.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Appends it, or shows what it would have charged."""
        card, form = card_of(self), VersionForm(request.POST)
        if form.is_valid() and (terms := form.terms()) is not None:
            if "preview" in request.POST:
                return self.previewed(form, terms)
            given = form.cleaned_data
            try:
                append_version(
                    tenant_id=self.tenant_id,
                    card_id=card.pk,
                    version=NewVersion(
                        terms=terms, effective_from=given["effective_from"], note=given["note"]
                    ),
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("rate-card", rcd=self.kwargs["rcd"], say="The version was appended.")
        return self.show(form=form, status=400)


class RenameCard(BillingPage):
    """Gives a card another name."""

    tab = "rate-cards"
    title = "Rename a rate card"
    template_name = "billing/form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form with the present name."""
        return {
            "form": RenameForm(initial={"name": card_of(self).name}),
            **super().get_context_data(**kwargs),
            "button": "Rename",
            "back": self.url("rate-card", rcd=self.kwargs["rcd"]),
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Renames it."""
        card, form = card_of(self), RenameForm(request.POST)
        if form.is_valid():
            try:
                rename_rate_card(
                    tenant_id=self.tenant_id,
                    card_id=card.pk,
                    name=form.cleaned_data["name"],
                    actor=self.actor,
                    now=self.now,
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("rate-card", rcd=self.kwargs["rcd"], say="Renamed.")
        return self.show(form=form, status=400)


class WithdrawVersion(ConfirmPage, BillingPage):
    """Asks before a version that has not begun goes."""

    topic = Topic.BILLING
    section = "billing"
    title = "Withdraw a version"
    button = "Withdraw it"

    def _version_id(self) -> UUID:
        return path_id(self.kwargs["rcv"], ids.RATE_CARD_VERSION)

    def question(self) -> str:
        """What is asked."""
        row = RateCardVersion.objects.filter(
            tenant_id=self.tenant_id, card=card_of(self), pk=self._version_id()
        ).first()
        if row is None:
            raise RateCardNotFound(self.kwargs["rcv"])
        return f"Withdraw version {row.number} of {card_of(self).name}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        return [
            "It never holds; the version before it goes on.",
            "It stays in the list, marked as withdrawn.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("rate-card", rcd=self.kwargs["rcd"])

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Withdraws it."""
        withdraw_version(
            tenant_id=self.tenant_id,
            card_id=card_of(self).pk,
            version_id=self._version_id(),
            actor=self.actor,
            now=self.now,
        )
        return self.go("rate-card", rcd=self.kwargs["rcd"], say="Withdrawn.")
