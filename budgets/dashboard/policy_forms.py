"""The editor of a policy: its own fields and a form for each rule, or the whole as the API's JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from django import forms
from django.http import QueryDict
from rest_framework.exceptions import ValidationError as Unreadable

from budgets.api.policies import PolicyIn
from budgets.dashboard.policy_words import NAMES, SPANS, percent
from budgets.domain.routing import DAYS, OUTPUTS, TIERS, Outcome
from budgets.domain.routing_rules import NAME_LENGTH_MAX
from budgets.services.routing import InvalidPolicy, PolicyFields
from noburn.dashboard import wording
from noburn.dashboard.fields import LinesField, plain_number
from noburn.dashboard.forms import PageForm
from noburn.kit.problems import FieldError, Invalid
from noburn.kit.rest.handler import field_errors

FORM_RULES_MAX: Final = 30
"""The most rules that are edited in fields: a page sends at most 1,000 of them. More are edited as JSON."""

JSON_CHARS_MAX: Final = 200_000
TEXT_MAX: Final = 5_000
ACTIONS: Final = [
    (Outcome.USE_MODEL.value, "uses this model"),
    (Outcome.USE_TIER.value, "uses this tier of its provider"),
    (Outcome.ALLOW.value, "goes on as it is"),
    (Outcome.BLOCK.value, "is refused"),
]
_PLACE: Final = re.compile(r"rules\[([0-9]+)\]\.?(.*)")


class NamesField(forms.CharField):
    """Names with commas between; one that has a comma itself stands in quotes. A list once it is read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=TEXT_MAX, **options)

    def clean(self, value: Any) -> Any:
        """Reads them. Raises ValidationError."""
        return _cells(super().clean(value))


def _cells(text: str) -> list[str]:
    try:
        cells = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error:
        raise forms.ValidationError("Must be one line, with commas between.") from None
    return [cell.strip() for cell in cells if cell.strip()]


def _spelled(names: Sequence[str]) -> str:
    return ", ".join(
        '"' + name.replace('"', '""') + '"' if set(name) & {",", '"'} else name for name in names
    )


class _PercentField(forms.CharField):
    """A percentage; a share as the API spells it once it is read, None when empty."""

    def clean(self, value: Any) -> Any:
        """Reads it. Raises ValidationError."""
        text = super().clean(value)
        try:
            return f"{(Decimal(plain_number(text)) / 100).normalize():f}" if text else None
        except InvalidOperation:
            raise forms.ValidationError("Write a percentage such as 80.") from None


def _number(label: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, required=False, min_value=0)


def _clock(label: str) -> forms.CharField:
    widget = forms.TextInput(attrs={"placeholder": "HH:MM", "inputmode": "numeric"})
    return forms.CharField(label=label, required=False, max_length=5, widget=widget)


