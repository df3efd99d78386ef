"""Serializers' manners: unknown fields are errors, a caller may choose fields, a batch names its items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from rest_framework import serializers

from noburn.kit.problems import FieldError, Invalid

ITEMS_MAX: Final = 1_000
"""The most items of one batch."""


class Strict(serializers.Serializer[Any]):
    """Input in which an unknown field is an error: a typing error must not pass for a default."""

    default_error_messages = {"invalid": "must be an object"}

    def get_fields(self) -> dict[str, Any]:
        """Makes the fields; those with a closed list of values name them when they get another."""
        fields: dict[str, Any] = super().get_fields()
        for field in fields.values():
            chosen = field.child if isinstance(field, serializers.ListField) else field
            if isinstance(chosen, serializers.ChoiceField):
                words = ", ".join(str(word) for word in chosen.choices if word != "")
                chosen.error_messages["invalid_choice"] = f"must be one of {words}"
        return fields

    def to_internal_value(self, data: Any) -> Any:
        """Reads the input. Raises ValidationError with every error."""
        errors: dict[str, Any] = {}
        if isinstance(data, Mapping):
            known = {name for name, field in self.fields.items() if not field.read_only}
            errors = {str(name): ["is not a field here"] for name in data if name not in known}
            errors |= {
                name: [message]
                for name in known
                if name in data and (message := _wrong_type(self.fields[name], data[name]))
            }
        try:
            value = super().to_internal_value(data)
        except serializers.ValidationError as error:
            detail = error.detail
            raise serializers.ValidationError(
                {**errors, **detail} if isinstance(detail, dict) else detail
            ) from None
        if errors:
            raise serializers.ValidationError(errors)
        return value


def _wrong_type(field: Any, value: Any) -> str:
    """What is wrong with the JSON type of a value that its field would convert; "" if nothing is.

    Forms send everything as text, so fields read 5 as "5" and "yes" as true. In JSON that hides a mistake.
    """
    if value is None:
        return ""
    if isinstance(field, serializers.CharField) and not isinstance(value, str):
        return "must be text"
    if isinstance(field, serializers.BooleanField) and not isinstance(value, bool):
        return "must be true or false"
    if isinstance(field, serializers.IntegerField) and (
        isinstance(value, bool) or not isinstance(value, int)
    ):
        return "must be a whole number"
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        return next((message for item in value if (message := _wrong_type(field.child, item))), "")
    return ""


class Representation(serializers.Serializer[Any]):
    """Output of which a caller may choose fields, by `fields=a,b`."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Spells the chosen fields, or all."""
        whole: dict[str, Any] = super().to_representation(instance)
        top = self.parent is None or self.parent.parent is None
        chosen = self.context.get("fields") if top else None
        return whole if chosen is None else {name: value for name, value in whole.items() if name in chosen}


def batch_of(item: type[serializers.Serializer[Any]]) -> serializers.BaseSerializer[Any]:
    """The field `items` of a batch: 1 to 1,000 of these."""
    options: dict[str, Any] = {"many": True, "allow_empty": False, "max_length": ITEMS_MAX}
    return item(**options)


def read_fields(
    params: Mapping[str, str], serializer: type[serializers.BaseSerializer[Any]]
) -> frozenset[str] | None:
    """Reads `fields`; None when all are wanted. Raises Invalid for one that the representation has not."""
    text = params.get("fields")
    if text is None:
        return None
    known = getattr(serializer(), "fields", {})
    chosen = frozenset(name.strip() for name in text.split(","))
    if unknown := sorted(chosen - set(known)):
        message = f"knows no {', '.join(map(repr, unknown[:5]))}; there are {', '.join(known)}"
        raise Invalid([FieldError("fields", message)])
    return chosen


class Items:
    """Runs a batch whole and collects what is wrong with each item; nothing counts unless all of it does.

    Use inside the transaction of the batch: `with items.at(3): service(...)`, and `items.done()` at the end.
    """

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    @contextmanager
    def at(self, index: int) -> Iterator[None]:
        """Runs one item; what its service finds wrong is told under `items[index]`."""
        try:
            yield
        except Invalid as error:
            self._errors += [FieldError(f"items[{index}].{e.field}", e.message) for e in error.errors]

    def wrong(self, index: int, field: str, message: str) -> None:
        """Notes an error of an item."""
        self._errors.append(FieldError(f"items[{index}].{field}", message))

    def done(self) -> None:
        """Raises Invalid with every error there was."""
        if self._errors:
            raise Invalid(self._errors)
