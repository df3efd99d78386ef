"""Filters of lists: declared, strict about their values and about names that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from django import forms
from django.db.models import QuerySet
from django_filters import BooleanFilter, ChoiceFilter, Filter
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import serializers
from rest_framework.request import Request

from noburn.kit.problems import FieldError, Invalid
from noburn.kit.rest.fields import TimeField
from noburn.kit.rest.pages import PARAMETERS

COMMON: Final = PARAMETERS | {"fields", "format"}
"""Parameters that every list takes beside its filters."""

EMPTY: Final = "must not be empty; leave it out to see everything"


def require_known(request: Request, known: Iterable[str]) -> None:
    """Raises Invalid for each query parameter that is not among `known`, or is given twice."""
    names = frozenset(known)
    errors = []
    for name, values in request.query_params.lists():
        if name not in names:
            errors.append(FieldError(name, f"is not a parameter here; there are {', '.join(sorted(names))}"))
        elif len(values) > 1:
            errors.append(FieldError(name, "may be given once"))
        elif "\x00" in values[0]:
            errors.append(FieldError(name, "must not hold null characters"))
    if errors:
        raise Invalid(errors)


def require_filled(request: Request, names: Iterable[str]) -> None:
    """Raises Invalid for each of these query parameters that is there and empty: it would find everything."""
    if empty := [name for name in names if name in request.query_params and not _value(request, name)]:
        raise Invalid([FieldError(name, EMPTY) for name in sorted(empty)])


def _value(request: Request, name: str) -> str:
    return str(request.query_params[name]).strip()


class Filters(DjangoFilterBackend):
    """Applies a view's `filterset_class`. A misspelt filter is an error: it would else answer with everything."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """Returns the rows that every filter lets through."""
        filterset = self.get_filterset(request, queryset, view)
        filters = filterset.filters if filterset is not None else {}
        require_known(request, filters.keys() | COMMON)
        _require_values(request, filters)
        result: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return result


def _require_values(request: Request, filters: Mapping[str, Filter]) -> None:
    """Raises Invalid for a filter that django-filter would pass over in silence, as if it had not been sent."""
    errors = []
    for name in request.query_params:
        if name not in filters:
            continue
        value = _value(request, name)
        if not value:
            errors.append(FieldError(name, EMPTY))
        elif isinstance(filters[name], BooleanFilter) and value not in ("true", "false"):
            errors.append(FieldError(name, "must be true or false"))
        elif (words := _words(filters[name])) and value not in words:
            errors.append(FieldError(name, f"must be one of {', '.join(words)}"))
    if errors:
        raise Invalid(errors)


def _words(filter_: Filter) -> list[str]:
    """The values that a filter by a closed list takes; none for other filters."""
    if not isinstance(filter_, ChoiceFilter):
        return []
    return [str(word) for word, _ in filter_.field.choices if word != ""]


class _InstantField(forms.Field):
    """An instant in a query string, spelled as in bodies."""

    def to_python(self, value: Any) -> datetime | None:
        """Reads an instant. Raises ValidationError."""
        if value in self.empty_values:
            return None
        try:
            # A plus sign that was not escaped arrives as a blank.
            return TimeField().to_internal_value(str(value).replace(" ", "+"))
        except serializers.ValidationError as error:
            raise forms.ValidationError(_first(error.detail)) from None


def _first(detail: Any) -> str:
    return str(detail[0]) if isinstance(detail, list) else str(detail)


class InstantFilter(Filter):
    """A filter by time; the instant names its zone."""

    field_class = _InstantField
