"""Schemas of the data plane's answers, each exactly as the gateway writes it."""

from __future__ import annotations

from typing import Final

from budgets.domain.policy import Scope, WindowKind
from budgets.gateway.openapi import runs
from noburn.kit.ids import BODY_LENGTH, BUDGET, HOLD, POLICY
from noburn.kit.openapi import Schema, nullable, record, ref

USD: Final = ref("Usd")
TIME: Final = ref("Time")
TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
WARNINGS: Final[Schema] = {
    "type": "array",
    "items": TEXT,
    "description": "Sentences for a developer: unknown fields, and `warn` budgets that would have refused.",
}
AUTHORIZATION: Final[Schema] = {
    "type": "string",
    "pattern": "^nba1\\.",
    "description": "What settles the call. Up to a few kilobytes long; keep it and treat it as opaque.",
}


def id_of(prefix: str) -> Schema:
    return {"type": "string", "pattern": f"^{prefix}_[0-9a-hjkmnp-tv-z]{{{BODY_LENGTH}}}$"}


def constant(value: str, description: str = "") -> Schema:
    """A field with one value. An enum of one, which more generators of clients know than `const`."""
    return {"type": "string", "enum": [value], **({"description": description} if description else {})}


def _budget(metric: str, amount: Schema) -> Schema:
    return record(
        f"A budget that counts {'USD' if metric == 'usd' else metric}.",
        {
            "id": {**TEXT, "description": "`bud_…`; of a wallet `wal_…`; of a run's cap the run's own."},
            "scope": {"type": "string", "enum": [scope.value for scope in Scope]},
            "subject": {
                **TEXT,
                "description": "The one that the budget counts here, such as the customer's id; `*` for the tenant.",
            },
            "window": {"type": "string", "enum": [kind.value for kind in WindowKind]},
            "resets_at": {**nullable(TIME), "description": "When the window ends; null if it never does."},
            f"limit_{metric}": amount,
            f"remaining_{metric}": amount,
        },
        {"plan": {**TEXT, "description": "Of a quota: the plan whose calls it counts."}},
    )


def _refusal(
    reasons: Schema, description: str, needed: dict[str, Schema], optional: dict[str, Schema] | None = None
) -> Schema:
    return record(description, {"decision": constant("deny"), "reason": reasons, **needed}, optional)


def _decisions() -> dict[str, Schema]:
    """What a pre-flight answers."""
    allowed = {
        "model": TEXT,
        "max_output_tokens": {
            "type": "integer",
            "minimum": 1,
            "description": "Send this cap to the provider: a bound that it does not enforce is no bound.",
        },
        "budgets": {
            "type": "array",
            "items": ref("BudgetState"),
            "description": "Those that the call falls under, with what remains after it; empty for a repeated request.",
        },
        "warnings": WARNINGS,
    }
    chosen = {
        "policy": record(
            "The rule that decided about the call's model.",
            {"id": id_of(POLICY), "rule": TEXT, "action": TEXT, "asked_model": TEXT},
        ),
        "downgrade": record(
            "The budget that refused the model asked for, and fell back to this one.",
            {"budget": id_of(BUDGET), "asked_model": TEXT},
        ),
    }
    estimate = {"estimate_usd": {**USD, "description": "The most that the call can cost."}}
    refused = {
        **estimate,
        "fits_max_output_tokens": {
            **COUNT,
            "description": "The largest output cap that would fit; 0: none would.",
        },
        "budget": ref("BudgetState"),
        "alternatives": {
            "type": "array",
            "maxItems": 3,
            "items": record("A cheaper model that would fit.", {"model": TEXT, "estimate_usd": USD}),
            "description": "Cheaper models of the same provider that would fit.",
        },
        "warnings": WARNINGS,
    }
    return {
        "PreflightAnswer": _one_of(
            "A decision. `deny` is an answer and no failure: its status is 200 too.",
            "decision",
            {"allow": "PreflightAllow", "deny": "PreflightDeny"},
        ),
        "PreflightAllow": _one_of(
            "The call may be made.", None, {"": "PreflightHeld", " ": "PreflightDryRun"}
        ),
        "PreflightHeld": record(
            "The call may be made, and the most that it can cost is held.",
            {
                "decision": constant("allow"),
                "authorization": AUTHORIZATION,
                "hold": record("What is held.", {"id": id_of(HOLD), "amount_usd": USD, "expires_at": TIME}),
                **allowed,
            },
            chosen,
        ),
        "PreflightDryRun": record(
            "The call would be allowed; nothing is held, for the request was a dry run.",
            {"decision": constant("allow"), **estimate, **allowed},
            chosen,
        ),
        "PreflightDeny": _one_of(
            "The call must not be made.",
            "reason",
            {
                "budget_exceeded": "BudgetExceeded",
                "budget_busy": "BudgetBusy",
                "price_unknown": "PolicyRefusal",
                "customer_suspended": "PolicyRefusal",
                "plan_limit": "PolicyRefusal",
                "quota_exceeded": "QuotaExceeded",
                "run_limit": "RunLimit",
                "run_stopped": "RunStopped",
                "loop_detected": "GuardTripped",
                "velocity": "GuardTripped",
                "call_too_large": "GuardTripped",
                "policy_blocked": "PolicyRefusal",
            },
        ),
        **runs.refusals(refused),
        "BudgetExceeded": _refusal(
            constant("budget_exceeded"),
            "The call does not fit beside what is spent. `remaining_usd` is what is left once nothing is in flight.",
            {**refused},
            {
                "remedy": {
                    **TEXT,
                    "description": "What helps, where a wallet refuses: topping it up.",
                },
                **chosen,
            },
        ),
        "BudgetBusy": _refusal(
            constant("budget_busy"),
            "The call would fit, but for holds in flight. `remaining_usd` is what is free now.",
            {**refused, "retry_after_ms": {**COUNT, "description": "When it is worth asking again."}},
            chosen,
        ),
        "PolicyRefusal": _refusal(
            {
                "type": "string",
                "enum": ["price_unknown", "customer_suspended", "plan_limit", "policy_blocked"],
            },
            "A refusal that no budget caused: the model has no price, the customer or the tenant is suspended, "
            "noburn's own plan is used up, or a rule blocks the call.",
            {"detail": TEXT},
            chosen,
        ),
    }


