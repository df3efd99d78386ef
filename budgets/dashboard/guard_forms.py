"""Forms of guards: each kind has limits of its own. What they may be the service decides."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django import forms

from budgets.domain.guards import LIMITS, NEEDED, SCOPES, WIRE_NAMES, thousandths
from budgets.domain.policy import EACH, GuardKind, Scope
from budgets.models import Guard
from budgets.services.guard_rules import NewGuard
from noburn.dashboard import wording
from noburn.dashboard.fields import UsdField, plain_number
from noburn.dashboard.forms import PageForm
from noburn.kit.money import to_usd
from noburn.kit.problems import Invalid

KINDS: Final[Mapping[GuardKind, tuple[str, str]]] = {
    GuardKind.REPEAT: (
        "Retry loops",
        "The same request, again and again. Needs the fingerprint that SDK and proxy send.",
    ),
    GuardKind.VELOCITY: ("Spending too fast", "More USD in a minute than that, or than is usual."),
    GuardKind.NEWCOMER: ("Unknown customers", "More USD in the first minutes of a customer."),
    GuardKind.CALL: ("A call that is too large", "One call that can cost, read or write more than that."),
    GuardKind.DEPTH: ("Recursion", "Calls of runs too far below the run that began it all."),
}
"""Each kind in the words of its form, and what it stops."""

RECOMMENDED: Final[Mapping[GuardKind, tuple[Scope, Mapping[str, int]]]] = {
    GuardKind.REPEAT: (Scope.CUSTOMER, {"times": 10, "seconds": 60}),
    GuardKind.VELOCITY: (Scope.API_KEY, {"nano_per_minute": 10_000_000_000}),
    GuardKind.NEWCOMER: (Scope.CUSTOMER, {"nano": 2_000_000_000, "minutes": 60}),
    GuardKind.CALL: (Scope.TENANT, {"cost_nano": 1_000_000_000, "input_tokens": 400_000}),
    GuardKind.DEPTH: (Scope.TENANT, {"levels": 3}),
}
"""What a form begins with: the guards of docs/guards.md."""

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "times": ("So often", "The next one is stopped."),
    "seconds": ("Within so many seconds", "At most 3,600."),
    "nano_per_minute": ("USD in any minute", "More than your dearest minute."),
    "usual_thousandths": ("Times the usual minute", "Of the last 30 minutes, such as 5 or 2.5."),
    "usual_floor_nano": ("But never below, USD", "No minute of less than that is unusual."),
    "levels": ("Levels of runs above the call's", "From 0 to 7."),
    "cost_nano": ("USD that one call can cost", ""),
    "input_tokens": ("Tokens that one call reads", ""),
    "output_tokens": ("Tokens that one call writes", ""),
    "nano": ("USD", "In a customer's first time, counted from its first call."),
    "minutes": ("In the first minutes", "At most 10,080, a week."),
}
MODES: Final = [
    ("observe", "only tells that it would have stopped a call: begin with this"),
    ("enforce", "stops calls"),
]
_NANO: Final = frozenset(name for name in _WORDS if name.endswith("nano") or name == "nano_per_minute")


class _TimesField(forms.CharField):
    """So many times something; thousandths once it is read."""

    def clean(self, value: Any) -> Any:
        """Reads it. Raises ValidationError."""
        text = super().clean(value)
        if not text:
            return None
        whole, _, part = plain_number(text).partition(".")
        digits = whole + part
        if not digits.isascii() or not digits.isdigit() or len(digits) > 9 or len(part) > 3:
            raise forms.ValidationError("Write a number with up to three places, such as 2.5.")
        return int(Decimal(f"{whole}.{part or 0}") * 1000)


def _field(kind: GuardKind, name: str) -> forms.Field:
    label, text = _WORDS[name]
    said: dict[str, Any] = {"label": label, "help_text": text, "required": name in NEEDED.get(kind, ())}
    if name in _NANO:
        return UsdField(**said)
    if name == "usual_thousandths":
        return _TimesField(max_length=12, **said)
    return forms.IntegerField(**said)


class LimitsForm(PageForm):
    """The limits that a guard of a kind has, its mode and its name."""

    def __init__(self, *args: Any, kind: GuardKind, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind
        for name in LIMITS[kind]:
            self.fields[WIRE_NAMES.get(name, name)] = _field(kind, name)
        self.fields["mode"] = forms.ChoiceField(
            label="When it trips", choices=MODES, widget=forms.RadioSelect, initial="observe"
        )
        self.fields["name"] = forms.CharField(
            max_length=200,
            required=False,
            help_text="Stands in refusals and alerts. Made from the rest where it is empty.",
        )

    def limits(self) -> dict[str, int]:
        """The limits that were filled in, by their names inside."""
        given = {name: self.cleaned_data[WIRE_NAMES.get(name, name)] for name in LIMITS[self.kind]}
        return {name: value for name, value in given.items() if value is not None}

    def take(self, invalid: Invalid, **names: str) -> None:
        """Shows the service's errors, which are told by `limits.<name>`."""
        inner = {e.field: e.field.removeprefix("limits.") for e in invalid.errors}
        super().take(invalid, **{**inner, **names})


