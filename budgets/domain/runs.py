"""Runs of agents: what a gateway knows of one, and the counters that its calls fall under. Source: docs/runs.md. Pure.

A run's USD and steps are counters of the escrow, of a rule that every tenant has without making it: a cap is as hard as a
budget. A call counts on the caps of its run and of every run above it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from budgets.domain.demands import Place, counter_id_of
from budgets.domain.policy import EACH, Action, BudgetRule, Metric, Scope, WindowKind

DEPTH_MAX: Final = 7
"""How many levels of runs may be below one: each may add two counters to a call, which has room for sixteen."""

OPEN_MAX: Final = 10_000
"""Runs of one tenant that are open at once: a key that got into wrong hands must not fill the database."""

SECONDS_MAX: Final = 31 * 86_400
IDLE_SECONDS_MIN: Final = 300
IDLE_SECONDS_MAX: Final = 86_400
IDLE_SECONDS_DEFAULT: Final = 3_600
METADATA_MAX: Final = 16

METRICS: Final = (Metric.USD, Metric.REQUESTS)
"""What caps count, in the order in which a run's rows are named: USD, and steps."""

CAP_NAMES: Final = {Metric.USD: "usd", Metric.REQUESTS: "steps"}


class RunState(StrEnum):
    """Whether a run goes on. `unknown`: calls name it, and nobody started it; it goes on, under no caps."""

    UNKNOWN = "unknown"
    OPEN = "open"
    ENDED = "ended"
    STOPPED = "stopped"


class RunCap(msgspec.Struct, frozen=True):
    """One cap that a run's calls count on, in nano-USD or steps; `run` may be one above it."""

    run: str
    metric: Metric
    limit: int


class RunRecord(msgspec.Struct, frozen=True):
    """A run as gateways hold it. `version` rises when it is closed; caps and ends never change.

    `ends` is the millisecond at which its seconds, or those of `ends_by` above it, are over; None: never.
    """

    run: str
    version: int = 0
    state: RunState = RunState.UNKNOWN
    parents: tuple[str, ...] = ()
    caps: tuple[RunCap, ...] = ()
    ends: int | None = None
    ends_by: str = ""
    depth: int = DEPTH_MAX
    reason: str = ""

    @property
    def over(self) -> bool:
        """Whether it makes no more calls."""
        return self.state in (RunState.ENDED, RunState.STOPPED)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(RunRecord).decode


def cap_budget_ids(tenant_id: UUID) -> tuple[UUID, UUID]:
    """The ids of what a tenant's runs are counters of: USD, and steps. Known without asking anybody."""
    usd, steps = (_cap_budget_id(tenant_id, metric) for metric in METRICS)
    return usd, steps


def _cap_budget_id(tenant_id: UUID, metric: Metric) -> UUID:
    return UUID(bytes=hashlib.blake2b(tenant_id.bytes + b"|run|" + metric.encode(), digest_size=16).digest())


def key_name(tenant_id: UUID, run: str) -> str:
    """What names a run's key in Redis, whatever its caller called it."""
    return hashlib.blake2b(tenant_id.bytes + run.encode(), digest_size=16).hexdigest()


def places_of(tenant_id: UUID, record: RunRecord) -> list[Place]:
    """The counters of a run's caps and of those above it, the nearest first."""
    return [_place(tenant_id, cap) for cap in record.caps]


def _place(tenant_id: UUID, cap: RunCap) -> Place:
    rule = BudgetRule(
        budget_id=_cap_budget_id(tenant_id, cap.metric),
        version=1,
        scope=Scope.RUN_CAP,
        subject=EACH,
        tag=None,
        metric=cap.metric,
        window=WindowKind.TOTAL,
        anchor_day=None,
        limit=cap.limit,
        action=Action.BLOCK,
    )
    counter = counter_id_of(budget_id=rule.budget_id, subject=cap.run, starts_ms=0, ends_ms=0)
    # A cap has no id of its own: the run is what a person can look at.
    shown = {
        "id": cap.run,
        "scope": "run",
        "subject": cap.run,
        "window": WindowKind.RUN.value,
        "resets_at": None,
    }
    return Place(rule, cap.run, counter, 0, 0, shown, counter.hex)


def subtree_first(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Records in the order in which a stop must be told: the run itself before those below it."""
    return sorted(records, key=lambda record: len(record.parents))
