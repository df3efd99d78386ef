"""What an answer of /v1/compare looks like."""

from __future__ import annotations

from typing import Any, Final

from rest_framework import serializers

from budgets.domain.comparison_break_even import Cheaper
from budgets.domain.comparison_figures import Note
from budgets.queries.comparison import CALLS_MAX
from budgets.services.comparison import Basis
from noburn.kit.rest.fields import TimeField, UsdField

_NEVER = {"cheaper": "never", "at": None}
_VERSUS = {
    "model": "anthropic/claude-haiku-4-5",
    "calls": 2,
    "actual_usd": "0.00333",
    "with_caching_usd": "0.0065",
    "with_caching_most_usd": "0.00675",
    "difference_usd": "0.00317",
    "difference_percent": "95.2",
    "without_caching_usd": "0.0425",
    "without_caching_difference_usd": "0.03917",
    "without_caching_difference_percent": "1176.28",
    "left_out": {"no_price": 0, "context_window": 0, "unpriced_units": 0},
    "break_even": {
        "cached_share": _NEVER,
        "cached_share_of_both": _NEVER,
        "input_output_ratio": _NEVER,
        "token_factor": {"cheaper": "below", "at": "0.5123"},
        "written_per_read": "0",
    },
}
_FIGURES = {
    "calls": 2,
    "input_tokens": 41000,
    "output_tokens": 300,
    "cache_read_tokens": 40000,
    "cache_write_tokens": 0,
    "cache_hit_share": "0.9756",
    "actual_usd": "0.00333",
    "list_usd": "0.00333",
    "without_caching_usd": "0.00633",
    "paid_usd_per_million": {"input": "0.076829", "output": "0.6"},
    "list_usd_per_million": {"input": "0.15", "output": "0.6"},
    "candidates": [_VERSUS],
}
EXAMPLE: Final = {
    "basis": "calls",
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": "2026-11-23T00:00:00Z",
    "calls_in_period": 2,
    "calls_from": None,
    "complete_through": "2026-11-22T11:59:58.120000Z",
    "group_by": "model",
    "token_factor": "1",
    "candidates": [
        {
            "model": "anthropic/claude-haiku-4-5",
            "override": None,
            "context_window": 200000,
            "usd_per_million": {
                "input": "1",
                "cache_read": "0.1",
                "cache_write": "1.25",
                "cache_write_1h": "2",
                "output": "5",
            },
            "tiers": False,
        }
    ],
    "totals": _FIGURES,
    "group_count": 1,
    "items": [{"group": {"provider": "openai", "model": "gpt-4o-mini"}, **_FIGURES}],
    "warnings": [
        {
            "code": "tokenizers_differ",
            "model": "anthropic/claude-haiku-4-5",
            "calls": 2,
            "amount_usd": None,
            "message": "It counts the same text in other tokens than the model that was used.",
        }
    ],
    "next_step": None,
}


def _decimal(**options: Any) -> serializers.CharField:
    return serializers.CharField(**options)


class CompareRates(serializers.Serializer[Any]):
    """USD for a million tokens; null where there is none."""

    input = _decimal(allow_null=True)
    output = _decimal(allow_null=True)


class CandidateRates(serializers.Serializer[Any]):
    """USD for a million tokens by today's price, in the first tier; null: charged at the rate of all input."""

    input = _decimal(allow_null=True)
    cache_read = _decimal(allow_null=True)
    cache_write = _decimal(allow_null=True)
    cache_write_1h = _decimal(allow_null=True)
    output = _decimal(allow_null=True)


class CompareCandidate(serializers.Serializer[Any]):
    """A model that calls are priced on, at what the tenant pays for it today."""

    model = serializers.CharField(help_text="Provider and model, as the price book calls them.")
    override = serializers.CharField(allow_null=True, help_text="The negotiated price that it is taken at.")
    context_window = serializers.IntegerField(allow_null=True, help_text="In tokens; null if not known.")
    usd_per_million = CandidateRates(allow_null=True, help_text="Null: it has no price now.")
    tiers = serializers.BooleanField(help_text="Whether long input costs more for each token.")


class CompareCrossing(serializers.Serializer[Any]):
    """Where two costs are equal, and on which side of it the candidate is cheaper."""

    cheaper = serializers.ChoiceField(choices=[word.value for word in Cheaper])
    at = _decimal(allow_null=True, help_text="Null with always, never and same.")


