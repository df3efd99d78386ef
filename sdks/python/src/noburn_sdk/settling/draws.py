"""Reports of draws, one request for each lease and process, answered draw by draw; and leases that nobody drew from."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from noburn_sdk import _answers, _requests
from noburn_sdk.errors import NoburnError
from noburn_sdk.results import Settled

if TYPE_CHECKING:
    from noburn_sdk.client import Noburn
    from noburn_sdk.settling.settler import Resolution

DRAWS_MAX = 500
"""Draws in one report."""


def parts_of(items: list[Resolution]) -> list[list[Resolution]]:
    """Draws cut by lease and process, and so that no report has too many."""
    found: dict[tuple[str, str], list[Resolution]] = {}
    for item in items:
        found.setdefault((str(item.body["id"]), str(item.body["nonce"])), []).append(item)
    return [
        part[start : start + DRAWS_MAX] for part in found.values() for start in range(0, len(part), DRAWS_MAX)
    ]


def report(
    client: Noburn, part: list[Resolution]
) -> tuple[list[NoburnError | None], list[tuple[int, int | None]], Mapping[str, Any]]:
    """Reports draws of one lease; returns for each what is wrong with it, for each its number and cost in nano-USD, and
    the whole answer. Raises NoburnError when the report failed."""
    first = part[0].body
    body = {
        "authorization": first["authorization"],
        "nonce": first["nonce"],
        "draws": [item.body["draw"] for item in part],
    }
    reply = client._ask(_requests.post(f"/v1/leases/{first['id']}/report", body, None))
    value = _answers.answer(reply)
    results = value.get("results")
    if not isinstance(results, list) or len(results) != len(part):
        raise NoburnError("noburn answered another number of draws than were reported", status=reply.status)
    errors = _answers.failures(results, reply)
    costs = [
        (int(item.body["draw"]["seq"]), _nano(result)) for item, result in zip(part, results, strict=True)
    ]
    return errors, costs, value


def give_back(client: Noburn, item: Resolution) -> None:
    """Closes a lease of which nothing was drawn. One whose answer was lost is asked for again, with the same key, to
    learn which it is. Raises NoburnError when that failed."""
    body = item.body
    lease_id, authorization = body.get("id"), body.get("authorization")
    if lease_id is None:
        value = _answers.answer(client._ask(_requests.post("/v1/leases", body["ask"], item.key)))
        if value.get("decision") != "allow":
            return
        lease_id, authorization = value["lease"]["id"], value["authorization"]
    end = {"authorization": authorization, "nonce": body["nonce"], "total": 0, "draws": []}
    _answers.answer(client._ask(_requests.post(f"/v1/leases/{lease_id}/close", end, None)))


def settled(item: Resolution, result: Mapping[str, Any]) -> Settled:
    """What became of a draw: its bound is what it held."""
    bound, nano = Decimal(item.body["draw"]["bound_usd"]), _nano(result)
    cost = None if nano is None else Decimal(nano).scaleb(-9)
    return Settled(
        cost_usd=cost,
        released_usd=None if cost is None else max(Decimal(0), bound - cost),
        overrun_usd=Decimal(0) if cost is None else max(Decimal(0), cost - bound),
        replayed=result.get("replayed") is True,
        state=str(result.get("state", "")),
        late=result.get("late") is True,
        raw=result,
    )


def _nano(result: Mapping[str, Any]) -> int | None:
    try:
        return int(Decimal(result["cost_usd"]) * 10**9)
    except (KeyError, TypeError, InvalidOperation):
        return None
