"""Serializer fields of what the wire spells in a way of its own: amounts, ids, times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from noburn.kit import ids
from noburn.kit.money import LIMIT_NANO_MAX, BadAmount, from_usd, to_usd


@extend_schema_field(
    {
        "type": "string",
        "pattern": r"^-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$",
        "example": "0.25",
        "description": "USD as a decimal string with up to nine places.",
    }
)
class UsdField(serializers.Field[int, Any, str, Any]):
    """An amount: nano-USD inside, a decimal string in USD outside."""

    default_error_messages = {"invalid": 'must be a decimal string in USD such as "0.25"'}

    def __init__(
        self, *, allow_negative: bool = False, max_nano: int = LIMIT_NANO_MAX, **options: Any
    ) -> None:
        super().__init__(**options)
        self._allow_negative, self._max_nano = allow_negative, max_nano

    def to_internal_value(self, data: Any) -> int:
        """Reads nano-USD. Raises ValidationError for anything but a decimal string."""
        try:
            return from_usd(
                data, field="amount", allow_negative=self._allow_negative, max_nano=self._max_nano
            )
        except BadAmount as bad:
            raise serializers.ValidationError(bad.message) from None

    def to_representation(self, value: int) -> str:
        """Spells nano-USD."""
        return to_usd(value)


@extend_schema_field(OpenApiTypes.STR)
class WireIdField(serializers.Field[UUID, Any, str, Any]):
    """An id: a UUID inside, `prefix_…` outside."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self.prefix = prefix
        # Each prefix is a type of its own in the API document.
        self._spectacular_annotation = {
            "field": {
                "type": "string",
                "pattern": f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$",
                "example": ids.encode(prefix, UUID(int=0x01930000_0000_7000_8000_000000000001)),
            }
        }

    def to_internal_value(self, data: Any) -> UUID:
        """Reads a wire id. Raises ValidationError for anything else."""
        try:
            return ids.decode(self.prefix, data if isinstance(data, str) else "")
        except ids.BadId:
            raise serializers.ValidationError(f"must be an id that starts with {self.prefix}_") from None

    def to_representation(self, value: UUID) -> str:
        """Spells a UUID."""
        return ids.encode(self.prefix, value)


class TimeField(serializers.DateTimeField):
    """An instant: aware and UTC inside, RFC 3339 with `Z` outside; input must name its zone."""

    default_error_messages = {
        "zone": 'must name its zone, as in "2026-11-22T12:00:00Z"',
        "range": "must be a time between the years 2000 and 9998",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(default_timezone=UTC, **options)

    def to_internal_value(self, value: Any) -> datetime:
        """Reads an instant. Raises ValidationError, also for a time without a zone."""
        if isinstance(value, str) and not _names_zone(value):
            self.fail("zone")
        try:
            at = super().to_internal_value(value)
        except (OverflowError, ValueError):
            self.fail("range")
        if not 2000 <= at.year <= 9998:
            self.fail("range")
        return at.astimezone(UTC)


def _names_zone(text: str) -> bool:
    tail = text.strip()[10:]
    return tail.endswith(("Z", "z")) or "+" in tail or "-" in tail
