"""What the SDK returns. Amounts are Decimal USD; times are aware and UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal


@dataclass(frozen=True)
class BudgetState:
    """One budget as it stands. USD fields are None where it counts tokens or requests; `raw` has it whole."""

    id: str
    scope: str
    subject: str | None = None
    window: str | None = None
    limit_usd: Decimal | None = None
    remaining_usd: Decimal | None = None
    resets_at: datetime | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Alternative:
    """A model that the same call could use within budget, and what it may cost at most."""

    model: str
    estimate_usd: Decimal | None = None


@dataclass(frozen=True)
class Allowed:
    """The call may be made, with `model` and with output capped at `max_output_tokens`.

    Put that cap into the provider call: a bound that the provider does not enforce is no bound.
    `authorization` is what settles it and `amount_usd` what is held; a dry run has no authorization, and its
    amount is the estimate.
    """

    authorization: str | None
    hold_id: str | None
    amount_usd: Decimal | None
    expires_at: datetime | None
    model: str
    max_output_tokens: int | None
    budgets: tuple[BudgetState, ...] = ()
    warnings: tuple[Any, ...] = ()
    decision: Literal["allow"] = "allow"
    rerouted: str | None = None
    """Why `model` is another one than was asked for: `policy pol_…: short strict JSON`, `budget bud_…`."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Denied:
    """The call must not be made. `reason` says why, `budget` which one, the rest what would fit instead."""

    reason: str
    estimate_usd: Decimal | None = None
    fits_max_output_tokens: int | None = None
    budget: BudgetState | None = None
    alternatives: tuple[Alternative, ...] = ()
    retry_after_ms: int | None = None
    detail: str | None = None
    decision: Literal["deny"] = "deny"
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def explain(self) -> str:
        """Returns the refusal as a sentence that a person can act on."""
        parts = [f"noburn refused the call: {self.reason}"]
        if self.detail:
            parts.append(self.detail)
        budget = self.budget
        if budget is not None:
            text = f"{budget.scope} budget {budget.id}"
            if budget.limit_usd is not None:
                text += f" of ${budget.limit_usd:f}"
            if budget.remaining_usd is not None:
                text += f" has ${budget.remaining_usd:f} left"
            if budget.resets_at is not None:
                text += f" until {budget.resets_at.isoformat()}"
            parts.append(text)
        if self.estimate_usd is not None:
            parts.append(f"the call may cost ${self.estimate_usd:f}")
        if self.fits_max_output_tokens:
            parts.append(f"max_output_tokens={self.fits_max_output_tokens} would fit")
        if self.alternatives:
            parts.append("cheaper: " + ", ".join(other.model for other in self.alternatives))
        return "; ".join(parts)


@dataclass(frozen=True)
class Settled:
    """What a settle or void did. An amount is None where the server did not name it.

    `state` is settled, voided or presumed. `overrun_usd` is what the call cost beyond its hold; `replayed` says
    that this had been applied before, `late` that it corrected an earlier resolution.
    """

    cost_usd: Decimal | None
    released_usd: Decimal | None
    overrun_usd: Decimal
    replayed: bool
    state: str = ""
    late: bool = False
    warnings: tuple[Any, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Extended:
    """A hold with a longer life. Settle or extend it further with this, in place of the first answer."""

    hold_id: str
    expires_at: datetime | None
    authorization: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Remaining:
    """What the asked subjects have left, budget by budget."""

    budgets: tuple[BudgetState, ...]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def remaining_usd(self) -> Decimal | None:
        """The least that any of the USD budgets has left; None without one."""
        left = [budget.remaining_usd for budget in self.budgets if budget.remaining_usd is not None]
        return min(left, default=None)
