"""Negotiated prices: what the tenant pays a provider instead of the book's price. Appended and ended, never edited."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from budgets.dashboard.models_base import ModelsPage
from budgets.domain.policy import ANY_MODEL
from budgets.domain.pricing_list import MILLION
from budgets.models import PriceOverride
from budgets.services.price_overrides import (
    NewPriceOverride,
    OverridePrice,
    PriceOverrideNotFound,
    create_price_override,
    end_price_override,
)
from noburn.dashboard.exports import export
from noburn.dashboard.fields import MomentField
from noburn.dashboard.forms import PageForm
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids
from noburn.kit.problems import Invalid
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

COLUMNS = (
    Column("made", "Made", sort="pk"),
    Column("of", "Of"),
    Column("price", "Price"),
    Column("from", "Holds from"),
    Column("to", "Until"),
    Column("actions", "Actions", hidden_label=True),
)
UNITS: Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
}


def _million(label: str) -> forms.RegexField:
    return forms.RegexField(
        r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$",
        label=label,
        required=False,
        max_length=20,
        error_messages={"invalid": "Write a number of USD such as 0.15, with up to six places."},
    )


class NegotiatedForm(PageForm):
    """A negotiated price: a discount, or prices for a million tokens."""

    provider = forms.CharField(max_length=100, help_text="As in the list of prices: openai, anthropic, …")
    model = forms.CharField(
        max_length=200,
        required=False,
        help_text="One model, also one of your own. Empty: all of the provider's.",
    )
    discount_percent = forms.CharField(
        label="Discount in per cent",
        max_length=8,
        required=False,
        help_text="Either this, or the prices below.",
    )
    input = _million("Input, USD for a million tokens")
    cache_read = _million("Input read from a cache")
    cache_write = _million("Input written into a cache")
    output = _million("Output, USD for a million tokens")
    effective_from = MomentField(label="Holds from", help_text="In your tenant's time zone. Empty: now.")
    effective_to = MomentField(label="Until")
    note = forms.CharField(max_length=500, required=False, help_text="Which contract, say.")

    def wanted(self) -> NewPriceOverride:
        """The negotiated price that the form asks for."""
        given = self.cleaned_data
        prices = tuple(
            OverridePrice(unit=unit, price=f"{Decimal(given[name]) / MILLION:f}")
            for name, unit in UNITS.items()
            if given[name]
        )
        return NewPriceOverride(
            provider=given["provider"],
            model=given["model"] or ANY_MODEL,
            discount_percent=given["discount_percent"] or None,
            prices=prices or None,
            effective_from=given["effective_from"],
            effective_to=given["effective_to"],
            note=given["note"],
        )


class Negotiated(ModelsPage):
    """Negotiated prices, ended ones too."""

    tab = "price-overrides"
    title = "Negotiated prices"
    template_name = "models/negotiated.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-negotiated-prices",
                columns=["id", "provider", "model", "discount_percent", "prices", "from", "to", "note", "by"],
                rows=(
                    [
                        ids.encode(ids.PRICE_OVERRIDE, row.pk),
                        row.provider,
                        row.model,
                        f"{row.discount_percent:f}" if row.discount_percent is not None else None,
                        "; ".join(f"{p['unit']} {p['price']}" for p in row.prices or ()) or None,
                        row.effective_from.isoformat(),
                        row.effective_to.isoformat() if row.effective_to else None,
                        row.note,
                        row.created_by,
                    ]
                    for row in self._rows().order_by("-pk")
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[PriceOverride]:
        return PriceOverride.objects.filter(tenant_id=self.tenant_id)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of them."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-made")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [(row, ids.encode(ids.PRICE_OVERRIDE, row.pk), self._state(row)) for row in table.rows],
        }

    def _state(self, row: PriceOverride) -> str:
        if row.effective_to == row.effective_from:
            return "withdrawn"
        if row.effective_to is not None and row.effective_to <= self.now:
            return "ended"
        return "holds" if row.effective_from <= self.now else "to come"


class NewNegotiated(ModelsPage):
    """The form for another one."""

    tab = "price-overrides"
    title = "Add a negotiated price"
    template_name = "models/form.html"
    for_changing = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form; a model may be named in the address."""
        initial = {name: self.request.GET.get(name, "")[:200] for name in ("provider", "model")}
        return {
            "form": NegotiatedForm(initial=initial),
            **super().get_context_data(**kwargs),
            "button": "Add",
            "back": self.url("price-overrides"),
            "lead": "It counts for calls from its start on. What was settled before keeps its price.",
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Appends it."""
        form = NegotiatedForm(request.POST)
        if form.is_valid():
            try:
                create_price_override(
                    tenant_id=self.tenant_id, override=form.wanted(), actor=self.actor, now=self.now
                )
            except Invalid as invalid:
                form.take(invalid)
            else:
                return self.go("price-overrides", say="The negotiated price is there.")
        return self.show(form=form, status=400)


class EndNegotiated(ConfirmPage):
    """Asks before a negotiated price ends."""

    topic = Topic.PRICES
    section = "models"
    title = "End a negotiated price"
    button = "End it now"

    def _row(self) -> PriceOverride:
        wanted = path_id(self.kwargs["pov"], ids.PRICE_OVERRIDE)
        found = PriceOverride.objects.filter(tenant_id=self.tenant_id, pk=wanted).first()
        if found is None:
            raise PriceOverrideNotFound(self.kwargs["pov"])
        return found

    def question(self) -> str:
        """What is asked."""
        row = self._row()
        return f"End the negotiated price of {row.provider}/{row.model}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        if self._row().effective_from > self.now:
            return ["It has not begun, so it is withdrawn and never counts."]
        return [
            "The next call is held at the price book's price, or at another negotiated one that fits.",
            "Calls that were held at it settle at it. It cannot be taken up again; add another one instead.",
        ]

    def back(self) -> str:
        """Where no leads."""
        return self.url("price-overrides")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Ends it."""
        end_price_override(
            tenant_id=self.tenant_id, override_id=self._row().pk, actor=self.actor, now=self.now
        )
        return self.go("price-overrides", say="It has ended.")
