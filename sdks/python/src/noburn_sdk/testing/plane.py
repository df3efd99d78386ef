"""The plane in memory, and a gate onto it."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

from noburn_sdk._answers import Reply
from noburn_sdk._exchange import Lost
from noburn_sdk._requests import Request
from noburn_sdk.async_client import AsyncNoburn
from noburn_sdk.client import Noburn
from noburn_sdk.gate import Gate
from noburn_sdk.testing.runs import MemoryRuns

CAP_DEFAULT = 4_096
INPUT_USD, OUTPUT_USD = Decimal("0.000001"), Decimal("0.000002")
"""What a token costs where no price was set."""

_SCOPES = ("customer", "user", "project", "run", "plan")


@dataclass(frozen=True)
class Decision:
    """A pre-flight that was answered: what was asked, and what came of it."""

    asked: Mapping[str, Any] = field(repr=False)
    allowed: bool
    amount_usd: Decimal
    reason: str | None = None
    hold_id: str | None = None

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.asked.get("model"))

    @property
    def subject(self) -> Mapping[str, str]:
        """Whom the call was for."""
        subject: Mapping[str, str] = self.asked.get("subject") or {}
        return subject

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags."""
        tags: Mapping[str, str] = self.asked.get("tags") or {}
        return tags


@dataclass(frozen=True)
class Settlement:
    """What became of a hold: settled, voided or presumed."""

    hold_id: str
    state: str
    cost_usd: Decimal
    outcome: str
    usage: Mapping[str, Any] | None
    decision: Decision


@dataclass
class _Budget:
    id: str
    scope: str
    subject: str
    limit_usd: Decimal
    spent_usd: Decimal = Decimal(0)
    held_usd: Decimal = Decimal(0)


