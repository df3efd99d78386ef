"""What of the budgets raises alerts: thresholds that spending passed, presumed spending, drift, lost epochs.

Each is told once: a threshold in a window, presumed spending and drift in a day, a loss of Redis in ten minutes. The
keys of docs/alerts.md see to it, so all of this may run twice, at once, and again after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from alerts.services.alerts import ALERTS_MAX, NewAlert, raise_alerts
from budgets.domain.budget_rules import show_limit
from budgets.services.verification import Difference
from noburn.kit import ids
from noburn.kit.money import to_usd

LOOK_BACK = timedelta(days=1)
SETTLE_DOWN = timedelta(minutes=2)

# The limit that the counter was loaded with is the right one while the budget's version is the same; only after an edit
# must it be reckoned. Known ones are filtered here, not in Python: of a busy budget above 50 % every step is told.
_PASSED = """
SELECT * FROM (
    SELECT c.tenant_id, c.counter_id, c.budget_id, c.subject, c.starts_at, c.ends_at, c.spent, l.amount,
        b.name, b.scope, b.metric, b.window_kind, b.action, t.percent,
        t.percent = max(t.percent) OVER (PARTITION BY c.tenant_id, c.counter_id) AS highest,
        EXISTS (SELECT 1 FROM alerts_alert a WHERE a.tenant_id = c.tenant_id
            AND a.dedupe_key = 'threshold:' || c.counter_id || ':' || t.percent) AS known
    FROM (SELECT DISTINCT * FROM unnest(%(tenants)s::uuid[], %(counters)s::uuid[])) AS x (tenant_id, counter_id)
    JOIN counters c ON c.tenant_id = x.tenant_id AND c.counter_id = x.counter_id
    JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
    CROSS JOIN LATERAL (SELECT CASE WHEN c.budget_version = b.version THEN c.limit_amount
        ELSE nb_limit(b, c.subject, greatest(%(now)s::timestamptz, c.starts_at)) END AS amount) AS l
    CROSS JOIN LATERAL unnest(b.thresholds) AS t (percent)
    WHERE c.spent > 0 AND c.spent::numeric * 100 >= l.amount::numeric * t.percent
        AND c.starts_at <= %(now)s AND (c.ends_at IS NULL OR c.ends_at > %(now)s) AND b.archived_at IS NULL) AS passed
