"""How figures are written for operators."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

from budgets.queries.bounded import Row
from noburn.kit.money import to_usd

UNKNOWN = "unknown"

_COLOURS = {
    "success": "bg-green-100 text-green-700 dark:bg-green-500/20 dark:text-green-400",
    "danger": "bg-red-100 text-red-700 dark:bg-red-500/20 dark:text-red-400",
    "warning": "bg-orange-100 text-orange-700 dark:bg-orange-500/20 dark:text-orange-400",
    "info": "bg-blue-100 text-blue-700 dark:bg-blue-500/20 dark:text-blue-400",
    "plain": "bg-base-500/8 text-base-700 dark:bg-base-500/20 dark:text-base-200",
}


def amount(metric: str, value: int | None) -> str:
    """An amount in its metric's unit: `0.00048 USD`, `1,200 tokens`; `unknown` for None."""
    if value is None:
        return UNKNOWN
    return f"{to_usd(value)} USD" if metric == "usd" else f"{value:,} {metric}"


def amounts(rows: Iterable[Row]) -> str:
    """Sums by metric, side by side; `none` when there are none."""
    return ", ".join(amount(row["metric"], int(row["amount"])) for row in rows) or "none"


def moment(at: datetime | None, *, never: str = "never") -> str:
    """An instant in UTC to the second."""
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else never


def badge(text: str, kind: str) -> SafeString:
    """A word with a colour: success, danger, warning, info or plain."""
    return format_html(
        '<span class="inline-block font-semibold h-6 leading-6 px-2 rounded-default text-[11px] uppercase '
        'whitespace-nowrap {}">{}</span>',
        _COLOURS[kind],
        text,
    )


def link(url: str, text: str) -> SafeString:
    """A link to a page of the admin."""
    return format_html(
        '<a class="font-medium text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, text
    )


def code(text: object) -> SafeString:
    """An id, which may break anywhere on a narrow screen."""
    return format_html('<code class="break-all text-xs">{}</code>', text)