class RuleForm(PageForm):
    """One rule. What is left empty asks for nothing."""

    name = forms.CharField(label="Name of the rule", max_length=NAME_LENGTH_MAX)
    task = NamesField(label="Task")
    output = forms.MultipleChoiceField(
        label="Output", required=False, choices=[(o, o) for o in OUTPUTS], widget=forms.CheckboxSelectMultiple
    )
    provider = NamesField(label="Provider")
    model = NamesField(label="Model")
    input_tokens_min = _number("Input tokens, at least")
    input_tokens_max = _number("Input tokens, at most")
    max_output_tokens_min = _number("Output tokens, at least")
    max_output_tokens_max = _number("Output tokens, at most")
    steps_min = _number("Steps, at least")
    steps_max = _number("Steps, at most")
    customer = NamesField(label="Customer")
    plan = NamesField(label="Plan")
    project = NamesField(label="Project")
    tags = LinesField(
        label="Tags",
        max_length=TEXT_MAX,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="One a line: team = blue, green",
    )
    days = forms.MultipleChoiceField(
        label="Days", required=False, choices=[(d, d) for d in DAYS], widget=forms.CheckboxSelectMultiple
    )
    time_from = _clock("From")
    time_to = _clock("To")
    utilization_min = _PercentField(label="Budget used, at least %", required=False, max_length=12)
    utilization_max = _PercentField(label="Budget used, at most %", required=False, max_length=12)
    action = forms.ChoiceField(label="Then the call", choices=ACTIONS)
    use_model = forms.CharField(label="Model to use", required=False, max_length=NAME_LENGTH_MAX)
    tier = forms.ChoiceField(
        label="Tier to use", required=False, choices=[("", wording.NOTHING), *((t, t) for t in TIERS)]
    )

    COMMON: Final = ("task", "output", "input_tokens_min", "input_tokens_max", "provider", "model")

    def common(self) -> list[forms.BoundField]:
        """The conditions that most rules are made of."""
        return [self[name] for name in self.COMMON]

    def others(self) -> list[forms.BoundField]:
        """All other conditions."""
        done = {*self.COMMON, "name", "action", "use_model", "tier"}
        return [self[name] for name in self.fields if name not in done]

    def has_others(self) -> bool:
        """Whether any of the other conditions is filled in, or wrong."""
        return any(bound.errors or bound.value() for bound in self.others())

    def clean_tags(self) -> dict[str, list[str]]:
        """Each tag with its values."""
        tags: dict[str, list[str]] = {}
        for line in self.cleaned_data["tags"]:
            name, equals, values = line.partition("=")
            if not equals or not name.strip() or not _cells(values):
                raise forms.ValidationError(f"“{line[:80]}” must be a tag's name, = and its values.")
            if name.strip() in tags:
                raise forms.ValidationError(f"{name.strip()} stands there twice.")
            tags[name.strip()] = _cells(values)
        return tags

    def rule(self) -> dict[str, Any]:
        """The rule as the API has it."""
        given = self.cleaned_data
        when: dict[str, Any] = {name: given[name] for name in (*NAMES, "tags") if given[name]}
        for name in (*SPANS, "utilization"):
            span = {at: v for at in ("min", "max") if (v := given[f"{name}_{at}"]) is not None}
            when |= {name: span} if span else {}
        time = {"days": given["days"], "from": given["time_from"], "to": given["time_to"]}
        time = {name: value for name, value in time.items() if value}
        when |= {"time": time} if time else {}
        then = {"action": given["action"], "model": given["use_model"], "tier": given["tier"]}
        return {
            "name": given["name"],
            **({"when": when} if when else {}),
            "then": {name: value for name, value in then.items() if value},
        }

    def field_of(self, place: str) -> str | None:
        """The field that an error of the API's is about; None: the rule as a whole."""
        part, _, rest = place.partition(".")
        first, second = ([*re.split(r"[.\[\]]+", rest), ""])[:2]
        if part == "then":
            return {"model": "use_model"}.get(first, first)
        if part == "when" and first == "time":
            return {"to": "time_to", "days": "days"}.get(second, "time_from")
        if part == "when" and f"{first}_min" in self.fields:
            return f"{first}_{second if second in ('min', 'max') else 'min'}"
        return first if part == "when" else part or None


def initial_of(rule: Mapping[str, Any]) -> dict[str, Any]:
    """What the form of a rule holds."""
    when, then = rule.get("when") or {}, rule["then"]
    time = when.get("time") or {}
    made: dict[str, Any] = {name: _spelled(when.get(name) or ()) for name in NAMES if name != "output"}
    for name in SPANS:
        made |= {f"{name}_{at}": (when.get(name) or {}).get(at) for at in ("min", "max")}
    shares = when.get("utilization") or {}
    return {
        **made,
        "name": rule["name"],
        "output": when.get("output") or [],
        "tags": "\n".join(f"{name} = {_spelled(v)}" for name, v in (when.get("tags") or {}).items()),
        "days": time.get("days") or [],
        "time_from": time.get("from", ""),
        "time_to": time.get("to", ""),
        **{f"utilization_{at}": percent(shares[at]) if at in shares else "" for at in ("min", "max")},
        "action": then["action"],
        "use_model": then.get("model", ""),
        "tier": then.get("tier", ""),
    }


