"""Filters that are true or false, and nothing else: a misspelt one must not answer with everything."""

from __future__ import annotations

from typing import Any

import django_filters


def flag(**options: Any) -> django_filters.TypedChoiceFilter:
    """Returns a filter that takes `true` or `false`."""
    return django_filters.TypedChoiceFilter(
        choices=[("true", "true"), ("false", "false")], coerce=lambda value: value == "true", **options
    )
