"""The data plane's operations: who may call them, what they read, and everything that they can answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from budgets.gateway.openapi import examples, runs
from budgets.gateway.reads import NAMES
from noburn.kit.openapi import API_KEY, JSON, NOBODY, Problems, Schema, answer, ref

TAGS: Final = {
    "Calls": "Ask before a call, and say afterwards what it used. These answer in milliseconds; "
    "SDKs and proxy use nothing else.",
    "Runs": "Runs of agents: caps, stops, and what they used.",
    "Standing": "How budgets stand, and what models cost.",
    "Health": "Whether noburn lives and can decide.",
}

KEYED: Final = (
    "unauthorized",
    "too-many-requests",
    "internal-error",
    "storage-unavailable",
    "counters-unavailable",
)
POSTED: Final = (
    *KEYED,
    "invalid-request",
    "idempotency-key-missing",
    "body-too-large",
    "unsupported-media",
)
SETTLED: Final = (*POSTED, "invalid-authorization", "settle-conflict")


def _operation(
    problems: Problems,
    *,
    operation_id: str,
    tag: str,
    summary: str,
    description: str,
    answers: Mapping[str, Schema],
    slugs: Iterable[str] = (),
    parameters: list[Schema] | None = None,
    security: list[dict[str, list[str]]] = API_KEY,
) -> Schema:
    return {
        "operationId": operation_id,
        "tags": [tag],
        "summary": summary,
        "description": description,
        **({"parameters": parameters} if parameters else {}),
        "security": security,
        "responses": {**answers, **problems.answers(slugs)},
    }


def post(problems: Problems, body: str, requests: Mapping[str, Any], **said: Any) -> Schema:
    """A POST: it has a body and an Idempotency-Key."""
    said["parameters"] = [ref("IdempotencyKey", "parameters"), *said.pop("parameters", [])]
    made = _operation(problems, **{"tag": "Calls", **said})
    responses = made.pop("responses")
    content = {JSON: {"schema": ref(body), "examples": dict(requests)}}
    return {**made, "requestBody": {"required": True, "content": content}, "responses": responses}


def paths(problems: Problems) -> dict[str, Schema]:
    """Every path of the data plane. What may fail is collected in `problems`."""
    return {
        "/v1/preflight": {"post": _preflight(problems)},
        "/v1/settle": {"post": _settle(problems)},
        "/v1/settle/batch": {"post": _batch(problems)},
        "/v1/void": {"post": _void(problems)},
        "/v1/holds/{id}/extend": {"post": _extend(problems)},
        "/v1/runs": {"post": _start_run(problems)},
        "/v1/runs/{id}/stop": {"post": _close_run(problems, "stop")},
        "/v1/runs/{id}/end": {"post": _close_run(problems, "end")},
        "/v1/remaining": {"get": _remaining(problems)},
        "/v1/prices": {"get": _prices(problems)},
        "/healthz": {"get": _healthz(problems)},
        "/readyz": {"get": _readyz(problems)},
    }


def _preflight(problems: Problems) -> Schema:
    return post(
        problems,
        "Preflight",
        examples.PREFLIGHT,
        operation_id="preflight",
        summary="Ask whether a call may be made",
        description="Holds the most that the call can cost on every budget that it falls under, on all or on none. "
        "A refusal is an answer: status 200, `decision` `deny`, and a `reason`. Send the answer's "
        "`max_output_tokens` to the provider, then settle or void the hold. "
        "Repeated with the same key and body it answers the same authorization while the hold lives; "
        "a refusal is not stored and is decided again. Unknown fields are ignored with a warning. "
        "A key needs the scope `preflight`.",
        answers={"200": answer("The decision.", ref("PreflightAnswer"), examples.DECISIONS)},
        slugs=(
            *POSTED,
            "forbidden-scope",
            "idempotency-conflict",
            "unknown-model",
            "too-many-budgets",
            "too-many-subjects",
        ),
    )


def _settle(problems: Problems) -> Schema:
    return post(
        problems,
        "Settle",
        examples.SETTLE,
        operation_id="settle",
        summary="Say what a call used",
        description="Any key of the tenant will do, whatever its scopes, revoked and expired ones included: money "
        "that was spent is recorded. It may come late, is priced as of the moment when the hold was placed, and is "
        "recorded whole, even above the hold. The same settlement may be repeated for ever.",
        answers={"200": answer("What is recorded now.", ref("Resolution"), examples.RESOLUTIONS)},
        slugs=SETTLED,
    )


def _batch(problems: Problems) -> Schema:
    return post(
        problems,
        "SettleBatch",
        examples.BATCH,
        operation_id="settleBatch",
        summary="Settle up to 1,000 calls",
        description="Each settlement is answered by itself, in their order, with the status that it would have "
        "had alone. At most 4 MiB of body.",
        answers={"200": answer("One result for each.", ref("BatchAnswer"), examples.BATCH_ANSWERS)},
        slugs=POSTED,
    )


def _void(problems: Problems) -> Schema:
    return post(
        problems,
        "Void",
        examples.VOID,
        operation_id="void",
        summary="Free the hold of a call that was not made",
        description="For a call that never reached the provider. Any key of the tenant will do, as for a settlement.",
        answers={"200": answer("What is recorded now.", ref("Resolution"), examples.VOIDED)},
        slugs=SETTLED,
    )


def _extend(problems: Problems) -> Schema:
    return post(
        problems,
        "Extend",
        examples.EXTEND,
        operation_id="extendHold",
        summary="Let a hold live longer",
        description="Sets the hold's life to so many seconds from now, at most 15 minutes from its placing. "
        "A key needs the scope `preflight`.",
        parameters=[
            {
                "name": "id",
                "in": "path",
                "required": True,
                "description": "The hold's id.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200},
                "example": examples.HOLD_ID,
            }
        ],
        answers={"200": answer("The hold as it is now.", ref("ExtendAnswer"), examples.EXTENDED)},
        slugs=(
            *POSTED,
            "invalid-authorization",
            "forbidden-scope",
            "not-found",
            "hold-not-found",
            "epoch-closed",
            "hold-too-long",
        ),
    )


def _start_run(problems: Problems) -> Schema:
    return post(
        problems,
        "RunStart",
        runs.STARTS,
        operation_id="startRun",
        tag="Runs",
        summary="Start a run",
        description="Caps hold for the run and all runs below it, as hard as budgets. Calls name it in `subject.run`. "
        "Below a run that is over, or too deep, the answer is a refusal. The same start may be repeated. A key needs "
        "the scope `preflight`.",
        answers={"200": answer("The run, or a refusal.", ref("RunAnswer"), runs.STARTED)},
        slugs=(*POSTED, "forbidden-scope", "idempotency-conflict", "too-many-runs"),
    )


def _close_run(problems: Problems, how: str) -> Schema:
    stops = how == "stop"
    return post(
        problems,
        "RunClose",
        runs.CLOSES,
        operation_id=f"{how}Run",
        tag="Runs",
        summary="Stop a run" if stops else "End a run",
        description=(
            "No further call of it, or of a run below it, is let through. A run that calls alone name can be stopped "
            "too. "
            if stops
            else "It is done, and so is every run below it. "
        )
        + "A run that is over stays as it is. A key needs the scope `preflight` or `manage`.",
        parameters=[
            {
                "name": "id",
                "in": "path",
                "required": True,
                "description": "The run, as calls name it.",
                "schema": {"type": "string", "maxLength": 200},
            }
        ],
        answers={"200": answer("The run, and what it used.", ref("RunClosed"), runs.CLOSED)},
        slugs=(*POSTED, "forbidden-scope", "not-found"),
    )


def _remaining(problems: Problems) -> Schema:
    words = {"provider": "The provider of the model.", "model": "The model."}
    return _operation(
        problems,
        operation_id="getRemaining",
        tag="Standing",
        summary="See what is left of the budgets of a call",
        description="Every budget that such a call would fall under, the tightest first. Unlike in a pre-flight, "
        "unknown parameters are refused. A key needs the scope `read`.",
        parameters=[
            {
                "name": name,
                "in": "query",
                "description": words.get(name, f"The call's {name}."),
                "schema": {"type": "string", "maxLength": 200},
                **({"example": "acme"} if name == "customer" else {}),
            }
            for name in NAMES
        ],
        answers={"200": answer("The budgets.", ref("Remaining"), examples.REMAINING)},
        slugs=(*KEYED, "invalid-request", "forbidden-scope", "too-many-budgets"),
    )


def _prices(problems: Problems) -> Schema:
    unchanged = {
        "description": "Nothing changed.",
        "headers": {"X-Request-Id": ref("RequestId", "headers"), "ETag": ref("ETag", "headers")},
    }
    return _operation(
        problems,
        operation_id="listPrices",
        tag="Standing",
        summary="List the prices in force",
        description="The prices of a provider's models, or of all (large). A key needs the scope `read`.",
        parameters=[
            {
                "name": "provider",
                "in": "query",
                "description": "One provider; an unknown one has no prices.",
                "schema": {"type": "string"},
                "example": "openai",
            },
            ref("IfNoneMatch", "parameters"),
        ],
        answers={
            "200": answer("The prices.", ref("PriceList"), examples.PRICES, etag=True),
            "304": unchanged,
        },
        slugs=(*KEYED, "invalid-request", "forbidden-scope"),
    )


def _healthz(problems: Problems) -> Schema:
    return _operation(
        problems,
        operation_id="getHealth",
        tag="Health",
        summary="See whether the process lives",
        description="Answers 200 while the process lives, whatever else is wrong.",
        security=NOBODY,
        answers={"200": answer("It lives.", ref("Alive"), examples.ALIVE)},
    )


def _readyz(problems: Problems) -> Schema:
    return _operation(
        problems,
        operation_id="getReadiness",
        tag="Health",
        summary="See whether every decision can be made",
        description="Answers 200 when PostgreSQL and Redis answer, an epoch is open and prices are loaded.",
        security=NOBODY,
        answers={
            "200": answer("Ready.", ref("Ready"), examples.READY),
            "503": answer("Not yet.", ref("Waiting"), examples.WAITING),
        },
    )
