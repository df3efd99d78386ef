"""Forms of rate cards: what most cards say in fields, the rest as the API's JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from django import forms

from billing.domain.rate_card_reading import InvalidTerms, read_terms
from billing.domain.rate_cards import Terms
from noburn.dashboard.fields import LinesField, MomentField, plain_number
from noburn.dashboard.forms import PageForm

PLAIN: Final = ("markup_percent", "included_usd", "minimum_usd")
ADVANCED: Final = ("rules", "tiers", "rounding")
JSON_CHARS_MAX: Final = 100_000
PLACEHOLDER: Final = """{"rules": [{"provider": "openai", "model": "gpt-4o-mini", "rates": [
  {"unit": "input", "price_usd": "0.30"}, {"unit": "output", "price_usd": "1.20"}]}]}"""


class TermsForm(PageForm):
    """What a card says."""

    markup_percent = forms.CharField(
        label="Markup in per cent",
        required=False,
        max_length=12,
        help_text="On what the provider charged: 20 is cost and a fifth. It prices what no rule below matches; empty: "
        "that costs nothing.",
    )
    included_usd = forms.CharField(
        label="Included, USD",
        required=False,
        max_length=20,
        help_text="So much of each period's price is free.",
    )
    minimum_usd = forms.CharField(
        label="Minimum, USD",
        required=False,
        max_length=20,
        help_text="At least so much is owed for a whole period.",
    )
    advanced = forms.CharField(
        label="Rules, tiers, rounding (JSON)",
        required=False,
        strip=True,
        max_length=JSON_CHARS_MAX,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "class": "mono"}),
        help_text=f"As over the API, for example: {PLACEHOLDER}",
    )

    def terms(self) -> Terms | None:
        """What the form says; None with the errors at their fields."""
        data: dict[str, Any] = {
            name: plain_number(self.cleaned_data[name]) for name in PLAIN if self.cleaned_data.get(name)
        }
        if text := self.cleaned_data.get("advanced"):
            try:
                more = json.loads(text)
            except (ValueError, RecursionError) as error:
                self.add_error("advanced", f"This is no JSON: {str(error)[:200]}.")
                return None
            if not isinstance(more, dict) or set(more) - set(ADVANCED):
                self.add_error("advanced", f"It must be an object with {', '.join(ADVANCED)} alone.")
                return None
            data |= more
        try:
            return read_terms(data)
        except InvalidTerms as invalid:
            self.take(invalid, **{e.field: "advanced" for e in invalid.errors if e.field not in PLAIN})
            return None


def initial_of(terms: Mapping[str, Any]) -> dict[str, str]:
    """What the form holds for terms that are stored."""
    more = {name: terms[name] for name in ADVANCED if terms.get(name)}
    return {
        **{name: str(terms[name]) for name in PLAIN if terms.get(name) not in (None, "0")},
        "advanced": json.dumps(more, indent=1) if more else "",
    }


class CardForm(TermsForm):
    """A card with its first version."""

    name = forms.CharField(max_length=200)
    effective_from = MomentField(label="Holds from", help_text="A full hour. Empty: the next one.")
    note = forms.CharField(required=False, max_length=500, help_text="Where these prices are agreed, say.")
    field_order = ("name", *PLAIN, "advanced", "effective_from", "note")


class VersionForm(TermsForm):
    """What a card is to say from a later hour on."""

    effective_from = MomentField(label="Holds from", help_text="A full hour. Empty: the next one.")
    note = forms.CharField(required=False, max_length=500, help_text="Why it changes.")


class RenameForm(PageForm):
    """Another name."""

    name = forms.CharField(max_length=200)


class AssignForm(PageForm):
    """Whose card it is to be."""

    rate_card = forms.ChoiceField(label="Rate card")
    customers = LinesField(
        max_length=300_000,
        help_text="Your own ids of them, one a line; they need not have called yet. Empty: everybody without a card of "
        "their own.",
    )
    effective_from = MomentField(label="Holds from", help_text="A full hour. Empty: the next one.")
    note = forms.CharField(required=False, max_length=500)
