"""Money: integer nano-USD inside, decimal strings on the wire, and every rounding there is.

An amount is an int of nano-USD (10**-9 USD). A rate is an int of pico-USD per unit (10**-12 USD), so that the
product of a rate and a count is exact and is rounded once, here. No float appears anywhere.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

NANO: Final = 10**9
"""Nano-USD in one USD."""

PICO: Final = 10**12
"""Pico-USD in one USD; a rate has at most this precision, as numeric(20,12) does."""

PICO_PER_NANO: Final = 1000

LIMIT_NANO_MAX: Final = 2**53
"""The largest amount, about $9.0 million: Lua counts in doubles, which are exact up to here."""

RATE_PICO_MAX: Final = 10**6 * PICO
"""The dearest rate: a million USD for one unit. Beyond it is a typing error, not a price."""

_USD = re.compile(r"(-?)(0|[1-9][0-9]{0,11})(?:\.([0-9]{1,9}))?", re.ASCII)


class BadAmount(ValueError):
    """An amount that cannot be taken as written. `field` names it and `message` says what to send instead."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def to_usd(nano: int) -> str:
    """Returns nano-USD as a canonical decimal string: no exponent, no trailing zeros, "-0" never.

    `to_usd(480_000) == "0.00048"`, `to_usd(10 * NANO) == "10"`, `to_usd(-1) == "-0.000000001"`.
    """
    whole, part = divmod(abs(nano), NANO)
    sign = "-" if nano < 0 else ""
    if not part:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{part:09d}".rstrip("0")


def from_usd(
    text: object, *, field: str, allow_negative: bool = False, max_nano: int = LIMIT_NANO_MAX
) -> int:
    """Returns the nano-USD of a decimal string such as "0.000675", exactly.

    Strict: a string of plain digits with up to nine places; no float, exponent, plus sign, blank, NaN or
    superfluous leading zero. Raises BadAmount for anything else, and for more than `max_nano` either way.
    """
    if not isinstance(text, str):
        raise BadAmount(field, 'must be a decimal string in USD such as "0.25", not a number')
    match = _USD.fullmatch(text)
    if match is None:
        raise BadAmount(field, 'must be a decimal string in USD with up to nine places, such as "0.25"')
    sign, whole, places = match.groups()
    nano = int(whole) * NANO + int((places or "").ljust(9, "0"))
    if sign and not allow_negative:
        raise BadAmount(field, "must not be negative")
    if nano > max_nano:
        raise BadAmount(field, f"must be at most {to_usd(max_nano)} USD")
    return -nano if sign else nano


def divide_up(numerator: int, denominator: int) -> int:
    """Returns the quotient rounded towards plus infinity; the denominator is positive."""
    return -(-numerator // denominator)


def divide_even(numerator: int, denominator: int) -> int:
    """Returns the quotient rounded to the nearest integer, ties to even; the denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def divide_down(numerator: int, denominator: int) -> int:
    """Returns the quotient rounded towards minus infinity; the denominator is positive."""
    return numerator // denominator


def pico_to_nano_up(pico: int) -> int:
    """Returns nano-USD rounded up: for holds and bounds, which may never fall short."""
    return -(-pico // PICO_PER_NANO)


def pico_to_nano_even(pico: int) -> int:
    """Returns nano-USD rounded half to even: for actual costs, so that many of them add up without a bias."""
    return divide_even(pico, PICO_PER_NANO)


def rate_to_pico(rate: Decimal | str, *, field: str) -> int:
    """Returns the pico-USD of a rate in USD per unit, exactly.

    Raises BadAmount when it is not a finite number from 0 to a million USD or has more than twelve places.
    A string is read as a plain decimal; an exponent is refused there and accepted in a Decimal.
    """
    if isinstance(rate, str):
        if re.fullmatch(r"(0|[1-9][0-9]{0,6})(\.[0-9]{1,12})?", rate, re.ASCII) is None:
            raise BadAmount(
                field, 'must be a decimal string in USD with up to twelve places, such as "0.00000015"'
            )
        rate = Decimal(rate)
    if not isinstance(rate, Decimal) or not rate.is_finite() or rate < 0:
        raise BadAmount(field, "must be a decimal number of USD, zero or more")
    if rate * PICO > RATE_PICO_MAX:
        raise BadAmount(field, "must be at most 1000000 USD for one unit")
    pico = int(rate.scaleb(12))
    if Decimal(pico).scaleb(-12) != rate:
        raise BadAmount(field, "must have at most twelve places")
    return pico


def round_rate(rate: Decimal) -> Decimal:
    """Returns a rate in USD per unit rounded half to even to the twelve places that a price row holds."""
    return rate.quantize(Decimal("0.000000000001"))


def pico_to_usd(pico: int, *, units: int = 1) -> str:
    """Returns the price of `units` units at a rate of `pico` pico-USD as a canonical decimal string.

    `pico_to_usd(150_000, units=10**6) == "0.15"`: what a price page prints for a million tokens.
    """
    whole, part = divmod(pico * units, PICO)
    return f"{whole}.{part:012d}".rstrip("0").rstrip(".") if part else str(whole)
