"""Models compared on the tenant's own calls: what they really cost with caches, and other models beside it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse

from budgets.api.compare import answer_of
from budgets.dashboard.models_base import ModelsPage
from budgets.domain.comparison_question import GROUPS, Period, read_asked
from budgets.services.comparison import compare
from noburn.dashboard.charts import Chart, Series
from noburn.dashboard.exports import export
from noburn.dashboard.forms import PageForm
from noburn.dashboard.wording import usd
from noburn.kit.money import to_usd
from noburn.kit.problems import Invalid
from tenants.domain.roles import Topic

COLUMNS: Final = (
    "group",
    "calls",
    "input_tokens",
    "output_tokens",
    "cache_hit_share",
    "paid_usd",
    "list_usd",
    "paid_input_usd_per_million",
    "list_input_usd_per_million",
    "paid_output_usd_per_million",
    "list_output_usd_per_million",
    "candidate",
    "candidate_calls",
    "candidate_usd",
    "candidate_without_caching_usd",
    "difference_usd",
)
MODEL_CHARS_MAX: Final = 2_000
CHART_GROUPS_MAX: Final = 12


class CompareForm(PageForm):
    """What is to be compared. What is left empty is not asked."""

    models = forms.CharField(
        label="Compare with",
        required=False,
        max_length=MODEL_CHARS_MAX,
        help_text="Up to 10 models with commas between: openai/gpt-4o-mini, anthropic/claude-haiku-4-5. Empty: only what "
        "is paid now.",
    )
    period = forms.ChoiceField(
        choices=[
            (Period.WEEK.value, "Last 7 days"),
            (Period.MONTH.value, "Last 30 days"),
            (Period.CALENDAR_MONTH.value, "This month"),
        ],
        required=False,
    )
    group_by = forms.ChoiceField(
        label="Told apart by",
        choices=[*((group, group.capitalize()) for group in GROUPS), ("tag", "A tag")],
        required=False,
    )
    tag_name = forms.CharField(label="Tag", required=False, max_length=64, help_text="If told apart by one.")
    customer = forms.CharField(label="Only customer", required=False, max_length=200)
    model = forms.CharField(label="Only model", required=False, max_length=200)
    token_factor = forms.CharField(
        label="Token factor",
        required=False,
        max_length=8,
        help_text="By how much candidates with another tokenizer count more: 1.35, say.",
    )

    def asked(self) -> dict[str, str]:
        """The same as parameters of the API's comparison."""
        given = self.cleaned_data
        params = {
            name: given[name] for name in ("models", "customer", "model", "token_factor") if given.get(name)
        }
        group = given.get("group_by") or "model"
        params["group_by"] = f"tag:{given.get('tag_name', '')}" if group == "tag" else group
        params["period"] = given.get("period") or Period.MONTH.value
        return params


class CompareModels(ModelsPage):
    """Effective rates, and candidates beside what is paid."""

    topic = Topic.USAGE
    tab = "model-compare"
    title = "Compare models"
    template_name = "models/compare.html"
    partials = {"comparison": "models/_comparison.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        initial = {"period": Period.MONTH.value, "group_by": "model"}
        form = CompareForm({**initial, **request.GET.dict()})
        answer = self._asked(form)
        if (wanted := request.GET.get("format")) and answer is not None:
            return export(
                wanted, name=f"{self.tenant.slug}-comparison", columns=COLUMNS, rows=list(_lines(answer))
            )
        return self.show(
            form=form, answer=answer, charts=_charts(answer) if answer else [], status=200 if answer else 400
        )

    def _asked(self, form: CompareForm) -> dict[str, Any] | None:
        if not form.is_valid():
            return None
        try:
            asked = read_asked(form.asked(), now=self.now)
            return answer_of(asked, compare(tenant_id=self.tenant_id, asked=asked, now=self.now))
        except Invalid as invalid:
            form.take(
                invalid, **{"group_by": "tag_name"} if form.cleaned_data.get("group_by") == "tag" else {}
            )
            return None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The answer, each group with its name."""
        answer = kwargs.get("answer")
        groups = [(_name(item), _cached(item), item) for item in answer["items"]] if answer else []
        context = {**super().get_context_data(**kwargs), "groups": groups}
        return {**context, "cached": _cached(answer["totals"])} if answer else context


def _name(item: dict[str, Any]) -> str:
    return "/".join(value or "none" for value in item["group"].values())


def _cached(figures: dict[str, Any]) -> str:
    """The share of input that was read from a cache, for people."""
    share = figures["cache_hit_share"]
    return "none" if share is None else f"{(Decimal(share) * 100).normalize():f} %"


def _charts(answer: dict[str, Any]) -> list[Chart]:
    """What all calls cost here and there, and the dearest groups."""
    totals = answer["totals"]
    if not totals["calls"]:
        return []
    beside = [
        (one["model"], one["with_caching_usd"])
        for one in totals["candidates"]
        if one["with_caching_usd"] is not None
    ]
    charts = []
    if beside:
        names, amounts = zip(*beside, strict=True)
        charts.append(
            Chart(
                title="What these calls cost, and would have cost",
                labels=["Paid now", *names],
                series=[Series("USD", [totals["actual_usd"], *amounts])],
                kind="across",
                say=usd,
            )
        )
    dearest = answer["items"][:CHART_GROUPS_MAX]
    charts.append(
        Chart(
            title="What was paid, and the same without caches",
            labels=[_name(item) for item in dearest],
            series=[
                Series("Paid", [item["actual_usd"] for item in dearest]),
                Series("Without caches", [item["without_caching_usd"] for item in dearest]),
            ],
            kind="across",
            say=usd,
        )
    )
    return charts


def _lines(answer: dict[str, Any]) -> list[list[Any]]:
    """One line for each group and candidate."""
    lines = []
    for item in answer["items"]:
        paid, listed = item["paid_usd_per_million"], item["list_usd_per_million"]
        head = [
            _name(item),
            item["calls"],
            item["input_tokens"],
            item["output_tokens"],
            item["cache_hit_share"],
            to_usd(item["actual_usd"]),
            _usd(item["list_usd"]),
            paid["input"],
            listed["input"],
            paid["output"],
            listed["output"],
        ]
        for one in item["candidates"] or [None]:
            lines.append(
                [*head, *[None] * 5]
                if one is None
                else [
                    *head,
                    one["model"],
                    one["calls"],
                    _usd(one["with_caching_usd"]),
                    _usd(one["without_caching_usd"]),
                    _usd(one["difference_usd"]),
                ]
            )
    return lines


def _usd(nano: int | None) -> str | None:
    return None if nano is None else to_usd(nano)
