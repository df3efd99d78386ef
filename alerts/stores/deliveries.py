"""Claims due deliveries by a lease. PostgreSQL is the truth; a hint from the broker only makes somebody look."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

# In turns: each tenant's longest waiting destination before anybody's second one, and of each destination some. So
# neither one with thousands waiting nor a tenant's many slow ones keep others' back. Only what may be taken is locked.
_CLAIM = """
WITH waiting AS (
    SELECT destination_id, min(next_attempt_at) AS since FROM alerts_delivery
    WHERE state = 'pending' AND next_attempt_at <= %(now)s GROUP BY destination_id),
turns AS (
    SELECT w.destination_id, w.since,
        row_number() OVER (PARTITION BY d.tenant_id ORDER BY w.since, w.destination_id) AS turn
    FROM waiting w JOIN alerts_destination d ON d.id = w.destination_id
    ORDER BY turn, w.since, w.destination_id LIMIT %(batch)s),
due AS (
    SELECT t.turn, x.id, row_number() OVER (PARTITION BY t.destination_id ORDER BY x.next_attempt_at, x.id) AS place
    FROM turns t CROSS JOIN LATERAL (
        SELECT id, next_attempt_at FROM alerts_delivery
        WHERE destination_id = t.destination_id AND state = 'pending' AND next_attempt_at <= %(now)s
        ORDER BY next_attempt_at, id LIMIT %(each)s FOR UPDATE SKIP LOCKED) AS x),
chosen AS (SELECT id FROM due ORDER BY place, turn, id LIMIT %(batch)s),
claimed AS (
    UPDATE alerts_delivery d SET claim = %(claim)s, next_attempt_at = %(until)s, attempts = d.attempts + 1,
        tries = d.tries + 1
    FROM chosen WHERE d.id = chosen.id
    RETURNING d.id, d.tenant_id, d.attempts),
begun AS (
    INSERT INTO alerts_attempt (id, tenant_id, delivery_id, number, started_at, ok)
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM %(now)s::timestamptz) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid,
        tenant_id, id, attempts, %(now)s, false FROM claimed)
SELECT id FROM claimed
"""


def claim(*, claim: UUID, batch: int, each: int, now: datetime, lease: timedelta) -> list[UUID]:
    """Takes up to `batch` due deliveries, at most `each` of one destination; returns their ids.

    They come due again when the lease ends, unless somebody wrote what became of them.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM, {"claim": claim, "batch": batch, "each": each, "now": now, "until": now + lease}
        )
        return [row[0] for row in cursor.fetchall()]


def prune(*, deliveries_before: datetime, now: datetime, batch: int) -> int:
    """Deletes one batch of old deliveries with their attempts, and of alerts past `keep_until`; returns how many rows.

    An alert goes only when none of its deliveries is left.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH old AS (SELECT id FROM alerts_delivery WHERE created_at < %s AND state <> 'pending'
                ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED),
            history AS (DELETE FROM alerts_attempt a USING old WHERE a.delivery_id = old.id)
            DELETE FROM alerts_delivery d USING old WHERE d.id = old.id""",
            [deliveries_before, batch],
        )
        gone = cursor.rowcount
        cursor.execute(
            """DELETE FROM alerts_alert a WHERE a.id IN (SELECT o.id FROM alerts_alert o WHERE o.keep_until < %s
                AND NOT EXISTS (SELECT 1 FROM alerts_delivery d WHERE d.alert_id = o.id)
                ORDER BY o.keep_until LIMIT %s FOR UPDATE SKIP LOCKED)""",
            [now, batch],
        )
        return int(gone) + int(cursor.rowcount)
