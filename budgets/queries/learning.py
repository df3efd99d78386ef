"""The settled calls that learned estimates are made from."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from uuid import UUID

from budgets.domain.learning import Sample
from budgets.queries.bounded import rows

SAMPLES_MAX = 20_000
"""The most calls of a tenant that are looked at: the newest."""


def settled_samples(*, tenant_id: UUID, since: datetime) -> dict[tuple[str, str], list[Sample]]:
    """The newest settled calls of a tenant by (provider, model), bound and use together.

    A decision says what was bounded, the ledger what was used. Only calls with a usage count: a presumption is
    its own bound. Cut and failed calls are left out, since they used less than such calls do.
    """
    found = rows(
        """SELECT d.provider, d.model, d.input_tokens, d.n,
            (l.usage ->> 'input_tokens')::bigint AS input_used, (l.usage ->> 'output_tokens')::bigint AS output_used
        FROM (SELECT * FROM decisions WHERE tenant_id = %s AND id >= nb_decision_floor(%s)
                AND hold_id IS NOT NULL ORDER BY id DESC LIMIT %s) AS d
        JOIN ledger_entries l ON l.hold_id = d.hold_id AND l.tenant_id = d.tenant_id
            AND l.placed_month IN (date_trunc('month', d.decided_at, 'UTC')::date,
                date_trunc('month', d.decided_at + interval '1 hour', 'UTC')::date,
                date_trunc('month', d.decided_at - interval '1 hour', 'UTC')::date)
        WHERE l.kind = 'settled' AND l.outcome = 'ok' AND l.usage IS NOT NULL
        ORDER BY d.id DESC""",
        [tenant_id, since, SAMPLES_MAX],
    )
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for row in found:
        # One choice of several is taken to be as long as their average, rounded up.
        output = -(-(row["output_used"] or 0) // max(1, row["n"]))
        samples[row["provider"], row["model"]].append(
            Sample(row["input_tokens"], row["input_used"] or 0, output)
        )
    return dict(samples)
