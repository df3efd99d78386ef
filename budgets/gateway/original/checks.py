"""POST /api/v1/check: a pre-flight in the original client's words, whose hold waits for the matching event."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from budgets.domain.demands import Attribution
from budgets.domain.open_checks import HOLD_MS
from budgets.domain.policy import KeyRecord
from budgets.domain.routing import Outcome
from budgets.gateway.original.native import REROUTED, Answer, Native, answered, per_token
from budgets.gateway.preflight import budget_fields
from budgets.gateway.request import Request
from budgets.gateway.wire import TAGS_MAX
from budgets.services.dataplane import CountersUnavailable, StorageUnavailable
from budgets.services.open_checks import TooManyOpen
from budgets.services.resolutions import Overloaded
from budgets.services.snapshots import Snapshot
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.loose_json import Fields, number, object_of
from noburn.kit.money import from_usd, to_usd
from noburn.kit.problems import ProblemError

log = logging.getLogger(__name__)

WAIT_MS: Final = 1_000
"""How long a check waits for holds in flight. The client gives up after two seconds."""

UNKNOWN_NANO_PER_TOKEN: Final = (30_000, 75_000)
"""What the client takes for a token in and out of a model that it has no price for: $30 and $75 a million."""

KEPT: Final = frozenset({"plan", "customer", "provider"})
"""What of a context says who pays or who sells; everything else of it is a tag."""

USERS: Final = frozenset({"customer", "user", "wallet"})
RUNS: Final = frozenset({"run"})
WINDOWS: Final = frozenset({"day", "week", "month"})
"""Those of quotas that the client knows."""

REASONS: Final = {
    "budget_busy": "budget_exceeded",
    "model_not_allowed": "policy_rule",
    "policy_blocked": "policy_rule",
    "run_limit": "budget_exceeded",
}
"""The reasons that the client has another word for; the others are told as they are."""

TIERS: Final = ("small", "big")

PASSED_ON: Final = frozenset({401, 403, 404, 405})


class Asked(msgspec.Struct, frozen=True):
    """A check as it was read: the pre-flight's body without what depends on prices."""

    project_id: str
    model: str
    user: str
    run: str
    input_tokens: int
    output_tokens: int
    told_nano: int
    plan: str
    customer: str
    provider: str
    tags: dict[str, str]
    warnings: tuple[str, ...]


def asked_of(body: bytes) -> Asked:
    """Reads a check. Raises ProblemError naming every bad field."""
    raw = object_of(body)
    fields = Fields(raw)
    context = raw.get("context")
    if context is not None and type(context) is not dict:
        fields.bad("context", "must be an object of texts")
    kept, tags, warnings = _context(context if type(context) is dict else {})
    user = fields.text("end_user_id")
    asked = Asked(
        project_id=fields.text("project_id", needed=True),
        model=fields.text("model", needed=True),
        user=user,
        run=fields.text("run_id"),
        input_tokens=fields.count("estimated_tokens_in"),
        output_tokens=fields.count("estimated_tokens_out"),
        told_nano=fields.amount("estimated_cost_usd"),
        plan=kept.get("plan", ""),
        customer=kept.get("customer", user),
        provider=kept.get("provider", ""),
        tags=tags,
        warnings=tuple(warnings),
    )
    fields.done()
    return asked


