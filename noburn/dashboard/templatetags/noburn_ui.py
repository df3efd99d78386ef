"""Tags and filters of the dashboard's templates: `{% load noburn_ui %}`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from django import template
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect
from django.template import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from noburn.dashboard import navigation, tables, wording
from noburn.dashboard.charts import Chart
from noburn.kit.money import to_usd

register = template.Library()


@register.filter
def usd(nano: int | None) -> str:
    """Writes nano-USD for people: with a title that says the exact amount where three digits do not."""
    if nano is None:
        return wording.NOTHING
    shown, exact = wording.usd(nano), to_usd(nano)
    if shown.replace("$", "").replace(",", "").rstrip("0").rstrip(".") == exact:
        return shown
    return format_html('<span title="{} USD">{}</span>', exact, shown)


@register.filter
def number(value: int | None) -> str:
    """Writes a count with separators."""
    return wording.NOTHING if value is None else wording.count(value)


@register.simple_tag(takes_context=True)
def moment(context: Context, at: datetime | None, kind: str = "minute") -> str:
    """Writes a time in the tenant's zone; `kind` is minute, second or day. UTC is in the title."""
    if at is None:
        return wording.NOTHING
    zone = ZoneInfo(context.get("zone") or "UTC")
    form = {"minute": "%-d %b %Y, %H:%M", "second": "%-d %b %Y, %H:%M:%S", "day": "%-d %b %Y"}[kind]
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        at.isoformat(),
        at.astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%d %H:%M:%S"),
        at.astimezone(zone).strftime(form),
    )


@register.simple_tag(takes_context=True)
def page_url(context: Context, route: str, **kwargs: Any) -> str:
    """The address of another page of this tenant's: `{% page_url "keys" %}`."""
    return navigation.page_url(route, tenant=context["tenant"].slug, **kwargs)


@register.simple_tag(takes_context=True)
def with_query(context: Context, **changes: Any) -> str:
    """This page's query string with some parameters set, and those taken away that are None."""
    return tables.with_query(
        context["request"].GET, **{n: None if v is None else str(v) for n, v in changes.items()}
    )


@register.simple_tag
def once() -> SafeString:
    """Makes a form count once: sent again (a page loaded again, a double click), nothing is done."""
    return format_html('<input type="hidden" name="once" value="{}">', uuid4().hex)


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of static/dashboard/icons.svg; it says nothing by itself, so a word stands beside it."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("dashboard/icons.svg"),
        name,
    )


@register.inclusion_tag("dashboard/components/field.html")
def field(bound: BoundField) -> dict[str, Any]:
    """A form's field with its label, help and errors, tied to each other for screen readers."""
    widget = bound.field.widget
    described = [f"{bound.id_for_label}-help"] if bound.help_text else []
    if bound.errors:
        described.append(f"{bound.id_for_label}-errors")
    attrs: dict[str, Any] = {}
    if described:
        attrs["aria-describedby"] = " ".join(described)
    if bound.errors:
        attrs["aria-invalid"] = "true"
    return {
        "bound": bound,
        "control": mark_safe(bound.as_widget(attrs=attrs)),  # noqa: S308 (Django's widgets escape)
        "is_check": isinstance(widget, CheckboxInput),
        "is_group": isinstance(widget, RadioSelect | CheckboxSelectMultiple),
        "is_hidden": bound.is_hidden,
    }


@register.inclusion_tag("dashboard/components/chart.html")
def chart(drawn: Chart) -> dict[str, Any]:
    """A chart, and the same as a table for whoever wants the numbers."""
    return {
        "chart": drawn,
        "svg": "" if drawn.is_empty else mark_safe(drawn.svg()),  # noqa: S308 (drawn by ElementTree, which escapes)
    }


@register.inclusion_tag("dashboard/components/snippet.html")
def snippet(code: str, *, label: str = "Code", name: str = "") -> dict[str, Any]:
    """Code with a button that copies it."""
    return {"code": code, "label": label, "name": name}


@register.inclusion_tag("dashboard/components/progress.html")
def progress(done: int | None, whole: int | None, *, label: str) -> dict[str, Any]:
    """How much of something is used, in steps of a hundredth: calm, near its end (80 %), or over."""
    share = min(100, done * 100 // whole) if done is not None and whole else 0
    state = "over" if share >= 100 else "near" if share >= 80 else "calm"
    return {"share": share, "state": state, "label": label}
