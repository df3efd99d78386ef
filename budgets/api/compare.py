"""/v1/compare: what the tenant's own calls would have cost on other models; docs/compare.md."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.compare_answer import EXAMPLE, CompareAnswer
from budgets.api.usage import scoped
from budgets.domain.comparison_break_even import BreakEven, Crossing
from budgets.domain.comparison_figures import Candidate, Figures, LeftOut, Versus
from budgets.domain.comparison_notes import warnings_of
from budgets.domain.comparison_parts import INPUTS, OUTPUTS
from budgets.domain.comparison_question import (
    DAYS_MAX,
    FACTOR_MAX,
    FACTOR_MIN,
    FILTERS,
    GROUPS,
    GROUPS_MAX,
    MODELS_MAX,
    Asked,
    Period,
    read_asked,
)
from budgets.domain.pricing_list import MILLION
from budgets.services.comparison import Compared, compare
from noburn.kit.money import PICO, pico_to_usd
from noburn.kit.rest.filters import require_known
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Tenant

PARAMETERS: Final = frozenset(
    {*FILTERS, "models", "from", "to", "period", "group_by", "token_factor", "limit", "format"}
)
NEXT_STEP: Final = (
    "No settled call is in this period, or none fits the filters. Ask for another period, or settle calls with their "
    "usage (POST /v1/settle): a comparison needs token counts."
)
RATES: Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "output": "output_tokens",
}


def _parameter(name: str, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, options.pop("type", str), description=description, **options)


class Compare(TenantView[Tenant]):
    """Models compared on the tenant's calls."""

    topic = Topic.USAGE
    queryset = Tenant.objects.none()
    representation = CompareAnswer

    @extend_schema(
        operation_id="compareModels",
        summary="Compare models on your own calls",
        parameters=[
            _parameter(
                "models",
                f"Up to {MODELS_MAX} models with commas between, as `openai/gpt-4o-mini`. Without any the answer says "
                "what is paid now.",
            ),
            _parameter(
                "period",
                "Whole days of UTC up to now, instead of from and to.",
                enum=[p.value for p in Period],
            ),
            _parameter(
                "from",
                f"RFC 3339 with a zone, at most {DAYS_MAX} days before to (31 if not at midnight UTC). By default "
                "thirty days ago.",
            ),
            _parameter("to", "RFC 3339 with a zone; not included. Now by default."),
            _parameter("group_by", f"{', '.join(GROUPS)}, or a tag as `tag:NAME`.", default="model"),
            *(
                _parameter(name, f"Only calls of this {name}; empty: that named none.")
                for name in FILTERS
                if name != "tag"
            ),
            _parameter("tag", "Only calls with this tag, as `task:summary`."),
            _parameter(
                "token_factor",
                "What token counts are multiplied by for candidates with another tokenizer than the model used: from "
                f"{FACTOR_MIN} to {FACTOR_MAX}.",
                default="1",
            ),
            _parameter(
                "limit",
                "The most groups; the dearest are shown.",
                type={"type": "integer", "minimum": 1, "maximum": GROUPS_MAX, "default": 50},
            ),
        ],
        responses=CompareAnswer,
        examples=[OpenApiExample("A cheaper model", value=EXAMPLE, response_only=True)],
    )
    def ask(self, request: Request) -> Response:
        """Prices the settled calls of a period on other models, each as a settlement would.

        Candidates are taken at what the tenant pays for them today. Read the warnings: they name what a comparison of
        token counts cannot know.
        """
        require_known(request, PARAMETERS)
        asked = read_asked(scoped(request.query_params.dict(), self.access.project), now=self.now)
        return Response(
            CompareAnswer(answer_of(asked, compare(tenant_id=self.tenant_id, asked=asked, now=self.now))).data
        )