def _context(context: dict[str, Any]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """What a context says of the subject, its tags, and a warning for each of its entries that is left out."""
    kept: dict[str, str] = {}
    tags: dict[str, str] = {}
    warnings: list[str] = []
    for name, value in sorted(context.items()):
        if value is None:
            continue
        text = str(value).lower() if type(value) is bool else str(value)
        if type(value) in (dict, list) or not 0 < len(name) <= 64 or len(text) > 200:
            warnings.append(f"context.{name[:64]} is no text of at most 200 characters and was left out")
        elif name in KEPT:
            kept[name] = text
        elif len(tags) == TAGS_MAX:
            warnings.append(f"context.{name} was left out: at most {TAGS_MAX} entries are kept")
        else:
            tags[name] = text
    return kept, tags, warnings[:20]


def preflight_of(asked: Asked, *, project: str, priced: bool) -> dict[str, Any]:
    """The pre-flight's body. `priced`: the price book knows the model."""
    subject = {
        "project": project,
        "customer": asked.customer,
        "user": asked.user,
        "run": asked.run,
        "plan": asked.plan,
    }
    body: dict[str, Any] = {
        "model": asked.model,
        "input_tokens": asked.input_tokens,
        "subject": {name: value for name, value in subject.items() if value},
        "tags": asked.tags,
        "ttl_seconds": HOLD_MS // 1000,
        "wait_ms": WAIT_MS,
    }
    if asked.output_tokens:
        body["max_output_tokens"] = asked.output_tokens
    if asked.provider:
        body["provider"] = asked.provider
    if asked.told_nano and not (priced and _says_nothing(asked)):
        body["cost_usd"] = to_usd(asked.told_nano)
    return body


def _says_nothing(asked: Asked) -> bool:
    """Whether the client's estimate only says that it knows no price for the model."""
    taken_in, taken_out = UNKNOWN_NANO_PER_TOKEN
    unknown = asked.input_tokens * taken_in + asked.output_tokens * taken_out
    return unknown > 0 and abs(asked.told_nano - unknown) <= 1


class Checks:
    """Answers checks."""

    def __init__(self, native: Native) -> None:
        self._native = native

    async def check(self, request: Request) -> Answer:
        """Decides about a call. What cannot be decided for what the request says is refused, and not an error.

        The client lets calls through after every error but 401 and 403, so what is no valid check would be a way
        around every budget; so would be one that comes too often.
        """
        try:
            snapshot, key = await self._native.live_key(request, scope="preflight")
            return await self._check(request, snapshot, key)
        except ProblemError as error:
            if error.problem.status in PASSED_ON or error.problem.status >= 500:
                raise
            told = error.problem
            return answered(
                {
                    **_figures([]),
                    "allowed": False,
                    "reason": told.type_slug.replace("-", "_"),
                    "forced_model_tier": None,
                    "quota": None,
                    "detail": told.detail,
                    "errors": [{"field": each.field, "message": each.message} for each in told.errors],
                }
            )

    async def _check(self, request: Request, snapshot: Snapshot, key: KeyRecord) -> Answer:
        native = self._native
        request.check_media()
        asked = asked_of(request.body)
        snapshot, project = await native.project(asked.project_id, snapshot, key)
        rates = native.rates(snapshot, asked.model, provider=asked.provider, now=utc_now())
        if rates is not None:
            asked = msgspec.structs.replace(asked, provider=rates.provider)
        body = preflight_of(asked, project=project, priced=rates is not None)
        told = await native.ask(native.preflight, request, body, secrets.token_hex(16))
        warnings = [*asked.warnings, *told.get("warnings", [])]
        if told["decision"] == "allow":
            tier = self._tier(snapshot, asked, told)
            await self._keep(request, snapshot, asked, project, told)
            hold = told["hold"]
            answer = {
                **_figures(told["budgets"], held := from_usd(hold["amount_usd"], field="amount_usd")),
                "allowed": True,
                "reason": None,
                "forced_model_tier": tier,
                "quota": quota_of(told["budgets"], held_nano=held, held_calls=1),
                "hold_id": hold["id"],
            }
        else:
            who = _attribution(asked, project, ids.encode(ids.API_KEY, key.key_id))
            standings, reason = await standings_of(native, snapshot, who), reason_of(told)
            answer = {
                **_figures(standings),
                "allowed": False,
                "reason": reason,
                "quota": quota_of(standings, blocks=reason == "quota_exceeded"),
                "detail": told.get("detail"),
                "budget": told.get("budget"),
            }
        return answered({"forced_model_tier": None, **answer, "warnings": warnings})

    def _tier(self, snapshot: Snapshot, asked: Asked, told: dict[str, Any]) -> str | None:
        """What the client is told of a model that noburn chose: the tier of the rule, else by which is the dearer one."""
        model, policy = told["model"], told.get("policy") or {}
        if policy.get("action") == Outcome.USE_TIER:
            for rules in snapshot.policy.routing:
                if ids.encode(ids.POLICY, rules.policy_id) == policy["id"]:
                    tiers = [tier for tier in TIERS if rules.model_of(asked.provider, tier) == model]
                    if tiers:
                        return tiers[0]
        if model == asked.model:
            return None
        costs = [
            sum(per_token(rates)) if rates is not None else 0
            for name in (model, asked.model)
            for rates in (self._native.rates(snapshot, name, provider=asked.provider, now=utc_now()),)
        ]
        return "small" if costs[0] <= costs[1] else "big"

    async def _keep(
        self, request: Request, snapshot: Snapshot, asked: Asked, project: str, told: dict[str, Any]
    ) -> None:
        """Keeps the hold for its event; one that cannot be kept is given back, since its event could not find it."""
        native, authorization = self._native, told["authorization"]
        hold = native.plane.keyring.verify(authorization)
        # Whether the client does as it is told is its caller's affair: its event may name either model.
        model = asked.model if told["model"] == asked.model else REROUTED
        group = native.group(project=project, user=asked.user, run=asked.run, model=model)
        try:
            await native.plane.open_checks.add(
                snapshot.policy.tenant_id,
                group,
                authorization=authorization,
                placed_ms=hold.placed_ms,
                cost_nano=hold.body.cost_nano,
            )
        except CountersUnavailable as error:
            if isinstance(error, TooManyOpen):
                log.warning("tenant %s has too many checks without an event", snapshot.policy.tenant_id)
            try:
                await native.ask(
                    native.void, request, {"authorization": authorization}, secrets.token_hex(16)
                )
            except (ProblemError, StorageUnavailable, Overloaded):
                log.info("a hold that could not be kept is left to expire")
            raise


async def standings_of(native: Native, snapshot: Snapshot, who: Attribution) -> list[dict[str, Any]]:
    """How the budgets of a call stand; nothing if it cannot be told, since a refusal counts without it."""
    try:
        return [budget_fields(each) for each in await native.plane.holds.standings(snapshot, who)]
    except (CountersUnavailable, StorageUnavailable, ValueError):
        return []


def _attribution(asked: Asked, project: str, api_key: str) -> Attribution:
    return Attribution(
        project=project,
        customer=asked.customer,
        user=asked.user,
        run=asked.run,
        plan=asked.plan,
        api_key=api_key,
        provider=asked.provider,
        model=asked.model,
        tags=asked.tags,
    )


def reason_of(told: dict[str, Any]) -> str:
    """Why a call is refused, in the client's words."""
    reason = str(told["reason"])
    if reason == "budget_busy" and told["budget"].get("plan"):
        return "quota_exceeded"
    if reason in ("budget_exceeded", "budget_busy") and told["budget"]["scope"] in USERS:
        return "user_budget_exceeded"
    return REASONS.get(reason, reason)


def _figures(budgets: Iterable[dict[str, Any]], held_nano: int = 0) -> dict[str, Any]:
    """What the client shows of the project, the end user and the run: the tightest budget of each, before this call.

    A figure that no budget gives is 0 spent: for a null the client would take the answer for none.
    """
    listed = list(budgets)
    return {
        **_figure("project", [each for each in listed if each["scope"] not in USERS | RUNS], held_nano),
        **_figure("user", [each for each in listed if each["scope"] in USERS], held_nano),
        **_figure("run", [each for each in listed if each["scope"] in RUNS], held_nano),
    }


def _figure(name: str, budgets: list[dict[str, Any]], held_nano: int) -> dict[str, Any]:
    stands = []
    for each in budgets:
        if "limit_usd" in each:
            limit = from_usd(each["limit_usd"], field="limit_usd")
            # A wallet is in what the customer pays, and the hold in what the call costs.
            own = 0 if each["scope"] == "wallet" else held_nano
            remaining = min(limit, from_usd(each["remaining_usd"], field="remaining_usd") + own)
            stands.append((remaining, limit))
    if not stands:
        return {f"{name}_spend_usd": 0, f"{name}_cap_usd": None, f"{name}_remaining_usd": None}
    remaining, limit = min(stands)
    return {
        f"{name}_spend_usd": number(limit - remaining),
        f"{name}_cap_usd": number(limit),
        f"{name}_remaining_usd": number(remaining),
    }


def quota_of(
    budgets: Iterable[dict[str, Any]],
    *,
    blocks: bool | None = None,
    estimate_nano: int = 1,
    held_nano: int = 0,
    held_calls: int = 0,
) -> dict[str, Any] | None:
    """The quota of an end user's plan that is nearest to its end, before the call that was held; None without one.

    `blocks`: whether it refused a call; None: whether it would refuse one of `estimate_nano`.
    """
    found: list[tuple[float, int, dict[str, Any]]] = []
    for each in budgets:
        shown: Callable[[int], msgspec.Raw]
        if each["scope"] not in USERS or not each.get("plan") or each["window"] not in WINDOWS:
            continue
        if "limit_usd" in each:
            limit = from_usd(each["limit_usd"], field="limit_usd")
            remaining = min(limit, from_usd(each["remaining_usd"], field="remaining_usd") + held_nano)
            need, shown = estimate_nano, number
        elif "limit_requests" in each:
            limit = int(each["limit_requests"])
            remaining, need, shown = min(limit, int(each["remaining_requests"]) + held_calls), 1, _whole
        else:
            continue
        full = remaining < need
        told = {
            "limit_type": "usd" if "limit_usd" in each else "requests",
            "limit": shown(limit),
            "used": shown(limit - remaining),
            "remaining": shown(remaining),
            "window": each["window"],
            "resets_at": each["resets_at"],
            "plan": each["plan"],
            "upgrade_suggested": full if blocks is None else blocks,
        }
        found.append((remaining / limit if limit else 0.0, len(found), told))
    return min(found)[2] if found else None


def _whole(count: int) -> msgspec.Raw:
    return msgspec.Raw(str(count).encode())