def _one_of(description: str, by: str | None, names: dict[str, str]) -> Schema:
    """One of several schemas, told apart by a field if there is one."""
    schema: Schema = {
        "description": description,
        "oneOf": [ref(name) for name in dict.fromkeys(names.values())],
    }
    if by:
        mapping = {value: ref(name)["$ref"] for value, name in names.items()}
        schema["discriminator"] = {"propertyName": by, "mapping": mapping}
    return schema


def _settlements() -> dict[str, Schema]:
    """What a settlement answers, alone and in a batch."""
    resolution = {
        "state": {"type": "string", "enum": ["settled", "presumed", "voided"]},
        "cost_usd": {**USD, "description": "What is recorded now."},
        "released_usd": {**USD, "description": "How much less that is than was held."},
        "overrun_usd": {**USD, "description": "How much more that is than was held."},
        "replayed": {"type": "boolean", "description": "Whether this was recorded before."},
        "late": {"type": "boolean", "description": "Whether it corrects an earlier resolution."},
        "warnings": WARNINGS,
    }
    return {
        "Resolution": record("What became of a hold.", resolution),
        "BatchAnswer": record(
            "One result for each settlement, in their order.",
            {"results": {"type": "array", "items": ref("BatchResult")}, "warnings": WARNINGS},
        ),
        "BatchResult": {"oneOf": [ref("BatchSettled"), ref("BatchFailed")]},
        "BatchSettled": record(
            "A settlement that was recorded.", {"status": {"type": "integer", "enum": [200]}, **resolution}
        ),
        "BatchFailed": record(
            "A settlement that was not recorded. Repeat it alone if its status is 503.",
            {"status": {"type": "integer", "minimum": 400}, "problem": ref("Problem")},
        ),
        "ExtendAnswer": record(
            "The hold as it is now. Settle with this authorization or with the first; both work.",
            {
                "authorization": AUTHORIZATION,
                "hold": record("What is held.", {"id": id_of(HOLD), "expires_at": TIME}),
            },
        ),
    }


def _prices() -> dict[str, Schema]:
    """What the price list answers."""
    tokens = {"usd_per_million_tokens": USD}
    tier = record("From where another price holds.", {"above_input_tokens": COUNT, **tokens})
    clock: Schema = {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}
    return {
        "PriceList": record(
            "The prices in force.", {"prices": {"type": "array", "items": ref("ModelPrices")}}
        ),
        "ModelPrices": record(
            "The prices of one model and variant.",
            {
                "provider": TEXT,
                "model": TEXT,
                "variant": {**TEXT, "description": "`standard`, `batch`, `flex`, `priority`, …"},
                "price_id": {**TEXT, "description": "Names these prices for good: rows never change."},
                "override": {
                    **nullable(TEXT),
                    "description": "The tenant's negotiated price (`pov_…`) that is counted in; null: the book's own.",
                },
                "currency": constant("USD"),
                "effective_from": TIME,
                "effective_to": {**nullable(TIME), "description": "Null while nothing follows."},
                "daily": {
                    **nullable(record("Hours of the day, in UTC.", {"from": clock, "to": clock})),
                    "description": "When in the day these prices hold; null: all day.",
                },
                "deprecated": {"type": "boolean"},
                "context_window": {**nullable(COUNT), "description": "In tokens; null if it is not known."},
                "prices": {
                    "type": "object",
                    "description": "A price for each unit that the provider charges for.",
                    "additionalProperties": {
                        "oneOf": [
                            record(
                                "A price for tokens.", tokens, {"tiers": {"type": "array", "items": tier}}
                            ),
                            record("A price for anything else.", {"usd_per_unit": USD}),
                        ]
                    },
                },
            },
        ),
    }


def schemas() -> dict[str, Schema]:
    """The answer schemas by name."""
    kinds = {"usd": "BudgetOfUsd", "tokens": "BudgetOfTokens", "requests": "BudgetOfRequests"}
    return {
        "BudgetState": _one_of(
            "A budget and how it stands for one subject now.", None, {n: n for n in kinds.values()}
        ),
        **{name: _budget(metric, USD if metric == "usd" else COUNT) for metric, name in kinds.items()},
        **_decisions(),
        **runs.answers(),
        **_settlements(),
        "Remaining": record(
            "Every budget that such a call would fall under, the tightest first.",
            {"budgets": {"type": "array", "items": ref("BudgetState")}},
        ),
        **_prices(),
        "Alive": record("The process lives.", {"status": constant("ok")}),
        "Ready": record("Every decision can be made.", {"status": constant("ready")}),
        "Waiting": record(
            "Not every decision can be made yet.",
            {
                "status": constant("waiting"),
                "missing": {"type": "array", "items": TEXT, "description": "Sentences for an operator."},
            },
        ),
    }
