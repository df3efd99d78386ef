"""Writes alerts and their deliveries in one statement, so that a storm of the same ones costs one look each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

# Sorted, so that two transactions with the same keys wait for one another instead of deadlocking.
# A row that another transaction has written but not committed is waited for: then it is there, or it is ours.
# Ids of version 7, as everywhere: a random one of version 4 with the time put in front and its version changed.
_INSERT = """
WITH told AS (
    INSERT INTO alerts_alert (id, tenant_id, kind, severity, dedupe_key, subject, details, silent, raised_at, keep_until)
    SELECT x.id, x.tenant, x.kind, x.severity, x.dedupe_key, x.subject, x.details, x.silent, %(now)s, x.keep_until
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS x(id uuid, tenant uuid, kind text, severity text, dedupe_key text,
        subject text, details jsonb, silent boolean, keep_until timestamptz)
    ORDER BY x.tenant, x.dedupe_key COLLATE "C"
    ON CONFLICT (tenant_id, dedupe_key) DO NOTHING
    RETURNING id, tenant_id, kind, silent),
wanted AS (
    SELECT t.id, t.tenant_id, d.id AS destination_id
    FROM told t JOIN alerts_destination d ON d.tenant_id = t.tenant_id
    WHERE NOT t.silent AND d.enabled
        AND (d.alert_kinds = '{}' OR t.kind = ANY (d.alert_kinds) OR t.kind = ANY (%(always)s))
    UNION ALL
    SELECT t.id, NULL, d.id
    FROM told t JOIN alerts_destination d ON t.tenant_id IS NULL AND d.tenant_id IS NULL
    WHERE NOT t.silent AND d.enabled),
sent AS (
    INSERT INTO alerts_delivery (id, tenant_id, alert_id, destination_id, state, next_attempt_at, attempts, tries,
        created_at)
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM %(now)s::timestamptz) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid,
        w.tenant_id, w.id, w.destination_id, 'pending', %(now)s, 0, 0, %(now)s
    FROM wanted w
    RETURNING 1)
SELECT ARRAY(SELECT id FROM told), (SELECT count(*) FROM sent)
"""


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert as it is written."""

    id: UUID
    tenant_id: UUID | None
    kind: str
    severity: str
    dedupe_key: str
    subject: str
    details: dict[str, Any]
    silent: bool
    keep_until: datetime | None


def insert(rows: Sequence[AlertRow], *, always: Sequence[str], now: datetime) -> tuple[set[UUID], int]:
    """Writes the alerts whose key is new, with a delivery to each destination that wants them.

    Returns the ids of those written, and the number of deliveries.
    """
    if not rows:
        return set(), 0
    shown = [
        {
            "id": str(row.id),
            "tenant": str(row.tenant_id) if row.tenant_id else None,
            "kind": row.kind,
            "severity": row.severity,
            "dedupe_key": row.dedupe_key,
            "subject": row.subject,
            "details": row.details,
            "silent": row.silent,
            "keep_until": row.keep_until.isoformat() if row.keep_until else None,
        }
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, {"rows": json.dumps(shown), "always": list(always), "now": now})
        ids, deliveries = cursor.fetchone()
    return set(ids), int(deliveries)
