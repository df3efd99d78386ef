"""Filters by id: spelled as on the wire, and an error where they are not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django_filters import Filter

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
