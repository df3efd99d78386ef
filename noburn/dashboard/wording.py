"""How amounts and counts are written for people. Exact amounts stand beside, or one click away."""

from __future__ import annotations

from typing import Final

from noburn.kit.money import NANO, divide_even

CENT: Final = NANO // 100
NOTHING: Final = "\N{EN DASH}"
"""Stands where there is no value."""
SIGNIFICANT: Final = 3
"""Digits shown of an amount below a dollar: a call often costs hundredths of a cent."""


def usd(nano: int) -> str:
    """Returns nano-USD for people: `$1,234.50`, `$0.000675`, `-$3.00`; below a dollar three digits that count."""
    sign, amount = ("-" if nano < 0 else ""), abs(nano)
    if amount == 0 or amount >= NANO:
        cents = divide_even(amount, CENT)
        return f"{sign}${cents // 100:,}.{cents % 100:02d}"
    places = max(2, 9 - len(str(amount)) + SIGNIFICANT)
    if places >= 9:
        part = f"{amount:09d}"
    else:
        scaled = divide_even(amount, 10 ** (9 - places))
        if scaled == 10**places:
            return f"{sign}$1.00"
        part = f"{scaled:0{places}d}"
    return f"{sign}$0.{part[:2]}{part[2:].rstrip('0')}"


def count(number: int) -> str:
    """Returns a number for people: `12,345`."""
    return f"{number:,}"
