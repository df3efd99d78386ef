"""The original client's bodies and numbers: what is read of them, with every bad field named, and what it is answered.

Its amounts are JSON numbers. They are read and written as decimals, never as floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import msgspec

from budgets.domain.pricing_rates import COUNT_MESSAGE, MAX_COUNT
from budgets.services.snapshots import Snapshot
from noburn.kit.money import LIMIT_NANO_MAX, to_usd
from noburn.kit.problems import FieldError, ProblemError, problem

TEXT_MAX: Final = 200
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def number(nano: int) -> msgspec.Raw:
    """Nano-USD as a JSON number, digit by digit."""
    return msgspec.Raw(to_usd(nano).encode())


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

    def count(self, name: str, *, at_most: int = MAX_COUNT) -> int:
        """A count; a fraction is rounded up. 0 if it is missing."""
        value = self._raw.get(name)
        if value is None:
            return 0
        if type(value) not in (int, Decimal) or not 0 <= value <= at_most:
            self.bad(name, COUNT_MESSAGE if at_most == MAX_COUNT else f"must be from 0 to {at_most}")
            return 0
        return int(Decimal(value).to_integral_value(ROUND_CEILING))

    def amount(self, name: str, *, negative: bool = False) -> int:
        """An amount of USD as nano-USD, rounded to the nearest. 0 if it is missing."""
        value = self._raw.get(name)
        if value is None:
            return 0
        most = Decimal(LIMIT_NANO_MAX).scaleb(-9)
        if type(value) not in (int, Decimal) or not (-most if negative else 0) <= value <= most:
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


def project_of(name: str, snapshot: Snapshot, bound_to: str) -> str:
    """The project that a client names, by its name or its id; `bound_to` is the API key's. Raises ProblemError.

    The client takes 403 alone, beside 401, for a mistake of its user's: after any other failure it lets calls through.
    """
    project = snapshot.named.get(name)
    if project is None:
        detail = f"This API key's tenant has no project {name!r}. Send a project's name or id as project_id."
        raise ProblemError(problem("forbidden-scope", detail))
    if bound_to and project != bound_to:
        raise ProblemError(problem("forbidden-scope", f"This API key belongs to project {bound_to!r}."))
    return project
