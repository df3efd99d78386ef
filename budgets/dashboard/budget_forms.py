"""Forms about budgets. What is allowed the services decide."""

from __future__ import annotations

from typing import Any

from django import forms

from budgets.domain.policy import BUDGET_METRICS, BUDGET_SCOPES, WindowKind
from noburn.dashboard.forms import PageForm
from noburn.kit.problems import Invalid

ACTIONS = [
    ("block", "refuses the call"),
    ("warn", "lets it through and says what it would have refused (shadow)"),
]
LIMITS = {f"limit_{metric.value}": "limit" for metric in BUDGET_METRICS}
AMOUNTS = {f"amount_{metric.value}": "amount" for metric in BUDGET_METRICS}


class MoneyForm(PageForm):
    """A form with a limit or an amount, which services name by its metric."""

    def take(self, invalid: Invalid, **names: str) -> None:
        """Shows a service's errors at their fields."""
        super().take(invalid, **{**LIMITS, **AMOUNTS, **names})


class BudgetForm(MoneyForm):
    """What may change of a budget."""

    limit = forms.CharField(
        max_length=30, help_text="In USD, such as 25 or 0.50; or a whole number of tokens or requests."
    )
    action = forms.ChoiceField(
        label="What does not fit", choices=ACTIONS, widget=forms.RadioSelect, initial="block"
    )
    name = forms.CharField(max_length=200, required=False, help_text="Made from the rest where it is empty.")
    thresholds = forms.CharField(
        label="Tell me at",
        max_length=60,
        required=False,
        initial="50, 80, 100",
        help_text="Percentages of the limit, rising. Each is told once a window.",
    )

    def clean_thresholds(self) -> tuple[int, ...]:
        """Percentages, as whole numbers."""
        parts = [part.strip() for part in self.cleaned_data["thresholds"].split(",") if part.strip()]
        if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
            raise forms.ValidationError("Must be whole percentages with commas between, such as 50, 80, 100.")
        return tuple(map(int, parts))


class NewBudgetForm(BudgetForm):
    """A budget to be made. What it counts cannot be changed afterwards."""

    field_order = ("scope", "subject", "tag", "metric", "limit", "window", "action", "name", "thresholds")

    scope = forms.ChoiceField(
        label="Counts calls of",
        choices=[(s.value, s.value.replace("_", " ")) for s in BUDGET_SCOPES],
        initial="customer",
    )
    subject = forms.CharField(
        label="Which one",
        max_length=300,
        required=False,
        help_text="Its id. Leave it empty for each one on its own, also those not seen yet; a tag is written name=value.",
    )
    tag = forms.CharField(
        label="Tag",
        max_length=64,
        required=False,
        help_text="The tag's name, for a budget of each of its values.",
    )
    metric = forms.ChoiceField(
        label="Counts",
        choices=[(m.value, m.value.upper() if m.value == "usd" else m.value) for m in BUDGET_METRICS],
    )
    window = forms.ChoiceField(
        label="In each", choices=[(w.value, w.value) for w in WindowKind], initial=WindowKind.MONTH.value
    )

    def values(self) -> dict[str, Any]:
        """What was filled in, as the service wants it."""
        given: dict[str, Any] = dict(self.cleaned_data)
        given["subject"] = given["subject"] or "*"
        given["tag"] = given["tag"] or None
        return given


class OverrideForm(MoneyForm):
    """Another limit for one subject."""

    subject = forms.CharField(
        max_length=300, help_text="The one whose limit this is, such as a customer's id."
    )
    limit = forms.CharField(max_length=30)


class LimitForm(MoneyForm):
    """A limit alone."""

    limit = forms.CharField(max_length=30)


class IncreaseForm(MoneyForm):
    """So much more for a while."""

    amount = forms.CharField(label="So much more", max_length=30)
    subject = forms.CharField(
        label="For",
        max_length=300,
        required=False,
        help_text="One subject. Leave it empty for all of the budget.",
    )
    windows = forms.IntegerField(
        label="For so many windows", required=False, help_text="1 is until the present window ends."
    )
    ends_at = forms.DateTimeField(
        label="Or until",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="In the tenant's time zone.",
    )
    reason = forms.CharField(max_length=500, help_text="Stands in the history, with your name.")


class BulkForm(MoneyForm):
    """One change of many budgets."""

    change = forms.ChoiceField(
        choices=[
            ("limit", "Set the limit to"),
            ("percent", "Raise the limit by percent"),
            ("action", "Set the action to"),
        ]
    )
    value = forms.CharField(max_length=30)


class ImportForm(PageForm):
    """A table of budgets, as a file or as text."""

    file = forms.FileField(label="A CSV file", required=False)
    text = forms.CharField(
        label="Or its text", required=False, widget=forms.Textarea(attrs={"rows": 8}), strip=False
    )