class CompareBreakEven(serializers.Serializer[Any]):
    """Points of equal cost, of tokens alone. What a point does not name stays as it happened."""

    cached_share = CompareCrossing(
        help_text="The share of text input that the candidate reads from its cache; the present model as it happened."
    )
    cached_share_of_both = CompareCrossing(help_text="The same share read from a cache by both models.")
    input_output_ratio = CompareCrossing(allow_null=True, help_text="Input tokens for each output token.")
    token_factor = CompareCrossing(
        allow_null=True,
        help_text="How many tokens the candidate counts where the present model counts one.",
    )
    written_per_read = _decimal(
        help_text="Tokens written into a cache for each token read from it, as it happened; held for other shares."
    )


class CompareLeftOut(serializers.Serializer[Any]):
    """Calls that could not be compared, by why."""

    no_price = serializers.IntegerField()
    context_window = serializers.IntegerField()
    unpriced_units = serializers.IntegerField()


class CompareVersus(serializers.Serializer[Any]):
    """Calls on a candidate. A negative difference: the candidate is cheaper."""

    model = serializers.CharField()
    calls = serializers.IntegerField(help_text="Calls that are compared; all amounts here are of them.")
    actual_usd = UsdField()
    with_caching_usd = UsdField(
        allow_null=True,
        help_text="Cache reads and writes as they happened, at the candidate's rates for them. Null: nothing compared.",
    )
    with_caching_most_usd = UsdField(
        allow_null=True,
        help_text="The same had all input been written that was not read from the cache; null where writes were told.",
    )
    difference_usd = UsdField(
        allow_null=True, allow_negative=True, help_text="with_caching_usd less actual_usd."
    )
    difference_percent = _decimal(allow_null=True)
    without_caching_usd = UsdField(
        allow_null=True, help_text="All input at the candidate's plain input rate."
    )
    without_caching_difference_usd = UsdField(allow_null=True, allow_negative=True)
    without_caching_difference_percent = _decimal(allow_null=True)
    left_out = CompareLeftOut()
    break_even = CompareBreakEven(
        allow_null=True, help_text="Null where the rates are not one straight line for these calls."
    )


class CompareFigures(serializers.Serializer[Any]):
    """What calls used and cost, and would have cost."""

    calls = serializers.IntegerField()
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cache_read_tokens = serializers.IntegerField()
    cache_write_tokens = serializers.IntegerField()
    cache_hit_share = _decimal(allow_null=True, help_text="Cache reads by input; null without input.")
    actual_usd = UsdField(help_text="What the ledger has.")
    list_usd = UsdField(
        allow_null=True, help_text="By the price book's own prices for the models that answered, at the time."
    )
    without_caching_usd = UsdField(
        allow_null=True, help_text="On the same models at the prices paid, without a cache."
    )
    paid_usd_per_million = CompareRates(help_text="Effective rates: what caching and discounts leave.")
    list_usd_per_million = CompareRates(help_text="The price book's rates without a cache.")
    candidates = CompareVersus(many=True, help_text="In the order of `models`.")


class CompareGroup(CompareFigures):
    """One group of calls."""

    group = serializers.DictField(
        child=serializers.CharField(allow_null=True),
        help_text="Provider and model as calls asked for them, or what `group_by` names; null for none.",
    )


class CompareWarning(serializers.Serializer[Any]):
    """What a reader must know."""

    code = serializers.ChoiceField(choices=[note.value for note in Note])
    model = serializers.CharField(allow_null=True, help_text="The candidate that it is about.")
    calls = serializers.IntegerField()
    amount_usd = UsdField(allow_null=True, allow_negative=True)
    message = serializers.CharField()


class CompareAnswer(serializers.Serializer[Any]):
    """A comparison."""

    basis = serializers.ChoiceField(
        choices=[word.value for word in Basis],
        help_text=f"`calls`: every call by itself. `rollups`: sums of all calls. `sample`: the newest {CALLS_MAX} calls.",
    )
    starts_at = TimeField(
        help_text="`from`, or what stands for it, put back to where its day or hour begins."
    )
    ends_at = TimeField()
    calls_in_period = serializers.IntegerField(
        help_text="Calls that the rollups count, presumed ones included."
    )
    calls_from = TimeField(allow_null=True, help_text="When the oldest call of a sample was placed.")
    complete_through = TimeField(
        allow_null=True, help_text="Everything that was acknowledged before it is in calls_in_period."
    )
    group_by = serializers.CharField()
    token_factor = _decimal()
    candidates = CompareCandidate(many=True)
    totals = CompareFigures()
    group_count = serializers.IntegerField(
        help_text="How many groups there are, the dearest of which are shown."
    )
    items = CompareGroup(many=True)
    warnings = CompareWarning(many=True)
    next_step = serializers.CharField(
        allow_null=True, help_text="What to do when there is nothing to compare."
    )
