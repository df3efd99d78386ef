"""What the double is told to do wrong.

A fault says which requests it hits (`method`, `path` as a regular expression, `account`), what becomes of
them (`kind`), how often (`times`, none for ever) and how likely (`chance`). An outage ends by the clock.

| kind | |
|---|---|
| error_before | 500, nothing was done |
| error_after | 500, but it was done. A repeat is answered as if nothing had been wrong; with `kept`, 500 for ever |
| hang_before, hang_after | no answer for `seconds` of real time, then the connection is closed |
| drop_before, drop_after | the connection is closed at once, without an answer |
| rate_limit | 429 |
| lock | 429, as for a second call on the same object |
| outage | 503 until the clock's `until` |
| dark | as outage, but connections are closed without an answer |
| slow | `seconds` of real time before it is answered |
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal[
    "error_before",
    "error_after",
    "hang_before",
    "hang_after",
    "drop_before",
    "drop_after",
    "rate_limit",
    "lock",
    "outage",
    "dark",
    "slow",
]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass
class Fault:
    """One fault and how often it still happens."""

    kind: Kind
    method: str | None = None
    path: str | None = None
    account: str | None = None
    times: int | None = 1
    chance: float = 1.0
    until: int | None = None
    seconds: float = 30.0
    kept: bool = False
    skip: int = 0
    """So many fitting requests go well first."""
    number: int = 0
    hits: int = field(default=0)

    def fits(self, method: str, path: str, account: str, now: int) -> bool:
        """Says whether a request is one of those meant."""
        return (
            (self.method is None or self.method == method)
            and (self.path is None or re.search(self.path, path) is not None)
            and (self.account is None or self.account == account)
            and (self.until is None or now < self.until)
            and (self.times is None or self.hits < self.times)
        )


class Faults:
    """All faults, in the order in which they were told; the first that fits is the one."""

    def __init__(self) -> None:
        self.all: list[Fault] = []
        self.chance = random.Random(0)  # Faults must be repeatable, not secret.
        self._numbers = itertools.count(1)

    def add(self, values: dict[str, Any], now: int) -> Fault:
        """Adds one. `hours` is `until` counted from now. Raises ValueError for what is unknown."""
        values = dict(values)
        hours = values.pop("hours", None)
        if values.get("kind") not in KINDS:
            raise ValueError(f"kind: one of {', '.join(KINDS)}")
        if hours is not None:
            values["until"] = now + int(float(hours) * 3600)
            values.setdefault("times", None)
        elif values["kind"] in ("outage", "dark"):
            values.setdefault("times", None)
        fault = Fault(**values)
        fault.number = next(self._numbers)
        self.all.append(fault)
        return fault

    def of(self, method: str, path: str, account: str, now: int) -> Fault | None:
        """Returns the fault that hits a request, and counts it; None when all is well."""
        for fault in self.all:
            if not fault.fits(method, path, account, now):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.chance < 1 and self.chance.random() >= fault.chance:
                continue
            fault.hits += 1
            return fault
        return None
