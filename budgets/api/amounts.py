"""Limits and amounts on the wire: `limit_usd` is a decimal string, `limit_tokens` and `limit_requests` are numbers.

Which of the three an object has follows from its budget's metric; the other two are not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rest_framework import serializers
from rest_framework.fields import SkipField

from budgets.domain.budget_rules import COUNT_MAX, LIMIT_USD_MAX
from budgets.domain.policy import Metric
from noburn.kit.money import NANO, to_usd
from noburn.kit.problems import FieldError
from noburn.kit.rest.fields import UsdField

METRICS: Final = tuple(Metric)


class CountField(serializers.IntegerField):
    """A whole number, which a text of digits is not."""

    def to_internal_value(self, data: Any) -> int:
        """Reads a number. Raises ValidationError."""
        # 5.0 is a whole number in JSON, where numbers have no kinds; 1e400 is read as infinity.
        if isinstance(data, bool) or not isinstance(data, int | float) or not (float(data).is_integer()):
            self.fail("invalid")
        return int(super().to_internal_value(int(data)))


def _read(instance: Any, name: str) -> Any:
    return instance[name] if isinstance(instance, Mapping) else getattr(instance, name)


def _metric_of(instance: Any) -> str:
    if isinstance(instance, Mapping) or hasattr(instance, "metric"):
        return str(_read(instance, "metric"))
    return str(instance.budget.metric)


class _OfMetric(serializers.Field[Any, Any, Any, Any]):
    """A field that only objects of one metric have; `attribute` is where its amount stands."""

    def __init__(self, metric: str, attribute: str, **options: Any) -> None:
        super().__init__(required=False, **options)
        self.metric, self.attribute = metric, attribute

    def get_attribute(self, instance: Any) -> Any:
        """Returns the amount. Raises SkipField for an object of another metric."""
        if _metric_of(instance) != self.metric:
            raise SkipField
        return _read(instance, self.attribute)


class UsdOf(_OfMetric, UsdField):
    """An amount of USD, of objects that count USD."""


class CountOf(_OfMetric, serializers.IntegerField):
    """A number, of objects that count tokens or requests."""


def usd_in(**options: Any) -> UsdField:
    """An amount of USD to be read."""
    return UsdField(required=False, max_nano=LIMIT_USD_MAX * NANO, **options)


def count_in(**options: Any) -> CountField:
    """A number of tokens or requests to be read."""
    return CountField(required=False, min_value=0, max_value=COUNT_MAX, **options)


def take_amount(
    values: dict[str, Any], metric: str, *, word: str = "limit", required: bool = True
) -> tuple[str | int | None, list[FieldError]]:
    """Takes `limit_…` (or `amount_…`) out of a read body: the one of this metric, and what is wrong with the choice."""
    found: str | int | None = None
    errors = []
    for each in METRICS:
        field = f"{word}_{each.value}"
        value = values.pop(field, None)
        if each == metric:
            found = to_usd(value) if value is not None and each is Metric.USD else value
            if found is None and required:
                errors.append(FieldError(field, "is required"))
        elif value is not None:
            errors.append(FieldError(field, f"is for budgets of {each.value}; this one counts {metric}"))
    return found, errors
