"""/api/v1/…: the paths of the original client that the gateway serves; docs/original-client.md, adr/0049.

A translation: every decision is a pre-flight's and every record a settlement's, made by the gateway's own handlers.
"""

from __future__ import annotations

import asyncio

from budgets.domain.demands import Attribution
from budgets.gateway.original.checks import Checks, quota_of
from budgets.gateway.original.events import Events
from budgets.gateway.original.native import Answer, Handler, Native, answered
from budgets.gateway.original.pricing import PriceTables
from budgets.gateway.original.runs import RUNS_PATH, OriginalRuns
from budgets.gateway.preflight import budget_fields
from budgets.gateway.request import Request
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.loose_json import Fields, decimal_of
from noburn.kit.problems import ProblemError, problem


class OriginalClient:
    """Serves the original client."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._tables = PriceTables()
        self._runs = OriginalRuns(native)
        self.routes: dict[tuple[str, str], Handler] = {
            ("POST", "/api/v1/check"): Checks(native).check,
            ("POST", "/api/v1/events"): Events(native).event,
            ("GET", "/api/v1/pricing"): self._pricing,
            ("GET", "/api/v1/policy"): self._policy,
            ("GET", "/api/v1/quota"): self._quota,
            ("POST", RUNS_PATH): self._runs.start,
        }
        self._paths = frozenset(path for _, path in self.routes)

    def handles(self, path: str) -> bool:
        """Whether a path is one of the client's that the gateway serves."""
        return path in self._paths or self._runs.closing(path) is not None

    def handler(self, method: str, path: str) -> Handler:
        """The handler of a request. Raises ProblemError for a path that takes another method."""
        found = self.routes.get((method, path))
        if found is None and method == "POST":
            found = self._runs.closing(path)
        if found is None:
            allowed = sorted({m for m, p in self.routes if p == path} or {"POST"})
            detail = f"{path} takes {', '.join(allowed)}, not {method}."
            raise ProblemError(problem("method-not-allowed", detail, allowed=allowed))
        return found

    async def _pricing(self, request: Request) -> Answer:
        """What every model costs, so that the client's own estimates are right."""
        native = self._native
        snapshot, key = await native.live_key(request, scope="read")
        snapshot, _ = await native.project(request.query.get("project_id", ""), snapshot, key)
        # A negotiated price holds for the next request, as any edit does.
        prices = (await native.plane.snapshots.newest(snapshot.policy.tenant_id) or snapshot).prices
        body = await asyncio.to_thread(self._tables.table, native.plane.books.book, prices, utc_now())
        return 200, body, [(b"content-type", b"application/json")]

    async def _policy(self, request: Request) -> Answer:
        """The rules that the client goes by while it cannot reach noburn: none, as rules are applied by its checks."""
        native = self._native
        snapshot, key = await native.live_key(request, scope="read")
        await native.project(request.query.get("project_id", ""), snapshot, key)
        return answered({"rules": []})

    async def _quota(self, request: Request) -> Answer:
        """What is left of an end user's quota: null where none applies."""
        native = self._native
        snapshot, key = await native.live_key(request, scope="read")
        fields = Fields(query := request.query)
        project_id, user = fields.text("project_id", needed=True), fields.text("end_user_id", needed=True)
        plan = fields.text("plan")
        # Whatever the client's language writes for a float, an exponent included.
        estimate = Fields({**query, "estimated_cost_usd": decimal_of(query.get("estimated_cost_usd"))})
        nano = estimate.amount("estimated_cost_usd") or 1
        fields.done()
        estimate.done()
        snapshot, project = await native.project(project_id, snapshot, key)
        who = Attribution(
            project=project,
            customer=user,
            user=user,
            run="",
            plan=plan,
            api_key=ids.encode(ids.API_KEY, key.key_id),
            provider="",
            model="",
            tags={},
        )
        budgets = [budget_fields(each) for each in await native.plane.holds.standings(snapshot, who)]
        return answered({"quota": quota_of(budgets, estimate_nano=nano)})