class NewGuardForm(LimitsForm):
    """A guard of a kind, to be made."""

    def __init__(self, *args: Any, kind: GuardKind, **kwargs: Any) -> None:
        super().__init__(*args, kind=kind, **kwargs)
        scopes = [Scope.CUSTOMER] if kind is GuardKind.NEWCOMER else SCOPES
        self.fields["scope"] = forms.ChoiceField(
            label="Watches calls of", choices=[(one.value, _scope_words(one)) for one in scopes]
        )
        self.fields["subject"] = forms.CharField(
            label="Which one",
            max_length=300,
            required=False,
            help_text="Its id. Empty: each one on its own, also those not seen yet.",
        )
        self.order_fields(["scope", "subject", *(WIRE_NAMES.get(name, name) for name in LIMITS[kind])])

    def guard(self) -> NewGuard:
        """The guard that the form asks for."""
        given = self.cleaned_data
        return NewGuard(
            kind=self.kind.value,
            scope=given["scope"],
            subject=given["subject"] or EACH,
            mode=given["mode"],
            name=given["name"],
            limits=self.limits(),
        )


def _scope_words(scope: Scope) -> str:
    return "the whole tenant" if scope is Scope.TENANT else scope.value.replace("_", " ")


def initial_limits(limits: Mapping[str, int]) -> dict[str, str]:
    """What a form holds for limits, by their names on the wire."""
    return {WIRE_NAMES.get(name, name): _spelled(name, value) for name, value in limits.items()}


def _spelled(name: str, value: int) -> str:
    if name in _NANO:
        return to_usd(value)
    return thousandths(value) if name == "usual_thousandths" else str(value)


def limit_words(guard: Guard) -> str:
    """A guard's limits in a few words: `10 times within 60 s`."""
    limits: Mapping[str, int] = guard.limits
    told = {
        name: wording.usd(value) if name in _NANO else wording.count(value) for name, value in limits.items()
    }
    match GuardKind(guard.kind):
        case GuardKind.REPEAT:
            return f"{told['times']} times within {told['seconds']} s"
        case GuardKind.DEPTH:
            return f"{told['levels']} level{'' if limits['levels'] == 1 else 's'} above"
        case GuardKind.NEWCOMER:
            return f"{told['nano']} in the first {told['minutes']} min"
        case GuardKind.VELOCITY:
            said = [f"{told['nano_per_minute']} a minute"] if "nano_per_minute" in limits else []
            if "usual_thousandths" in limits:
                floor = (
                    f", from {told['usual_floor_nano']} a minute on" if "usual_floor_nano" in limits else ""
                )
                said.append(f"{thousandths(limits['usual_thousandths'])} times the usual minute{floor}")
            return " or ".join(said)
        case GuardKind.CALL:
            names = {"cost_nano": "", "input_tokens": " tokens in", "output_tokens": " tokens out"}
            return " or ".join(f"{told[name]}{text}" for name, text in names.items() if name in limits)


def whose(guard: Guard) -> str:
    """Whose calls a guard watches, in words."""
    if guard.scope == Scope.TENANT:
        return "the whole tenant"
    scope = guard.scope.replace("_", " ")
    return f"each {scope}" if guard.subject == EACH else f"{scope} {guard.subject}"
