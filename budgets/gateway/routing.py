"""Which models a pre-flight is tried with: those that it names, each as rules have it, and what budgets fall back to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from budgets.domain.decisions import Routed
from budgets.domain.policy import Action, Metric
from budgets.domain.pricing_book import PriceBook
from budgets.domain.pricing_rates import Rates
from budgets.domain.routing import Decided, NeedsUtilization, NoRule, Outcome, Shape, decide, used_ppm
from budgets.gateway.preflight import Priced, refusal
from budgets.gateway.wire import Preflight
from budgets.services.dataplane import DataPlane
from budgets.services.holds import Call, Placed, Refused, Standing
from budgets.services.snapshots import Snapshot
from noburn.kit import ids

BLOCKED: Final = "policy_blocked"
"""Why a call is refused that a rule blocks."""


class Choice(msgspec.Struct, frozen=True):
    """What rules say of a call: the model to use, or that it is blocked. `used_ppm`: what they were told of budgets."""

    asked: str
    model: str
    decided: Decided | None
    passed_over: tuple[str, ...]
    used_ppm: int | None = None

    @property
    def blocked(self) -> bool:
        """Whether the call is not to be made."""
        return self.decided is not None and self.decided.then is Outcome.BLOCK

    def shown(self) -> dict[str, Any] | None:
        """The rule as an answer names it; None where no rule matched."""
        if self.decided is None:
            return None
        return {
            "id": ids.encode(ids.POLICY, self.decided.policy_id),
            "rule": self.decided.rule,
            "action": self.decided.then.value,
            "asked_model": self.asked,
        }

    def warnings(self) -> list[str]:
        """What is said of rules that could not be followed."""
        return [
            f"rule {name!r} names a model that this call's provider does not sell; it was passed over"
            for name in self.passed_over
        ]


class Tried(msgspec.Struct, frozen=True):
    """What came of one model: the answer, and how to log it if it is given. `final`: no other model changes it.

    `downgrade`: the request as the budget that refused would have it tried; None where it says nothing.
    """

    answer: dict[str, Any]
    log: Callable[[], None]
    final: bool = False
    downgrade: tuple[Preflight, Standing] | None = None


class Tries:
    """The models of one pre-flight, in order: iterate, and tell what came of each. `answer` is what to say in the end."""

    def __init__(self, wanted: Preflight, warnings: list[str]) -> None:
        self.wanted, self.warnings = wanted, warnings
        names = dict.fromkeys((wanted.model, *wanted.models))
        self._left: deque[Preflight] = deque(
            # Only the last one is waited for: the others have one that may fit at once.
            msgspec.structs.replace(wanted, model=name, wait_ms=0 if at + 1 < len(names) else wanted.wait_ms)
            if len(names) > 1
            else wanted
            for at, name in enumerate(names)
        )
        self._came: list[Tried] = []
        self._seen: set[str] = set()
        self.downgraded_by: Standing | None = None

    @property
    def downgrading(self) -> bool:
        """Whether the model under way is the one that a budget falls back to: no rule has a say in that."""
        return self.downgraded_by is not None

    def __iter__(self) -> Iterator[Preflight]:
        while self._left:
            attempt = self._left.popleft()
            self._seen.add(attempt.model)
            yield attempt

    def came(self, tried: Tried) -> None:
        """Takes what came of the model under way."""
        self._came.append(tried)
        self.downgraded_by = None
        if tried.final:
            self._left.clear()
        elif tried.downgrade is not None and tried.downgrade[0].model not in self._seen:
            # Two budgets may name each other's model: each is tried once.
            attempt, self.downgraded_by = tried.downgrade
            self._left.appendleft(attempt)

    @property
    def answer(self) -> dict[str, Any]:
        """Logs and returns what is answered: what is final, else the first that is only busy, else the first."""
        given = self._came[-1]
        if not given.final:
            busy = (one for one in self._came if one.answer.get("reason") == "budget_busy")
            given = next(busy, self._came[0])
        given.log()
        return given.answer

    def explained(self, answer: dict[str, Any], choice: Choice | None) -> dict[str, Any]:
        """The answer with what changed its model, where something did."""
        if choice is not None and (shown := choice.shown()) is not None:
            answer["policy"] = shown
        if self.downgraded_by is not None:
            rule = self.downgraded_by.place.rule
            answer["downgrade"] = {
                "budget": ids.encode(ids.BUDGET, rule.budget_id),
                "asked_model": self.wanted.model,
            }
        return answer


async def choose(
    plane: DataPlane, priced: Priced, call: Call, *, snapshot: Snapshot, book: PriceBook, now: datetime
) -> Choice:
    """Returns what the tenant's rules say of a call. Raises CountersUnavailable where a rule asks for utilization."""
    try:
        return _chosen(priced, call, snapshot, book, now, None)
    except NeedsUtilization:
        standings = await plane.holds.standings(snapshot, call.attribution)
        return _chosen(priced, call, snapshot, book, now, most_used_ppm(standings))