class MemoryPlane:
    """Budgets of USD without windows. Everything that was decided and settled is in its lists, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._budgets: list[_Budget] = []
        self._holds: dict[str, tuple[Decision, list[_Budget]]] = {}
        self._answers: dict[str, Reply] = {}
        self._prices: dict[str, tuple[Decimal, Decimal]] = {}
        self.decisions: list[Decision] = []
        self.settlements: list[Settlement] = []
        self.default_max_output_tokens = CAP_DEFAULT
        self.unavailable = False
        """Whether it answers nothing, as in an outage."""
        self.runs = MemoryRuns()
        """The runs that were started."""
        self.requests: list[tuple[str, bytes]] = []
        """Path and body of whatever was sent to it."""

    def budget(self, scope: str, subject: str, limit_usd: str | Decimal) -> None:
        """Gives a customer, user, project, run or plan so much, once; a call of it is refused beyond that."""
        if scope not in _SCOPES:
            raise ValueError(f"scope: must be one of {', '.join(_SCOPES)}")
        with self._lock:
            number = len(self._budgets) + 1
            self._budgets.append(_Budget(f"bud_memory_{number}", scope, subject, Decimal(limit_usd)))

    def cap(self, run: str, limit_usd: str) -> None:
        """Gives a run that is being started its cap."""
        number = len(self._budgets) + 1
        self._budgets.append(_Budget(f"bud_memory_{number}", "run", run, Decimal(limit_usd)))

    def price(self, model: str, *, input_usd: str, output_usd: str) -> None:
        """Sets what a million tokens of a model cost."""
        self._prices[model] = Decimal(input_usd) / 10**6, Decimal(output_usd) / 10**6

    @property
    def refusals(self) -> list[Decision]:
        """What was refused."""
        return [decision for decision in self.decisions if not decision.allowed]

    def spent_usd(self, scope: str, subject: str) -> Decimal:
        """What was spent of these budgets."""
        return sum(
            (one.spent_usd for one in self._budgets if (one.scope, one.subject) == (scope, subject)),
            Decimal(0),
        )

    def answer(self, request: Request) -> Reply | Lost:
        """Answers a request as noburn's gateway does."""
        with self._lock:
            path = request.path.partition("?")[0]
            self.requests.append((path, request.body or b""))
            if self.unavailable:
                return Lost(ConnectionRefusedError("the plane in memory is set unavailable"))
            key = f"{path} {request.idempotency_key}"
            if request.idempotency_key is not None and key in self._answers:
                return self._answers[key]
            routes: dict[str, Callable[[Any], Any]] = {
                "/v1/preflight": self._preflight,
                "/v1/settle": self._settle,
                "/v1/settle/batch": lambda body: {
                    "results": [{"status": 200, **self._settle(item)} for item in body["settlements"]]
                },
                "/v1/void": self._void,
                "/v1/remaining": lambda _: {"budgets": [self._shown(one) for one in self._budgets]},
                "/v1/prices": lambda _: {"prices": []},
            }
            route = routes.get(path)
            if route is None and path.startswith("/v1/runs"):
                route = functools.partial(self.runs.answer, path, self)
            if route is None:
                return Reply(404, {}, b'{"title": "The plane in memory has no such path", "status": 404}')
            value = route(json.loads(request.body) if request.body else None)
            reply = Reply(200, {"content-type": "application/json"}, json.dumps(value).encode())
            if value.get("decision") != "deny":
                self._answers[key] = reply
            return reply

    def _cost(self, model: str, inputs: int, outputs: int) -> Decimal:
        rates = self._prices.get(model, (INPUT_USD, OUTPUT_USD))
        return inputs * rates[0] + outputs * rates[1]

    def _preflight(self, asked: dict[str, Any]) -> dict[str, Any]:
        subject = asked.get("subject") or {}
        cap = asked.get("max_output_tokens") or self.default_max_output_tokens
        amount = self._cost(asked["model"], asked.get("input_tokens", 0), cap * asked.get("n", 1))
        amount = max(amount, Decimal(asked.get("cost_usd") or 0))
        budgets = [one for one in self._budgets if subject.get(one.scope) == one.subject]
        run = subject.get("run")
        if run is not None:
            if (stopped := self.runs.refusal(run)) is not None:
                self.decisions.append(Decision(asked, False, amount, stopped["reason"]))
                return stopped
            above = self.runs.above(run)
            budgets += [one for one in self._budgets if one.scope == "run" and one.subject in above]
        for one in budgets:
            if one.spent_usd + one.held_usd + amount > one.limit_usd:
                busy = one.spent_usd + amount <= one.limit_usd
                full = "run_limit" if one.scope == "run" else "budget_exceeded"
                reason = "budget_busy" if busy else full
                self.decisions.append(Decision(asked, False, amount, reason))
                return {
                    "decision": "deny",
                    "reason": reason,
                    "estimate_usd": f"{amount:f}",
                    "budget": self._shown(one),
                    "alternatives": [],
                }
        if asked.get("dry_run"):
            return {"decision": "allow", "estimate_usd": f"{amount:f}", "model": asked["model"]}
        hold = f"hold_memory_{uuid4().hex}"
        decision = Decision(asked, True, amount, None, hold)
        self.decisions.append(decision)
        if run is not None:
            self.runs.count(run)
        for one in budgets:
            one.held_usd += amount
        self._holds[hold] = decision, budgets
        return {
            "decision": "allow",
            "authorization": f"nba1.memory.{hold}",
            "hold": {"id": hold, "amount_usd": f"{amount:f}"},
            "model": asked["model"],
            "max_output_tokens": cap,
            "budgets": [self._shown(one) for one in budgets],
        }

    def _shown(self, one: _Budget) -> dict[str, Any]:
        return {
            "id": one.id,
            "scope": one.scope,
            "subject": one.subject,
            "limit_usd": f"{one.limit_usd:f}",
            "remaining_usd": f"{max(Decimal(0), one.limit_usd - one.spent_usd - one.held_usd):f}",
        }

    def _settle(self, body: dict[str, Any]) -> dict[str, Any]:
        usage = body.get("usage")
        decision = self._decision(body)
        if decision is None:
            return {"cost_usd": "0", "replayed": True}
        if body.get("cost_usd") is not None:
            return self._resolve(body, decision, "settled", Decimal(body["cost_usd"]))
        if usage is None:
            return self._resolve(body, decision, "presumed", decision.amount_usd)
        cost = self._cost(decision.model, usage.get("input_tokens", 0), usage.get("output_tokens", 0))
        return self._resolve(body, decision, "settled", cost)

    def _void(self, body: dict[str, Any]) -> dict[str, Any]:
        decision = self._decision(body)
        if decision is None:
            return {"cost_usd": "0", "replayed": True}
        return self._resolve(body, decision, "voided", Decimal(0))

    def _decision(self, body: Mapping[str, Any]) -> Decision | None:
        found = self._holds.get(str(body["authorization"]).rpartition(".")[2])
        return found[0] if found is not None else None

    def _resolve(self, body: dict[str, Any], decision: Decision, state: str, cost: Decimal) -> dict[str, Any]:
        assert decision.hold_id is not None
        _, budgets = self._holds.pop(decision.hold_id)
        for one in budgets:
            one.held_usd -= decision.amount_usd
            one.spent_usd += cost
        outcome = str(body.get("outcome") or "ok")
        self.settlements.append(
            Settlement(decision.hold_id, state, cost, outcome, body.get("usage"), decision)
        )
        return {
            "state": state,
            "cost_usd": f"{cost:f}",
            "released_usd": f"{max(Decimal(0), decision.amount_usd - cost):f}",
            "overrun_usd": f"{max(Decimal(0), cost - decision.amount_usd):f}",
            "replayed": False,
        }


class _MemoryNoburn(Noburn):
    plane: MemoryPlane

    def _send(self, request: Request) -> Reply | Lost:
        return self.plane.answer(request)


class _AsyncMemoryNoburn(AsyncNoburn):
    plane: MemoryPlane

    async def _send(self, request: Request) -> Reply | Lost:
        return self.plane.answer(request)


class MemoryGate(Gate):
    """A gate onto a plane in memory, which gives no leases. It takes the settings of `Gate`; without an outbox unless one
    is named."""

    def __init__(self, plane: MemoryPlane, **settings: Any) -> None:
        self.plane = plane
        super().__init__(
            "nb_test_memory", "http://noburn.invalid", **{"outbox": False, "leases": False, **settings}
        )

    def _new_client(self, **options: Any) -> Noburn:
        client = _MemoryNoburn(self._key, self.base_url, **options)
        client.plane = self.plane
        return client

    def _new_async_client(self, **options: Any) -> AsyncNoburn:
        client = _AsyncMemoryNoburn(self._key, self.base_url, **options)
        client.plane = self.plane
        return client
