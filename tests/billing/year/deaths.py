"""How workers die in a year: their code ends at a step, or their process is killed there."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from billing.services import credit_notes, freezing, plan_reports, pushing, quiet, sending, stripe_inbox

STEPS = {
    "passed over": quiet,
    "frozen": freezing,
    "marked": pushing,
    "answered": pushing,
    "written": pushing,
    "checked": sending,
    "credit note issued": credit_notes,
    "plan frozen": plan_reports,
    "plan marked": plan_reports,
    "plan answered": plan_reports,
    "plan written": plan_reports,
    "handler done": stripe_inbox,
}
DEATHS = (
    ("freeze", "passed over"), ("freeze", "frozen"), ("push", "marked"), ("push", "answered"), ("push", "written"),
)  # fmt: skip
"""Steps at which a worker's process is killed, one after the other; besides at `checked`, whenever it comes to it."""

PLAN_DEATHS = (
    ("plans", "plan frozen"), ("plans", "plan marked"), ("plans", "plan answered"), ("plans", "plan written"),
)  # fmt: skip


class Death(BaseException):
    """A worker's end in the midst of its work: nothing catches it."""


class Dying:
    """Within it a worker's code comes to a step so often, and ends there."""

    def __init__(self, step: str | None, times: int) -> None:
        self.step, self.left = step, times
        self._kept: list[tuple[ModuleType, Any]] = []

    def _reached(self, name: str) -> None:
        self.left -= name == self.step
        if name == self.step and self.left <= 0:
            self.left = 1_000_000
            raise Death(name)

    def __enter__(self) -> None:
        for module in {id(each): each for each in STEPS.values()}.values():
            self._kept.append((module, module.reached))
            module.reached = self._reached  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        for module, before in self._kept:
            module.reached = before  # type: ignore[attr-defined,unused-ignore]
