"""What wallets were charged for calls, by the time at which these were placed, and whether all of them were burnt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from budgets.queries.bounded import rows

Stretch = tuple[str, datetime, datetime]
"""A customer, and [since, until)."""

# An approved presumption is billed, and the wallet was kept from its whole bound: that counts as charged.
_CHARGED = """
SELECT p.customer, coalesce(sum(h.charged_nano + CASE WHEN h.presumed_nano > 0 AND EXISTS (
        SELECT FROM presumed_approvals a WHERE a.tenant_id = h.tenant_id AND a.hold_id = h.hold_id)
    THEN h.presumed_nano ELSE 0 END), 0)::bigint AS nano
FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS p (customer, since, until)
JOIN billing_wallet w ON w.tenant_id = %s AND w.customer = p.customer
JOIN billing_wallethold h ON h.tenant_id = w.tenant_id AND h.wallet_id = w.id
    AND h.placed_at >= p.since AND h.placed_at < p.until
GROUP BY 1
"""

# Between the two cursors lies what one of charges and wallets has read and the other has not; then what waits.
_BURNT = """
SELECT (u.shift = c.shift
    AND NOT EXISTS (SELECT FROM ledger_entries l
        WHERE l.position >= least(u.position, c.position) AND l.position < greatest(u.position, c.position)
            AND l.tenant_id = w.tenant_id AND w.id = ANY (l.counters)
            AND l.placed_at >= %s AND l.placed_at < %s)
    AND NOT EXISTS (SELECT FROM billing_walletentry e
        JOIN ledger_entries l ON l.hold_id = e.hold_id AND l.placed_month = e.placed_month AND l.revision = e.revision
        WHERE e.wallet_id = w.id AND l.placed_at >= %s AND l.placed_at < %s)) AS burnt
FROM billing_wallet w, usage_cursor u, billing_walletcursor c
WHERE w.tenant_id = %s AND w.id = %s
"""


def charged_in(*, tenant_id: UUID, stretches: Sequence[Stretch]) -> dict[str, int]:
    """Returns what wallets are charged for calls that were placed in stretches of time, in nano-USD by customer.

    What a wallet got back as a true-up is not taken off.
    """
    names, since, until = ([stretch[place] for stretch in stretches] for place in range(3))
    return {row["customer"]: row["nano"] for row in rows(_CHARGED, [names, since, until, tenant_id])}


def burnt_as_summed(*, tenant_id: UUID, wallet_id: UUID, since: datetime, until: datetime) -> bool:
    """Tells whether what a wallet was charged for calls of [since, until) is of the same settlements as their sums."""
    found = rows(_BURNT, [since, until, since, until, tenant_id, wallet_id])
    return bool(found) and bool(found[0]["burnt"])
