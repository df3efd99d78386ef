"""Names of time zones: which ones a tenant or a budget may use."""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

# Entries of the zone database that mean different hours on different machines, or none.
_NOT_PORTABLE = frozenset({"localtime", "Factory", "posixrules"})


@cache
def known_zones() -> frozenset[str]:
    """Returns every IANA zone name this machine knows, without the ones that depend on the machine."""
    return frozenset(available_timezones() - _NOT_PORTABLE)


def is_time_zone(name: str) -> bool:
    """Tells whether `name` is an IANA zone such as `Europe/Berlin` or `UTC`, in its exact spelling."""
    return name in known_zones()