WHERE NOT known
"""

_LOST = """
SELECT to_char(date_bin('10 minutes', e.closed_at, '2000-01-01 00:00Z') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"'),
    array_agg(e.epoch_id), min(e.closed_at), min(e.reason)
FROM epochs e
WHERE e.state = 'closed' AND e.opened_at IS NOT NULL AND e.reason <> 'planned close' AND e.closed_at > %(since)s
    AND (e.closed_at > %(recent)s OR NOT EXISTS (SELECT 1 FROM alerts_alert a WHERE a.tenant_id IS NULL
        AND a.dedupe_key = 'epoch_opened:' || to_char(date_bin('10 minutes', e.closed_at, '2000-01-01 00:00Z')
            AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"')))
GROUP BY 1 ORDER BY 1
"""

_STRANDED = """
SELECT g.tenant_id, count(DISTINCT g.counter_id), coalesce(sum(g.authority) FILTER (WHERE b.metric = 'usd'), 0)::bigint
FROM grants g
JOIN counters c ON c.tenant_id = g.tenant_id AND c.counter_id = g.counter_id
JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
WHERE g.epoch_id = ANY (%(epochs)s) AND g.authority > 0 AND b.action <> 'warn'
    AND (c.ends_at IS NULL OR c.ends_at > %(now)s)
GROUP BY 1 ORDER BY 1
"""


def posted(*, counters: Sequence[tuple[UUID, UUID]], presumed: Mapping[UUID, int], now: datetime) -> int:
    """Raises the alerts of newly posted ledger entries, in the caller's transaction; returns how many are new.

    `counters` are the (tenant, counter) that the entries touched, in any order and number; `presumed` is the nano-USD
    presumed spent by tenant. A counter of a current window that has passed thresholds alerts for the highest; the lower
    ones, and a new one below one that was told before, are noted as passed without a message. Call it once a
    transaction.
    """
    day = now.astimezone(UTC).date().isoformat()
    alerts = [
        NewAlert(
            tenant_id=tenant_id,
            kind="presumed_spending",
            dedupe_key=f"presumed_spending:{day}",
            subject=ids.encode(ids.TENANT, tenant_id),
            details={"day": day, "amount_usd": to_usd(nano)},
        )
        for tenant_id, nano in presumed.items()
        if nano > 0
    ]
    if counters:
        alerts += [_threshold(row) for row in _passed(counters, now)]
    return _raise_all(alerts, now)


def _passed(counters: Sequence[tuple[UUID, UUID]], now: datetime) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(
            _PASSED,
            {
                "tenants": [tenant for tenant, _ in counters],
                "counters": [counter for _, counter in counters],
                "now": now,
            },
        )
        return _named(cursor)


def _threshold(row: Mapping[str, Any]) -> NewAlert:
    budget = ids.encode(ids.BUDGET, row["budget_id"])
    return NewAlert(
        tenant_id=row["tenant_id"],
        kind="threshold",
        dedupe_key=f"threshold:{row['counter_id']}:{row['percent']}",
        subject=budget,
        details={
            "budget": budget,
            "budget_name": row["name"],
            "scope": row["scope"],
            "subject": row["subject"],
            "metric": row["metric"],
            "action": row["action"],
            "percent": row["percent"],
            "limit": show_limit(row["metric"], row["amount"]),
            "spent": show_limit(row["metric"], row["spent"]),
            "window": row["window_kind"],
            "starts_at": _wire(row["starts_at"]),
            "resets_at": _wire(row["ends_at"]) if row["ends_at"] else None,
        },
        silent=not row["highest"],
        keep_until=row["ends_at"],
        # The key of a window that never ends is needed as long as the budget is.
        keep_for_ever=row["ends_at"] is None,
    )


def drift(*, found: Iterable[Difference], now: datetime) -> int:
    """Tells operators of drift, once a day for a tenant; returns how many alerts are new."""
    day = now.astimezone(UTC).date().isoformat()
    by_tenant: dict[UUID | None, list[Difference]] = {}
    for one in found:
        by_tenant.setdefault(one.tenant_id, []).append(one)
    alerts = []
    for tenant_id, ones in by_tenant.items():
        first = ones[0]
        whose = ids.encode(ids.TENANT, tenant_id) if tenant_id else "none"
        alerts.append(
            NewAlert(
                tenant_id=None,
                kind="drift",
                dedupe_key=f"drift:{whose}:{day}",
                subject=whose,
                details={
                    "tenant": whose,
                    "differences": len(ones),
                    "first": f"{first.object}: {first.figure} is {first.stored}, its sources say {first.derived}"[
                        :300
                    ],
                },
            )
        )
    return _raise_all(alerts, now)


def epochs_lost(*, now: datetime) -> int:
    """Tells of epochs that were opened because Redis had lost theirs; returns how many alerts are new.

    Operators hear of each loss, tenants only if budgets of theirs have stranded authority. It reads what the controller
    wrote, since the controller must not depend on alerts: it runs while much else is broken.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_LOST, {"since": now - LOOK_BACK, "recent": now - SETTLE_DOWN})
            losses = cursor.fetchall()
        alerts: list[NewAlert] = []
        for bucket, epochs, first_at, reason in losses:
            with connection.cursor() as cursor:
                cursor.execute(_STRANDED, {"epochs": epochs, "now": now})
                stranded = cursor.fetchall()
            key, since = f"epoch_opened:{bucket}", _wire(first_at)
            about = {"shards": len(epochs), "since": since, "reason": reason}
            alerts.append(
                NewAlert(
                    tenant_id=None,
                    kind="epoch_opened",
                    dedupe_key=key,
                    subject="installation",
                    details={
                        **about,
                        "tenants": len(stranded),
                        "stranded_counters": sum(row[1] for row in stranded),
                        "stranded_usd": to_usd(sum(row[2] for row in stranded)),
                    },
                )
            )
            alerts += [
                NewAlert(
                    tenant_id=tenant_id,
                    kind="epoch_opened",
                    dedupe_key=key,
                    subject=ids.encode(ids.TENANT, tenant_id),
                    details={"since": since, "stranded_counters": count, "stranded_usd": to_usd(nano)},
                )
                for tenant_id, count, nano in stranded
            ]
        return _raise_all(alerts, now)


def _raise_all(alerts: list[NewAlert], now: datetime) -> int:
    """Raises any number, in the one order of keys that every transaction takes."""
    ordered = sorted(
        alerts, key=lambda alert: (alert.tenant_id is None, str(alert.tenant_id), alert.dedupe_key)
    )
    return sum(
        raise_alerts(alerts=ordered[start : start + ALERTS_MAX], now=now)
        for start in range(0, len(ordered), ALERTS_MAX)
    )


def _named(cursor: Any) -> list[dict[str, Any]]:
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _wire(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