class PolicyForm(PageForm):
    """A policy but for its rules."""

    name = forms.CharField(max_length=NAME_LENGTH_MAX)
    enabled = forms.BooleanField(required=False, initial=True, label="Calls go by it")
    position = forms.IntegerField(
        initial=0, min_value=0, max_value=1_000_000, help_text="Policies are gone through by it, then by age."
    )
    time_zone = forms.CharField(
        required=False, max_length=64, help_text="Of its rules' hours, such as Europe/Berlin. Empty: yours."
    )
    tiers = LinesField(
        max_length=TEXT_MAX,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="A line for each provider: its name, the small model, the big one, such as "
        "openai, gpt-4o-mini, gpt-4.1. One of the two may be left empty.",
    )

    def clean_tiers(self) -> dict[str, dict[str, str]]:
        """Each provider with its models."""
        tiers: dict[str, dict[str, str]] = {}
        for line in self.cleaned_data["tiers"]:
            provider, *models = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
            if not provider or not 1 <= len(models) <= len(TIERS) or not any(models):
                raise forms.ValidationError(
                    f"“{line[:80]}” must be a provider, its small model, its big one."
                )
            if provider in tiers:
                raise forms.ValidationError(f"{provider} stands there twice.")
            tiers[provider] = {tier: m for tier, m in zip(TIERS, models, strict=False) if m}
        return tiers

    def own(self) -> list[forms.BoundField]:
        """What stands beside each other."""
        return [self[name] for name in ("name", "position", "time_zone", "enabled")]

    def below(self) -> list[forms.BoundField]:
        """What needs all of the width."""
        return [self[name] for name in ("tiers", "document") if name in self.fields]


class JsonForm(PolicyForm):
    """A policy of which rules and tiers are written as over the API."""

    tiers = None  # type: ignore[assignment]  # Django's way to leave a field of the base out
    document = forms.CharField(
        label="Rules and tiers (JSON)",
        max_length=JSON_CHARS_MAX,
        widget=forms.Textarea(attrs={"rows": 24, "spellcheck": "false", "class": "mono"}),
        help_text="An object with rules and tiers, as in POST /v1/policies.",
    )

    def clean_document(self) -> dict[str, Any]:
        """The object."""
        try:
            read = json.loads(self.cleaned_data["document"])
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is no JSON: {str(error)[:200]}.") from None
        if not isinstance(read, dict) or set(read) - {"rules", "tiers"}:
            raise forms.ValidationError("It must be an object with rules and tiers alone.")
        return read


def read_policy(data: Mapping[str, Any]) -> PolicyFields:
    """Reads a policy as the API does. Raises InvalidPolicy with every error."""
    reader = PolicyIn(data=data)
    try:
        reader.is_valid(raise_exception=True)
    except Unreadable as unreadable:
        raise InvalidPolicy(field_errors(unreadable.detail)) from None
    policy = PolicyFields(**{"tiers": {}, **reader.validated_data})
    if errors := policy.errors():
        raise InvalidPolicy(errors)
    return policy


