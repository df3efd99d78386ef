"""Fields of forms for what people write in a way of their own: amounts, moments, lines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django import forms

from noburn.kit.money import BadAmount, from_usd

MOMENT_FORMAT: Final = "%Y-%m-%dT%H:%M"


class UsdField(forms.CharField):
    """An amount in USD as a person writes it (`12.50`, `$1,000`); nano-USD once it is read, None when empty."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("max_length", 30)
        super().__init__(**options)
        self.widget.attrs.setdefault("inputmode", "decimal")

    def clean(self, value: Any) -> Any:
        """Reads it. Raises ValidationError."""
        text = super().clean(value)
        if not text:
            return None
        try:
            return from_usd(plain_number(text.removeprefix("$").replace(",", "")), field="amount")
        except BadAmount as bad:
            raise forms.ValidationError(f"{bad.message[:1].upper()}{bad.message[1:]}.") from None


def plain_number(text: str) -> str:
    """A decimal as the wire spells it: `12.50` and `012` are written by people, `12.5` and `12` are meant."""
    whole, dot, part = text.strip().partition(".")
    if not (whole + part).isascii() or not (whole + part).isdigit():
        return text
    return (whole.lstrip("0") or "0") + (f".{part}" if dot and part else "")


class MomentField(forms.DateTimeField):
    """A moment in the tenant's time zone; aware and in UTC once it is read."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format=MOMENT_FORMAT)

    def __init__(self, **options: Any) -> None:
        options.setdefault("required", False)
        super().__init__(**options)

    def clean(self, value: Any) -> Any:
        """Reads it. Raises ValidationError."""
        at: datetime | None = super().clean(value)
        return None if at is None else at.astimezone(UTC)


class LinesField(forms.CharField):
    """One thing a line; a list of them once it is read, without empty lines."""

    widget = forms.Textarea(attrs={"rows": 4})

    def __init__(self, **options: Any) -> None:
        options.setdefault("required", False)
        super().__init__(**options)

    def clean(self, value: Any) -> Any:
        """Reads them. Raises ValidationError."""
        return [line.strip() for line in super().clean(value).splitlines() if line.strip()]
