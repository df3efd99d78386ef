"""Revenue, model cost and margin of every customer of a tenant, in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from billing.domain.charging import ATTO_PER_NANO, YOCTO_PER_NANO
from billing.domain.rate_cards import MILLION, Unit
from billing.domain.revenue import Band, Factor
from billing.queries.approvals import approved_by_model
from budgets.queries.billable import KINDS, Pieces, Span, use_by_model
from budgets.queries.bounded import Row, rows

SINGLY: Final = -1
"""The group of customers that were priced one by one."""

DEFAULT_GROUP: Final = 0

# As billing.domain.charging.use_of_sums makes units of sums: each token is one unit.
_UNITS: Final = {
    Unit.INPUT: "rest - heard",
    Unit.CACHE_READ: "reads",
    Unit.CACHE_WRITE: "writes",
    Unit.CACHE_WRITE_1H: "writes_1h",
    Unit.AUDIO_INPUT: "heard",
    Unit.OUTPUT: "greatest(0, output_tokens - reasoning - spoken)",
    Unit.REASONING: "reasoning",
    Unit.AUDIO_OUTPUT: "spoken",
    Unit.IMAGES: "greatest(0, images)",
    Unit.TOOL_CALLS: "greatest(0, tool_calls)",
    Unit.REQUESTS: "greatest(0, requests)",
}
_COUNTED: Final = f"""
    SELECT *, least(greatest(0, audio_input_tokens), rest) AS heard
    FROM (SELECT *, greatest(0, input_tokens - reads - writes - writes_1h) AS rest
        FROM (SELECT *, greatest(0, cache_read_tokens) AS reads,
                greatest(0, least(cache_write_1h_tokens, cache_write_tokens)) AS writes_1h,
                greatest(0, cache_write_tokens - greatest(0, least(cache_write_1h_tokens, cache_write_tokens)))
                    AS writes,
                greatest(0, reasoning_tokens) AS reasoning, greatest(0, audio_output_tokens) AS spoken
            FROM (SELECT span, customer, provider, model,
                    greatest(0, sum(cost_nano)) AS cost_nano, sum(presumed_nano) AS presumed_nano,
                    sum(requests) AS requests, {", ".join(f"sum({name}) AS {name}" for name in KINDS)}
                FROM used GROUP BY 1, 2, 3, 4) AS a) AS b) AS c"""  # noqa: S608
_GROSS: Final = f"""c.cost_nano * {ATTO_PER_NANO // MILLION} * f.cost_ppm
    + {" + ".join(f"({words}) * f.units[{at}]" for at, words in enumerate(_UNITS.values(), 1))}"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Customers that are priced alike."""

    factors: Sequence[Factor]
    bands: Sequence[Band]


def revenue_rows(
    *,
    tenant_id: UUID,
    spans: Sequence[Span],
    found: Pieces,
    groups: Mapping[int, Group],
    members: Mapping[str, int],
    singly: Mapping[str, int],
    after: tuple[int, str] | None,
    limit: int,
    customers: Sequence[str] | None = None,
) -> list[Row]:
    """Returns rows of `customer`, `cost_nano`, `presumed_nano`, `net_yocto` and `margin_yocto`, the least margin first.

    `members` are customers by group; who is not among them is in DEFAULT_GROUP, and who is in no group of `groups`
    pays nothing. `singly` has what was priced one by one, in yocto. Each row has the sums of all rows too (`all_…`),
    and how many there are. `after` is the margin and name of the row before.
    """
    sums, values = use_by_model(tenant_id=tenant_id, customers=customers, found=found)
    approved, more = approved_by_model(tenant_id=tenant_id, customers=customers, spans=spans)
    lines = [(number, factor) for number, group in groups.items() for factor in group.factors]
    pieces = [(number, band) for number, group in groups.items() for band in group.bands]
    own = {**members, **dict.fromkeys(singly, SINGLY)}
    named = f"(span, customer, provider, model, cost_nano, presumed_nano, requests, {', '.join(KINDS)})"
    later = "true" if after is None else "(s.margin_yocto, s.customer) > (%s, %s)"
    return rows(
        f"""WITH used {named} AS ({" UNION ALL ".join(part for part in (sums, approved) if part)}),
        member (customer, grp) AS (SELECT * FROM unnest(%s::text[], %s::integer[])),
        alone (customer, net) AS (SELECT * FROM unnest(%s::text[], %s::numeric[])),
        factor (grp, span, provider, model, cost_ppm, units) AS (
            SELECT t.grp, t.span, t.provider, t.model, t.cost_ppm, string_to_array(t.units, ' ')::numeric[]
            FROM unnest(%s::integer[], %s::integer[], %s::text[], %s::text[], %s::numeric[], %s::text[])
                AS t (grp, span, provider, model, cost_ppm, units)),
        band (grp, low, high, ppm) AS (
            SELECT * FROM unnest(%s::integer[], %s::numeric[], %s::numeric[], %s::numeric[])),
        gross AS (
            SELECT c.customer, coalesce(m.grp, CASE WHEN c.customer <> '' THEN {DEFAULT_GROUP} END) AS grp,
                sum(c.cost_nano) AS cost_nano, greatest(0, sum(c.presumed_nano)) AS presumed_nano,
                coalesce(sum({_GROSS}), 0) AS atto
            FROM ({_COUNTED}) AS c
            LEFT JOIN member m ON m.customer = c.customer
            LEFT JOIN factor f ON f.grp = coalesce(m.grp, CASE WHEN c.customer <> '' THEN {DEFAULT_GROUP} END)
                AND f.span = c.span AND f.provider = c.provider AND f.model = c.model
            GROUP BY 1, 2),
        net AS (
            SELECT g.customer, g.cost_nano, g.presumed_nano, coalesce(a.net, b.net, 0) AS net_yocto,
                coalesce(a.net, b.net, 0) - g.cost_nano * {YOCTO_PER_NANO} AS margin_yocto
            FROM gross g
            LEFT JOIN alone a ON a.customer = g.customer
            LEFT JOIN LATERAL (SELECT sum(greatest(0, least(g.atto, b.high) - b.low) * b.ppm) AS net
                FROM band b WHERE b.grp = g.grp) AS b ON true
            WHERE g.cost_nano <> 0 OR g.atto <> 0 OR g.presumed_nano <> 0),
        total AS (SELECT sum(cost_nano) AS all_cost_nano, sum(presumed_nano) AS all_presumed_nano,
            sum(net_yocto) AS all_net_yocto, count(*) AS all_customers FROM net)
        SELECT s.*, t.* FROM total t LEFT JOIN (SELECT * FROM net s WHERE {later}
            ORDER BY s.margin_yocto, s.customer LIMIT %s) AS s ON true
        ORDER BY s.margin_yocto, s.customer""",  # noqa: S608
        [
            *values,
            *more,
            list(own),
            list(own.values()),
            list(singly),
            list(singly.values()),
            *_columns(
                [(n, f.span, *f.model, f.cost_ppm, " ".join(map(str, f.units_atto))) for n, f in lines], 6
            ),
            *_columns([(n, b.low_atto, b.high_atto, b.ppm) for n, b in pieces], 4),
            *(after or ()),
            limit,
        ],
    )


def _columns(table: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*table, strict=True)] if table else [[] for _ in range(width)]
