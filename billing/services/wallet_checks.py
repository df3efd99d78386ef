"""Compares wallets with their sources: the journal, what calls took, and the counters of the escrow. Mends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connection

DIFFERENCES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class WalletDifference:
    """A figure of a wallet that is not what its source says, in nano-USD."""

    tenant_id: UUID
    wallet_id: UUID
    figure: str
    stored: int
    derived: int


# One snapshot: each is exact while calls are settled and burnt. What a counter has spent and nobody burnt yet is what the
# ledger holds beyond the entries that were burnt, so the last one holds at any moment as well.
_SQL = """
WITH mine AS (SELECT * FROM billing_wallet w WHERE %(tenant)s::uuid IS NULL OR w.tenant_id = %(tenant)s),
lines AS (
    SELECT l.wallet_id, l.account, l.grant_id, sum(l.amount_nano)::bigint AS amount
    FROM billing_journalline l JOIN mine w ON w.tenant_id = l.tenant_id AND w.id = l.wallet_id GROUP BY 1, 2, 3),
holds AS (
    SELECT h.wallet_id, sum(h.posted_nano)::bigint AS posted, sum(h.charged_nano)::bigint AS charged,
        sum(h.presumed_nano)::bigint AS presumed
    FROM billing_wallethold h JOIN mine w ON w.tenant_id = h.tenant_id AND w.id = h.wallet_id GROUP BY 1),
figures AS (
    SELECT w.tenant_id, w.id, 'journal' AS figure, 0::bigint AS stored,
        coalesce((SELECT sum(l.amount) FROM lines l WHERE l.wallet_id = w.id), 0)::bigint AS derived
    FROM mine w
    UNION ALL
    SELECT g.tenant_id, g.wallet_id, 'grant ' || g.id, g.remaining_nano, coalesce(l.amount, 0)
    FROM billing_creditgrant g JOIN mine w ON w.tenant_id = g.tenant_id AND w.id = g.wallet_id
    LEFT JOIN lines l ON l.wallet_id = g.wallet_id AND l.grant_id = g.id
    UNION ALL
    SELECT w.tenant_id, w.id, 'owed', w.owed_nano,
        -coalesce((SELECT sum(l.amount) FROM lines l WHERE l.wallet_id = w.id AND l.account = 'owed'), 0)::bigint
    FROM mine w
    UNION ALL
    SELECT w.tenant_id, w.id, 'burnt', w.burnt_nano, coalesce(h.posted, 0)
    FROM mine w LEFT JOIN holds h ON h.wallet_id = w.id
    UNION ALL
    SELECT w.tenant_id, w.id, 'revenue', coalesce(h.charged, 0) - coalesce((SELECT sum(t.returned_nano)
            FROM billing_wallettrueup t WHERE t.tenant_id = w.tenant_id AND t.wallet_id = w.id), 0)::bigint,
        coalesce((SELECT sum(l.amount) FROM lines l WHERE l.wallet_id = w.id AND l.account = 'revenue'), 0)::bigint
    FROM mine w LEFT JOIN holds h ON h.wallet_id = w.id
    UNION ALL
    SELECT w.tenant_id, w.id, 'presumed', coalesce(h.presumed, 0),
        coalesce((SELECT sum(l.amount) FROM lines l WHERE l.wallet_id = w.id AND l.account = 'presumed'), 0)::bigint
    FROM mine w LEFT JOIN holds h ON h.wallet_id = w.id
    UNION ALL
    SELECT w.tenant_id, w.id, 'limit burnt', x.burnt, w.burnt_nano
    FROM mine w JOIN wallet_limits x ON x.tenant_id = w.tenant_id AND x.counter_id = w.id
    UNION ALL
    -- Credit that ended since it was told stands in the falls, which are over: active credit is compared as of now.
    SELECT w.tenant_id, w.id, 'limit credit', x.base + coalesce((SELECT sum(f.fall) FROM unnest(x.falls_at, x.falls)
            AS f (at, fall) WHERE f.at > now()), 0)::bigint,
        coalesce((SELECT sum(g.remaining_nano) FROM billing_creditgrant g
            WHERE g.tenant_id = w.tenant_id AND g.wallet_id = w.id AND g.voided_at IS NULL
                AND (g.expires_at IS NULL OR g.expires_at > now())), 0)::bigint - w.owed_nano
    FROM mine w JOIN wallet_limits x ON x.tenant_id = w.tenant_id AND x.counter_id = w.id
    UNION ALL
    SELECT w.tenant_id, w.id, 'counter', c.spent - coalesce(u.unburnt, 0)::bigint, w.burnt_nano
    FROM mine w JOIN counters c ON c.tenant_id = w.tenant_id AND c.counter_id = w.id
    LEFT JOIN LATERAL (
        SELECT sum(p.delta) AS unburnt
        FROM ledger_entries l
        LEFT JOIN billing_wallethold h ON h.tenant_id = l.tenant_id AND h.hold_id = l.hold_id,
            unnest(l.counters, l.deltas) AS p (counter, delta)
        WHERE l.tenant_id = w.tenant_id AND p.counter = w.id AND l.revision > coalesce(h.revision, 0)) AS u ON true)
SELECT * FROM figures WHERE stored <> derived ORDER BY 1, 2, 3 LIMIT %(most)s
"""


def check_wallets(*, tenant_id: UUID | None = None) -> list[WalletDifference]:
    """Returns every figure of a tenant's wallets (None: of all) that is not what its sources say; none if all is well.

    Reads the tenant's whole ledger: an operator's question, or a night's.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SQL, {"tenant": tenant_id, "most": DIFFERENCES_MAX})
        return [WalletDifference(*row) for row in cursor.fetchall()]