@dataclass
class Editor:
    """A policy that is being edited: as fields, or as JSON."""

    form: PolicyForm
    rules: list[RuleForm] = field(default_factory=list)
    as_json: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any], *, as_json: bool = False) -> Editor:
        """An editor of a policy that is there; as JSON where fields cannot say the same."""
        own = {name: fields[name] for name in ("name", "enabled", "position")}
        own["time_zone"] = fields["time_zone"] or ""
        if not as_json:
            tiers = "\n".join(
                _spelled([provider, *(named.get(t, "") for t in TIERS)])
                for provider, named in fields["tiers"].items()
            )
            rules = [initial_of(rule) for rule in fields["rules"]]
            if len(rules) <= FORM_RULES_MAX and _says_the_same(fields, {**own, "tiers": tiers}, rules):
                return cls(PolicyForm(initial={**own, "tiers": tiers}), _unbound(rules))
        document = {"rules": fields["rules"], "tiers": fields["tiers"]}
        return cls(JsonForm(initial={**own, "document": json.dumps(document, indent=2)}), as_json=True)

    @classmethod
    def blank(cls) -> Editor:
        """An editor of a policy that is not there yet, with room for a first rule."""
        return cls(PolicyForm(), _unbound([{"action": Outcome.USE_MODEL.value}]))

    @classmethod
    def sent(cls, data: QueryDict) -> Editor:
        """What a page sent."""
        if data.get("as") == "json":
            return cls(JsonForm(data), as_json=True)
        return cls(PolicyForm(data), [RuleForm(data, prefix=f"r{at}") for at in range(_count(data))])

    @classmethod
    def changed(cls, data: QueryDict, do: str) -> Editor:
        """What a page sent, with a rule added (`add`), moved (`up:2`, `down:2`) or taken away (`remove:2`)."""
        rules = [_raw(data, at) for at in range(_count(data))]
        verb, _, text = do.partition(":")
        at = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else len(rules)
        if verb == "add" and len(rules) < FORM_RULES_MAX:
            rules.append({"action": Outcome.USE_MODEL.value})
        elif at < len(rules):
            taken = rules.pop(at)
            if verb != "remove":
                rules.insert(max(0, at - 1) if verb == "up" else at + 1, taken)
        own = {name: data.get(name, "") for name in PolicyForm.base_fields}
        return cls(PolicyForm(initial={**own, "enabled": "enabled" in data}), _unbound(rules))

    @property
    def may_add(self) -> bool:
        """Whether there is room for another rule."""
        return len(self.rules) < FORM_RULES_MAX

    def read(self) -> PolicyFields | None:
        """The policy; None with every error at its field."""
        if not all([self.form.is_valid(), *(rule.is_valid() for rule in self.rules)]):
            return None
        given = self.form.cleaned_data
        inner = given["document"] if self.as_json else {"tiers": given["tiers"]}
        if not self.as_json:
            inner["rules"] = [rule.rule() for rule in self.rules]
        own = {name: given[name] for name in ("name", "enabled", "position")}
        try:
            return read_policy({**own, "time_zone": given["time_zone"] or None, **inner})
        except InvalidPolicy as invalid:
            self.take(invalid)
            return None

    def take(self, invalid: Invalid) -> None:
        """Shows a service's errors where they belong."""
        for error in invalid.errors:
            found = _PLACE.fullmatch(error.field)
            if found and not self.as_json and int(found[1]) < len(self.rules):
                form = self.rules[int(found[1])]
                named = form.field_of(found[2])
                where = named if named in form.fields else "rule"
                form.take(Invalid([FieldError(where, error.message)]))
            elif error.field.partition("[")[0].partition(".")[0] in ("rules", "tiers", "body"):
                self.form.take(Invalid([FieldError(self._home(error), f"{error.field} {error.message}")]))
            else:
                self.form.take(Invalid([error]))

    def _home(self, error: FieldError) -> str:
        if self.as_json:
            return "document"
        return "tiers" if error.field.startswith("tiers") else "policy"


def _count(data: QueryDict) -> int:
    text = data.get("rules", "")
    return min(int(text), FORM_RULES_MAX) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def _raw(data: QueryDict, at: int) -> dict[str, Any]:
    several = {
        name for name, one in RuleForm.base_fields.items() if isinstance(one, forms.MultipleChoiceField)
    }
    return {
        name: data.getlist(f"r{at}-{name}") if name in several else data.get(f"r{at}-{name}", "")
        for name in RuleForm.base_fields
    }


def _unbound(rules: Sequence[Mapping[str, Any]]) -> list[RuleForm]:
    return [RuleForm(initial=dict(rule), prefix=f"r{at}") for at, rule in enumerate(rules)]


def _says_the_same(
    fields: Mapping[str, Any], own: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether a policy that is sent as its fields show it is the same one: not where a tag's name has an `=`."""
    form, made = PolicyForm(dict(own)), [RuleForm(dict(rule)) for rule in rules]
    if not all([form.is_valid(), *(one.is_valid() for one in made)]):
        return False
    again = {"rules": [one.rule() for one in made], "tiers": form.cleaned_data["tiers"]}
    return all(_plain(again[name]) == _plain(fields[name]) for name in again)


def _plain(said: Any) -> str:
    """Spells rules so that those are equal which say the same: `"0.80"` is 0.8, and no condition is none."""

    def without(value: Any) -> Any:
        if isinstance(value, Mapping):
            kept = {name: without(inner) for name, inner in value.items()}
            for at in ("min", "max"):
                if isinstance(kept.get(at), str):
                    kept[at] = percent(kept[at])
            return {name: inner for name, inner in kept.items() if inner not in ({}, None)}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(without(said), sort_keys=True)
