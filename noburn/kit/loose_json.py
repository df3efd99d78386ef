"""JSON of clients that are not ours to change: read field by field, with every bad one named.

Amounts are JSON numbers there. They are read and written as decimals, never as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from noburn.kit.money import LIMIT_NANO_MAX, to_usd
from noburn.kit.problems import FieldError, ProblemError, problem

TEXT_MAX: Final = 200
COUNT_MAX: Final = 10**9
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def number(nano: int) -> msgspec.Raw:
    """Nano-USD as a JSON number, digit by digit."""
    return msgspec.Raw(to_usd(nano).encode())


def decimal_of(text: str | None) -> object:
    """A number of an address as it would stand in a body; text that is no number stays what it is."""
    try:
        return None if text is None else Decimal(text[:TEXT_MAX])
    except InvalidOperation:
        return text


def object_of(body: bytes) -> dict[str, Any]:
    """Reads a body that must be a JSON object. Raises ProblemError."""
    if b"\\u0000" in body:
        raise ProblemError(problem("invalid-request", "No text may contain the character \\u0000."))
    try:
        raw = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(problem("invalid-request", f"The body is not JSON in UTF-8: {error}.")) from error
    if type(raw) is not dict:
        raise ProblemError(problem("invalid-request", "The body must be a JSON object."))
    return raw


class Fields:
    """Reads fields one by one and remembers what is wrong with each; null is as good as missing."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self._errors: list[FieldError] = []

    def bad(self, name: str, message: str) -> None:
        """Notes that a field is wrong."""
        self._errors.append(FieldError(name, message))

    def text(self, name: str, *, needed: bool = False) -> str:
        """A text, or a whole number taken as one; empty if it is missing."""
        value = self._raw.get(name)
        if type(value) is int:
            value = str(value)
        if value is None or value == "":
            if needed:
                self.bad(name, "is missing")
            return ""
        if not isinstance(value, str):
            self.bad(name, "must be a text")
            return ""
        if len(value) > TEXT_MAX:
            self.bad(name, f"at most {TEXT_MAX} characters")
            return ""
        return value

    def count(self, name: str, *, at_most: int = COUNT_MAX) -> int:
        """A count; a fraction is rounded up. 0 if it is missing."""
        value = self._raw.get(name)
        if value is None:
            return 0
        if type(value) not in (int, Decimal) or not 0 <= value <= at_most:
            self.bad(name, f"must be a number from 0 to {at_most}")
            return 0
        return int(Decimal(value).to_integral_value(ROUND_CEILING))

    def amount(self, name: str, *, negative: bool = False) -> int:
        """An amount of USD as nano-USD, rounded to the nearest. 0 if it is missing."""
        value = self._raw.get(name)
        if value is None:
            return 0
        most = Decimal(LIMIT_NANO_MAX).scaleb(-9)
        numeric = type(value) is int or (type(value) is Decimal and value.is_finite())
        if not numeric or not (-most if negative else 0) <= value <= most:
            self.bad(name, f"must be a number of USD {'within' if negative else 'from 0 to'} {most:f}")
            return 0
        return int((Decimal(value) * 10**9).to_integral_value(ROUND_HALF_EVEN))

    def flag(self, name: str) -> bool:
        """True or false; false if it is missing."""
        value = self._raw.get(name)
        if value is not None and type(value) is not bool:
            self.bad(name, "must be true or false")
        return value is True

    def done(self) -> None:
        """Raises ProblemError if any field was wrong."""
        if self._errors:
            raise ProblemError(problem("invalid-request", "Some fields are not valid.", self._errors))
