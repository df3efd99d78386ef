"""Charts as SVG within the page: drawn here, coloured by the page's style sheet, readable without JavaScript."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree

import pygal
from pygal.style import Style

# It looks for chart plug-ins at every import of the process, in a way that Python has given up; none is used here.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

WIDTH: Final = 720
HEIGHT: Final = 240
LABELS_MAX: Final = 8
POINTS_MAX: Final = 400
SERIES_MAX: Final = 8

KINDS: Final[dict[str, Any]] = {
    "line": pygal.Line,
    "bars": pygal.Bar,
    "stacked": pygal.StackedBar,
    "across": pygal.HorizontalBar,
}


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one set of bars: its name, and a value for each label (None: nothing is known)."""

    name: str
    values: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart shows; `title` tells it to those who do not see it, `say` writes a value."""

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    kind: str = "line"
    say: Callable[[int], str] = field(default=str)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(value for each in self.series for value in each.values)

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The same as a table: a label, and what each series says of it."""
        return [
            (label, [self._said(each.values[at]) for each in self.series])
            for at, label in enumerate(self.labels)
        ]

    def _said(self, value: int | None) -> str:
        return "" if value is None else self.say(value)

    def svg(self) -> str:
        """Draws it. Raises ValueError for more than can be read, or series of another length than the labels."""
        if len(self.labels) > POINTS_MAX or len(self.series) > SERIES_MAX:
            raise ValueError(f"a chart shows at most {SERIES_MAX} series of {POINTS_MAX} points")
        if any(len(each.values) != len(self.labels) for each in self.series):
            raise ValueError("each series needs a value for each label")
        drawn = KINDS[self.kind](
            width=WIDTH,
            height=HEIGHT if self.kind != "across" else max(120, 34 * len(self.labels)),
            js=[],
            css=[],
            show_legend=False,
            show_dots=len(self.labels) <= 62,
            dots_size=3,
            margin=8,
            truncate_label=-1,
            max_scale=5,
            min_scale=2,
            include_x_axis=True,
            rounded_bars=2,
            style=Style(label_font_size=12, major_label_font_size=12, font_family="sans-serif"),
            value_formatter=lambda value: self._said(round(value)),
            formatter=lambda value: self._said(None if value is None else round(value)),
        )
        if self.kind == "across":
            drawn.x_labels = list(self.labels)
        else:
            every = -(-len(self.labels) // LABELS_MAX) if self.labels else 1
            drawn.x_labels = list(self.labels)
            drawn.x_labels_major = list(self.labels)[::every]
            drawn.show_minor_x_labels = False
        for each in self.series:
            drawn.add(each.name, list(each.values))
        return _dressed(drawn.render_tree(), self.title)


def _dressed(tree: ElementTree.Element, title: str) -> str:
    """Takes away what pages must not hold (style, script, tool tips), and says values where a mouse rests."""
    for parent in list(tree.iter()):
        for child in list(parent):
            tag = _name(child)
            if tag in ("defs", "style", "script") or "tooltip" in child.get("class", "").split():
                parent.remove(child)
            elif tag == "desc":
                _say_value(parent, child)
            elif tag == "title" and parent is tree:
                parent.remove(child)
    for element in tree.iter():
        element.attrib.pop("style", None)
        if element.get("id") is not None:
            del element.attrib["id"]
    tree.set("class", "chart-svg")
    tree.set("role", "img")
    tree.set("aria-label", title)
    # The namespace is implied within HTML, and its prefix would hide the elements from the style sheet.
    for element in tree.iter():
        if isinstance(element.tag, str):
            element.tag = _name(element)
    return ElementTree.tostring(tree, encoding="unicode")


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _say_value(parent: ElementTree.Element, told: ElementTree.Element) -> None:
    if told.get("class") == "value" and told.text:
        label = next((each.text or "" for each in parent if each.get("class") == "x_label"), "")
        shown = ElementTree.SubElement(parent, "title")
        shown.text = f"{label}: {told.text}" if label else told.text
    parent.remove(told)
