"""Filters by id: spelled as on the wire, and an error where they are not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django_filters import Filter
from drf_spectacular.utils import extend_schema_field

from noburn.kit import ids


class _WireIdFormField(forms.Field):
    def __init__(self, *, prefixes: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self._prefixes = prefixes

    def to_python(self, value: Any) -> UUID | None:
        """Reads an id. Raises ValidationError."""
        if value in self.empty_values:
            return None
        for prefix in self._prefixes:
            try:
                return ids.decode(prefix, str(value))
            except ids.BadId:
                continue
        raise forms.ValidationError(
            f"must be an id that starts with {' or '.join(f'{p}_' for p in self._prefixes)}"
        )


class WireIdFilter(Filter):
    """Those of one thing, named by its wire id."""

    field_class = _WireIdFormField

    def __init__(self, *prefixes: str, **options: Any) -> None:
        super().__init__(prefixes=prefixes, **options)
        letters = "[0-7][0-9a-hjkmnp-tv-z]{25}"
        # The API document would else take the type of the column.
        extend_schema_field({"type": "string", "pattern": f"^({'|'.join(prefixes)})_{letters}$"})(self)
