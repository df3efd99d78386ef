"""The log of decisions of one tenant, newest first, and what is missing from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from budgets.queries.bounded import Row, rows

LATENESS = timedelta(hours=1, minutes=5)
"""How much later than its decision an id may be, at most: gateways give up what waited for an hour."""

_COLUMNS = """d.id, d.decided_at, d.reason, d.hold_id, d.api_key, d.policy_version, d.project, d.customer, d.end_user,
    d.run, d.plan, d.tags, d.provider, d.model, d.price_id, d.input_tokens, d.cached_input_tokens, d.cap_asked, d.cap,
    d.n, d.images, d.audio, d.tools, d.service_tier, d.fingerprint, d.estimate_nano, d.own_nano, d.fit, d.wait_ms,
    d.waited_ms, d.ttl_seconds, d.budget_id, d.subject, d.metric, d.limit_amount, d.remaining, d.room, d.shadow,
    d.guard_id, d.guards_observed, d.routed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionFilter:
    """Whose decisions, and which of them; times are those of the decisions, half-open. `after`: newer ids alone.

    `budget_id`: what this budget refused, or would have refused if it did not only warn. `tag` is a name and a value,
    or a name and None for any value.
    """

    tenant_id: UUID
    allowed: bool | None = None
    reason: str = ""
    customer: str = ""
    end_user: str = ""
    project: str = ""
    run: str = ""
    provider: str = ""
    model: str = ""
    budget_id: UUID | None = None
    guard_id: UUID | None = None
    tag: tuple[str, str | None] | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: UUID | None = None


def decisions(*, wanted: DecisionFilter, before: UUID | None, limit: int) -> list[Row]:
    """Decisions, the newest first, from the one before `before` on."""
    conditions, parameters = _conditions(wanted)
    if before is not None:
        conditions.append("d.id < %s")
        parameters.append(before)
    return rows(
        f"SELECT {_COLUMNS} FROM decisions d WHERE {' AND '.join(conditions)} ORDER BY d.id DESC LIMIT %s",  # noqa: S608
        [*parameters, limit],
    )


def _conditions(wanted: DecisionFilter) -> tuple[list[str], list[object]]:
    conditions: list[str] = ["d.tenant_id = %s"]
    parameters: list[object] = [wanted.tenant_id]
    for condition, value in (
        ("d.reason = %s", wanted.reason or None),
        ("d.customer = %s", wanted.customer or None),
        ("d.end_user = %s", wanted.end_user or None),
        ("d.project = %s", wanted.project or None),
        ("d.run = %s", wanted.run or None),
        ("d.provider = %s", wanted.provider or None),
        ("d.model = %s", wanted.model or None),
        ("d.id > %s", wanted.after),
        ("d.decided_at >= %s", wanted.since),
        ("d.decided_at < %s", wanted.until),
        # The same once more, in the words by which partitions are left out.
        ("d.id >= nb_decision_floor(%s)", wanted.since),
        ("d.id < nb_decision_floor(%s)", wanted.until + LATENESS if wanted.until else None),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    if wanted.allowed is not None:
        conditions.append("d.reason IS NULL" if wanted.allowed else "d.reason IS NOT NULL")
    if wanted.budget_id is not None:
        # In the words of the index decisions_refusing.
        conditions.append("(d.reason IS NOT NULL OR d.shadow IS NOT NULL)")
        conditions.append("(d.reason IS NOT NULL AND d.budget_id = %s OR %s = ANY (d.shadow))")
        parameters += [wanted.budget_id, wanted.budget_id]
    if wanted.guard_id is not None:
        # In the words of the index decisions_guarded.
        conditions.append("(d.guard_id IS NOT NULL OR d.guards_observed IS NOT NULL)")
        conditions.append("(d.guard_id = %s OR %s = ANY (d.guards_observed))")
        parameters += [wanted.guard_id, wanted.guard_id]
    if wanted.tag is not None:
        name, value = wanted.tag
        conditions.append("d.tags ? %s" if value is None else "d.tags ->> %s = %s")
        parameters += [name] if value is None else [name, value]
    return conditions, parameters


def decision(*, tenant_id: UUID, decision_id: UUID) -> Row | None:
    """One decision, or None."""
    found = rows(
        f"SELECT {_COLUMNS} FROM decisions d WHERE d.tenant_id = %s AND d.id = %s",  # noqa: S608
        [tenant_id, decision_id],
    )
    return found[0] if found else None


def gaps(
    *, tenant_id: UUID, since: datetime | None, until: datetime | None, after: UUID | None, limit: int
) -> tuple[int, list[Row]]:
    """How many decisions of a period are missing, and the newest `limit` stretches of time in which they are."""
    conditions: list[str] = ["tenant_id = %s"]
    parameters: list[object] = [tenant_id]
    for condition, value in (("ended_at >= %s", since), ("started_at < %s", until), ("id > %s", after)):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    found = rows(
        f"""SELECT started_at, ended_at, dropped, why, (sum(dropped) OVER ())::bigint AS all_dropped
        FROM decision_gaps WHERE {" AND ".join(conditions)} ORDER BY id DESC LIMIT %s""",  # noqa: S608
        [*parameters, limit],
    )
    return (found[0]["all_dropped"] if found else 0), found
