"""The data plane's operations about leases, their schemas and examples."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from budgets.domain.leases import Recall
from budgets.gateway.lease_wire import Draw, LeaseAsk, LeaseClose, LeaseReport
from budgets.gateway.openapi import examples
from budgets.gateway.openapi.answers import AUTHORIZATION, COUNT, TEXT, TIME, USD, WARNINGS, constant, id_of
from budgets.gateway.openapi.operations import POSTED, post
from budgets.gateway.openapi.requests import described
from budgets.gateway.wire import TAGS_MAX
from noburn.kit.ids import HOLD
from noburn.kit.openapi import USD_PATTERN, Problems, Schema, answer, nullable, record, ref

NONCE: Final = "8f14e45fceea167a5a36dedd4bea2543"

WORDS: Final[dict[str, dict[str, str]]] = {
    "LeaseAsk": {
        "": "An amount to draw calls from: for one subject, one model and one set of tags.",
        "model": "The model's name, as the provider knows it.",
        "amount_usd": "How much is wanted; less may be given.",
        "provider": "Needed when several providers sell the model.",
        "subject": "Who the calls are for.",
        "tags": f"Up to {TAGS_MAX} texts by name, the same for every call.",
        "tokens": "How many tokens are wanted, where a budget counts them.",
        "requests": "How many calls are wanted, where a budget counts them.",
        "least_usd": "The bound of the next call: what is given is no smaller, or nothing.",
        "least_tokens": "The tokens of the next call.",
        "ttl_seconds": "How long draws may be reported; what is not, is presumed spent then.",
    },
    "Draw": {
        "": "One call that was drawn from a lease, and has ended.",
        "seq": "The call's number in its process; each has another.",
        "bound_usd": "What the call was bounded by.",
        "bound_tokens": "Its tokens at most.",
        "usage": "What the provider counted. Null when nothing was seen of the call: its bound is then presumed spent, "
        "until a later report of the same number corrects it. It may be left out only beside `cost_usd`.",
        "model": "The exact model that answered, if it differs from the lease's.",
        "outcome": "How the call ended.",
        "latency_ms": "How long the provider took; for your statistics.",
        "cost_usd": "What the call cost, where the price book cannot tell.",
        "call": "What a pre-flight would have said of the call beside its subject, model and tags, for the log of "
        "decisions. What cannot be read of it is left out.",
    },
    "LeaseReport": {
        "": "Draws that ended since the last report; none only asks whether the lease is to be given back.",
        "authorization": "What opened the lease, unchanged.",
        "nonce": "Random, one for each process that draws: its numbers are its own.",
        "draws": "Each is answered by itself: a bad one spoils no other.",
    },
    "LeaseClose": {
        "": "The last draws of a lease, and how many it had.",
        "authorization": "What opened the lease, unchanged.",
        "nonce": "Of the process that holds the lease.",
        "total": "How many draws were reported of the lease in all, with these. Another number releases nothing.",
        "draws": "As in a report.",
    },
}

ASK: Final[dict[str, dict[str, Any]]] = {
    "lease": {
        "summary": "A cent for calls of one customer",
        "value": {
            "model": "gpt-4o-mini",
            "amount_usd": "0.01",
            "subject": {"customer": "acme"},
            "least_usd": "0.00048",
            "least_tokens": 1_700,
            "ttl_seconds": 120,
        },
    }
}
OPENED: Final[dict[str, dict[str, Any]]] = {
    "allow": {
        "summary": "It may be drawn from for a minute",
        "value": {
            "decision": "allow",
            "authorization": examples.TOKEN,
            "lease": {
                "id": examples.HOLD_ID,
                "amount_usd": "0.01",
                "tokens": None,
                "requests": None,
                "draw_seconds": 60.0,
                "report_seconds": 5,
                "settle_until": "2026-11-22T21:55:53.146Z",
            },
            "provider": "openai",
            "model": "gpt-4o-mini",
            "max_output_tokens": 4096,
            "prices": examples.PRICES["openai"]["value"]["prices"],
            "guards": {},
            "budgets": [{**examples.MONTH, "remaining_usd": "9.99"}],
            "warnings": [],
        },
    },
    "not_leasable": {
        "summary": "Each call is to be asked about",
        "value": {
            "decision": "deny",
            "reason": "not_leasable",
            "detail": "too little is left for a lease: ask about each call",
        },
    },
}
_TOLD: Final[dict[str, Any]] = {
    "seq": 1,
    "bound_usd": "0.00048",
    "bound_tokens": 1_700,
    "usage": {"input_tokens": 980, "output_tokens": 290},
    "call": {"input_tokens": 1_200, "max_output_tokens": 500},
}
_SAID: Final[dict[str, Any]] = {"authorization": examples.TOKEN, "nonce": NONCE, "draws": [_TOLD]}
REPORT: Final[dict[str, dict[str, Any]]] = {"report": {"summary": "One call", "value": _SAID}}
CLOSE: Final[dict[str, dict[str, Any]]] = {
    "close": {"summary": "The last call", "value": {**_SAID, "total": 1}}
}
_REPORTED: Final[dict[str, Any]] = {
    "results": [
        {
            "seq": 1,
            "status": 200,
            "state": "settled",
            "cost_usd": "0.000321",
            "replayed": False,
            "late": False,
        }
    ],
    "draws": 1,
    "closed": False,
    "recall": None,
    "warnings": [],
}
REPORTED: Final[dict[str, dict[str, Any]]] = {"report": {"summary": "It is recorded", "value": _REPORTED}}
CLOSED: Final[dict[str, dict[str, Any]]] = {
    "close": {"summary": "What was not drawn is free again", "value": {**_REPORTED, "closed": True}}
}


def schemas() -> dict[str, Schema]:
    """The schemas by name, but those that other operations have as well."""
    _, found = msgspec.json.schema_components(
        [LeaseAsk, LeaseReport, LeaseClose, Draw], ref_template="#/components/schemas/{name}"
    )
    made: dict[str, Any] = {name: found[name] for name in WORDS}
    for name, schema in made.items():
        schema["description"] = WORDS[name][""]
        for field, of in schema["properties"].items():
            schema["properties"][field] = described(of, WORDS[name][field])
    ask, draw = made["LeaseAsk"]["properties"], made["Draw"]["properties"]
    ask["tags"]["maxProperties"] = TAGS_MAX
    for amount in (ask["amount_usd"], ask["least_usd"], draw["bound_usd"], draw["cost_usd"]):
        amount["pattern"] = USD_PATTERN
    del draw["outcome"]["pattern"]
    draw["outcome"]["enum"] = ["ok", "error", "cut"]
    for name in ("LeaseReport", "LeaseClose"):
        made[name]["properties"]["draws"]["items"] = ref("Draw")
    return {**made, **_answers()}


def _answers() -> dict[str, Schema]:
    draw = {
        "seq": COUNT,
        "status": {"type": "integer", "enum": [200]},
        "state": {"type": "string", "enum": ["settled", "presumed"]},
        "cost_usd": {**USD, "description": "What is recorded now."},
        "replayed": {"type": "boolean", "description": "Whether this was recorded before."},
        "late": {"type": "boolean", "description": "Whether it corrects an earlier report."},
    }
    failed = {"status": {"type": "integer", "minimum": 400}, "problem": ref("Problem")}
    lease = {
        "id": id_of(HOLD),
        "amount_usd": {**USD, "description": "What is held, and may be drawn."},
        "tokens": {**nullable(COUNT), "description": "Null: no budget counts tokens."},
        "requests": {**nullable(COUNT), "description": "Null: no budget counts calls."},
        "draw_seconds": {
            "type": "number",
            "minimum": 0,
            "description": "How long calls may be drawn, from when the lease was asked for.",
        },
        "report_seconds": {**COUNT, "description": "Report at least so often."},
        "settle_until": {**TIME, "description": "What is not reported by then is presumed spent."},
    }
    return {
        "LeaseAnswer": {
            "description": "A lease, or why each call is to be asked about.",
            "oneOf": [ref("LeaseOpened"), ref("LeaseRefused")],
        },
        "LeaseOpened": record(
            "A lease. Draw no call whose bound, with all that are in flight and all that were used, exceeds it.",
            {
                "decision": constant("allow"),
                "authorization": AUTHORIZATION,
                "lease": record("What may be drawn.", lease),
                "provider": TEXT,
                "model": TEXT,
                "max_output_tokens": {**COUNT, "description": "The cap of calls that name none."},
                "prices": {"type": "array", "items": ref("ModelPrices")},
                "guards": {
                    "type": "object",
                    "description": "What is to be checked of each call before it is drawn. Ask about each call if there "
                    "is anything in it that you do not know.",
                },
                "budgets": {"type": "array", "items": ref("BudgetState")},
                "warnings": WARNINGS,
            },
        ),
        "LeaseRefused": record(
            "No lease. Ask about each call by itself.",
            {"decision": constant("deny"), "reason": TEXT, "detail": TEXT},
        ),
        "LeaseReported": record(
            "What is recorded, and whether the lease is to be given back.",
            {
                "results": {
                    "type": "array",
                    "items": {
                        "oneOf": [
                            record("A draw that is recorded.", draw),
                            record("A draw that is not recorded.", failed, {"seq": COUNT}),
                        ]
                    },
                },
                "draws": {**COUNT, "description": "How many draws the lease has by now."},
                "closed": {"type": "boolean", "description": "Whether what was not drawn is free again."},
                "recall": {
                    "type": ["string", "null"],
                    "enum": [*(reason.value for reason in Recall), None],
                    "description": "Why nothing more is to be drawn; null while it may be.",
                },
                "warnings": WARNINGS,
            },
        ),
    }


def paths(problems: Problems) -> dict[str, Schema]:
    """The paths of leases. What may fail is collected in `problems`."""
    lease_id = {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The lease's id.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        "example": examples.HOLD_ID,
    }
    told = (*POSTED, "invalid-authorization", "not-found")
    return {
        "/v1/leases": {
            "post": post(
                problems,
                "LeaseAsk",
                ASK,
                operation_id="openLease",
                summary="Ask for an amount to draw calls from",
                description="Holds an amount on every budget that such calls fall under. Calls are then made without "
                "asking, as long as it lasts, and reported. At most a quarter of what a budget has left is given; near a "
                "limit nothing is, and each call is to be asked about. A key needs the scope `preflight`.",
                answers={"200": answer("The lease, or none.", ref("LeaseAnswer"), OPENED)},
                slugs=(
                    *POSTED,
                    "forbidden-scope",
                    "idempotency-conflict",
                    "unknown-model",
                    "too-many-budgets",
                    "too-many-subjects",
                ),
            )
        },
        "/v1/leases/{id}/report": {
            "post": post(
                problems,
                "LeaseReport",
                REPORT,
                operation_id="reportLease",
                summary="Say what drawn calls used",
                description="Each draw is recorded as a settled call of its own. It may come late and repeatedly. The "
                "answer says whether the lease is to be given back. Any key of the tenant will do, as for a settlement.",
                parameters=[lease_id],
                answers={"200": answer("What is recorded.", ref("LeaseReported"), REPORTED)},
                slugs=told,
            )
        },
        "/v1/leases/{id}/close": {
            "post": post(
                problems,
                "LeaseClose",
                CLOSE,
                operation_id="closeLease",
                summary="Give a lease back",
                description="Releases what was not drawn, if `total` is how many draws were reported. Otherwise it stays "
                "held, and is presumed spent in the end. Any key of the tenant will do.",
                parameters=[lease_id],
                answers={"200": answer("What is recorded.", ref("LeaseReported"), CLOSED)},
                slugs=told,
            )
        },
    }