def answer_of(asked: Asked, made: Compared) -> dict[str, Any]:
    """A comparison as the answer has it; amounts are nano-USD, which its serializer spells."""
    comparison = made.comparison
    candidates = comparison.candidates
    names = ("provider", "model") if asked.group == "model" else (asked.group,)
    is_tag = asked.group.startswith("tag:")
    return {
        "basis": made.basis.value,
        "starts_at": asked.usage.since,
        "ends_at": asked.usage.until,
        "calls_in_period": made.calls_in_period,
        "calls_from": made.calls_from,
        "complete_through": made.complete_through,
        "group_by": asked.group,
        "token_factor": _plain(asked.token_factor),
        "candidates": [_candidate(candidate) for candidate in candidates],
        "totals": _figures(comparison.totals, candidates),
        "group_count": made.group_count,
        "items": [
            {
                "group": {
                    name: value if is_tag else value or None for name, value in zip(names, group, strict=True)
                },
                **_figures(figures, candidates),
            }
            for group, figures in made.groups
        ],
        "warnings": [
            {
                "code": remark.code.value,
                "model": remark.model,
                "calls": remark.calls,
                "amount_usd": remark.amount_nano,
                "message": remark.message,
            }
            for remark in warnings_of(comparison)
        ],
        "next_step": None if comparison.totals.calls else NEXT_STEP,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    rates = candidate.priced
    prices = None
    if rates is not None:
        prices = {
            name: pico_to_usd(rates.units[unit][0][1], units=MILLION) if unit in rates.units else None
            for name, unit in RATES.items()
        }
    return {
        "model": candidate.name,
        "override": (rates.override or None) if rates is not None else None,
        "context_window": candidate.context_window,
        "usd_per_million": prices,
        "tiers": rates is not None and bool(rates.starts),
    }


def _figures(figures: Figures, candidates: tuple[Candidate, ...]) -> dict[str, Any]:
    read, sent = figures.cache_read_tokens, figures.input_tokens
    return {
        "calls": figures.calls,
        "input_tokens": sent,
        "output_tokens": figures.output_tokens,
        "cache_read_tokens": read,
        "cache_write_tokens": figures.cache_write_tokens,
        "cache_hit_share": rounded(Fraction(read, sent), 4) if sent else None,
        "actual_usd": figures.actual_nano,
        "list_usd": figures.list_nano if figures.listed_calls or not figures.calls else None,
        "without_caching_usd": figures.plain_nano if figures.paid_calls or not figures.calls else None,
        "paid_usd_per_million": {
            "input": per_million(figures.paid_rate(INPUTS)),
            "output": per_million(figures.paid_rate(OUTPUTS)),
        },
        "list_usd_per_million": {
            "input": per_million(figures.list_rate(INPUTS)),
            "output": per_million(figures.list_rate(OUTPUTS)),
        },
        "candidates": [
            _versus(candidate, figures, at, versus)
            for at, (candidate, versus) in enumerate(zip(candidates, figures.versus, strict=True))
        ],
    }


def _versus(candidate: Candidate, figures: Figures, at: int, versus: Versus) -> dict[str, Any]:
    some, more = bool(versus.calls), figures.unseen_writes_nano(at)
    cached, plain = versus.cached_nano - versus.actual_nano, versus.plain_nano - versus.actual_nano
    found = figures.break_even(at)
    return {
        "model": candidate.name,
        "calls": versus.calls,
        "actual_usd": versus.actual_nano,
        "with_caching_usd": versus.cached_nano if some else None,
        "with_caching_most_usd": versus.cached_nano + more if some and more else None,
        "difference_usd": cached if some else None,
        "difference_percent": _percent(cached, versus.actual_nano) if some else None,
        "without_caching_usd": versus.plain_nano if some else None,
        "without_caching_difference_usd": plain if some else None,
        "without_caching_difference_percent": _percent(plain, versus.actual_nano) if some else None,
        "left_out": {why.value: versus.left_out[why] for why in LeftOut},
        "break_even": _break_even(found) if found is not None else None,
    }


def _break_even(found: BreakEven) -> dict[str, Any]:
    return {
        "cached_share": _crossing(found.cached_share),
        "cached_share_of_both": _crossing(found.cached_share_of_both),
        "input_output_ratio": _crossing(found.input_output_ratio),
        "token_factor": _crossing(found.token_factor),
        "written_per_read": rounded(found.written_per_read, 4),
    }


def _crossing(found: Crossing | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "cheaper": found.cheaper.value,
        "at": None if found.at is None else rounded(found.at, 4),
    }


def _percent(difference: int, of: int) -> str | None:
    return rounded(Fraction(100 * difference, of), 2) if of else None


def per_million(pico: Fraction | None) -> str | None:
    return None if pico is None else rounded(pico * MILLION / PICO, 6)


def rounded(value: Fraction, places: int) -> str:
    """A decimal string with at most so many places, half to even."""
    scaled = round(value * 10**places)
    return _plain(Decimal(scaled).scaleb(-places))


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