def _chosen(
    priced: Priced, call: Call, snapshot: Snapshot, book: PriceBook, now: datetime, used: int | None
) -> Choice:
    request, to = priced.request, call.attribution
    shape = Shape(
        provider=priced.provider,
        model=request.model,
        input_tokens=request.input_tokens,
        max_output_tokens=priced.max_output_tokens,
        task=request.task or "",
        output=request.output or "",
        steps=request.steps,
        plan=to.plan,
        customer=to.customer,
        project=to.project,
        tags=to.tags,
    )

    def sells(model: str) -> bool:
        if not priced.provider:
            return False
        if snapshot.prices is None:
            found = book.resolve(priced.provider, model, now)
        else:
            found = snapshot.prices.resolve(book, priced.provider, model, now)
        return isinstance(found, Rates)

    policy = snapshot.policy
    found = decide(policy.routing, shape, at=now, zone=policy.time_zone, utilization_ppm=used, sells=sells)
    if isinstance(found, NoRule):
        return Choice(request.model, request.model, None, found.passed_over, used)
    return Choice(request.model, found.model, found, found.passed_over, used)


def most_used_ppm(standings: list[Standing]) -> int:
    """The used share of the tightest budget that may refuse the call, in millionths."""
    counted = (
        used_ppm(one.limit, one.remaining)
        for one in standings
        if one.place.rule.action is not Action.WARN and one.place.rule.metric is not Metric.CHARGE
    )
    return max(counted, default=0)


def other_model(wanted: Preflight, model: str, provider: str) -> Preflight:
    """The same request for another model of the same provider."""
    return msgspec.structs.replace(wanted, model=model, provider=provider)


def downgrade_of(refused: Refused, wanted: Preflight, priced: Priced) -> tuple[Preflight, Standing] | None:
    """The request as the budget that refused would have it tried, without waiting again; None where it says nothing."""
    other = refused.standing.place.rule.downgrade_to
    if not other or other == wanted.model or not priced.provider:
        return None
    cheaper = other_model(wanted, other, priced.provider)
    return msgspec.structs.replace(cheaper, wait_ms=0), refused.standing


def model_of(placed: Placed, wanted: Preflight) -> str:
    """The model to call: of a replay the one that is held, whatever was decided about it since."""
    return placed.hold.body.model if placed.hold is not None else wanted.model


def blocked_answer(choice: Choice, wanted: Preflight) -> dict[str, Any]:
    """The refusal of a call that a rule blocks."""
    rule = choice.decided.rule if choice.decided is not None else ""
    return refusal(BLOCKED, f"rule {rule!r} blocks this call of {wanted.model!r}", {"policy": choice.shown()})


def routed(
    wanted: Preflight, choice: Choice | None, *, asked: str, downgraded_by: Standing | None
) -> Routed | None:
    """What the log keeps of how a call came to its model, and of what rules may look at; None where that is nothing."""
    decided = choice.decided if choice is not None else None
    if choice is not None and decided is not None:
        # Of several models, the one that the rule was asked about.
        asked = choice.asked
    made = Routed(
        asked=asked if asked != wanted.model else None,
        policy=decided.policy_id if decided is not None else None,
        rule=decided.rule if decided is not None else None,
        budget=downgraded_by.place.rule.budget_id if downgraded_by is not None else None,
        task=wanted.task or None,
        output=wanted.output,
        steps=wanted.steps,
        used_ppm=choice.used_ppm if choice is not None else None,
    )
    return made if made != _NOTHING else None


_NOTHING = Routed()
