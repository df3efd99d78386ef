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
from budgets.queries.billable import KINDS, Pieces, Span, rows_by_span
from budgets.queries.bounded import Row, rows

SINGLY: Final = -1
"""The group of customers that were priced one by one."""

DEFAULT_GROUP: Final = 0

# As billing.domain.charging.use_of_sums makes units of sums: each token is one unit.
_WRITES_1H: Final = "least(c.cache_write_1h_tokens, c.cache_write_tokens)"
_UNITS: Final = {
    Unit.INPUT: "greatest(0, c.input_tokens - c.cache_read_tokens - c.cache_write_tokens) - c.audio_input_tokens",
    Unit.CACHE_READ: "c.cache_read_tokens",
    Unit.CACHE_WRITE: f"c.cache_write_tokens - {_WRITES_1H}",
    Unit.CACHE_WRITE_1H: _WRITES_1H,
    Unit.AUDIO_INPUT: "c.audio_input_tokens",
    Unit.OUTPUT: "greatest(0, c.output_tokens - c.reasoning_tokens - c.audio_output_tokens)",
    Unit.REASONING: "c.reasoning_tokens",
    Unit.AUDIO_OUTPUT: "c.audio_output_tokens",
    Unit.IMAGES: "c.images",
    Unit.TOOL_CALLS: "c.tool_calls",
    Unit.REQUESTS: "c.requests",
}
_OF_COST: Final = f"c.cost_nano::numeric * {ATTO_PER_NANO // MILLION} * f.cost_ppm"
_OF_UNITS: Final = " + ".join(f"({words}) * f.units[{at}]" for at, words in enumerate(_UNITS.values(), 1))


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
) -> list[Row]:
    """Returns rows of `customer`, `cost_nano`, `presumed_nano`, `net_yocto` and `margin_yocto`, the least margin first.

    `members` are customers by group; who is not among them is in DEFAULT_GROUP, and who is in no group of `groups`
    pays nothing. `singly` has what was priced one by one, in yocto. Each row has the sums of all rows too (`all_…`),
    and how many there are. `after` is the margin and name of the row before.
    """
    # Counts are read where some card asks for them, and priced where a factor has prices of units.
    by_units = any(any(factor.units_atto) for group in groups.values() for factor in group.factors)
    kinds = KINDS if by_units else ()
    price = f"{_OF_COST} + CASE WHEN f.units IS NULL THEN 0 ELSE {_OF_UNITS} END" if by_units else _OF_COST
    sums, values = rows_by_span(tenant_id=tenant_id, found=found, kinds=kinds)
    approved, more = approved_by_model(tenant_id=tenant_id, customers=None, spans=spans, kinds=kinds)
    lines = [(number, factor) for number, group in groups.items() for factor in group.factors]
    pieces = [(number, band) for number, group in groups.items() for band in group.bands]
    own = {**members, **dict.fromkeys(singly, SINGLY)}
    columns = ("span", "customer", "provider", "model", "cost_nano", "presumed_nano", "requests", *kinds)
    later = "true" if after is None else "(s.margin_yocto, s.customer) > (%s, %s)"
    return rows(
        f"""WITH used ({", ".join(columns)}) AS ({" UNION ALL ".join(part for part in (sums, approved) if part)}),
        member (customer, grp) AS (SELECT * FROM unnest(%s::text[], %s::integer[])),
        alone (customer, net) AS (SELECT * FROM unnest(%s::text[], %s::numeric[])),
        factor (grp, span, provider, model, cost_ppm, units) AS (
            SELECT t.grp, t.span, t.provider, t.model, t.cost_ppm, string_to_array(nullif(t.units, ''), ' ')::numeric[]
            FROM unnest(%s::integer[], %s::integer[], %s::text[], %s::text[], %s::numeric[], %s::text[])
                AS t (grp, span, provider, model, cost_ppm, units)),
        band (grp, low, high, ppm) AS (
            SELECT * FROM unnest(%s::integer[], %s::numeric[], %s::numeric[], %s::numeric[])),
        gross AS (
            SELECT c.customer, coalesce(m.grp, CASE WHEN c.customer <> '' THEN {DEFAULT_GROUP} END) AS grp,
                sum(c.cost_nano) AS cost_nano, greatest(0, sum(c.presumed_nano)) AS presumed_nano,
                coalesce(sum({price}), 0) AS atto
            FROM used AS c
            LEFT JOIN member m ON m.customer = c.customer
            LEFT JOIN factor f ON f.grp = coalesce(m.grp, CASE WHEN c.customer <> '' THEN {DEFAULT_GROUP} END)
                AND f.span = c.span AND f.provider = c.provider AND f.model = c.model
            GROUP BY 1, 2),
        net AS (
            SELECT g.customer, g.cost_nano, g.presumed_nano, coalesce(a.net, b.net, 0) AS net_yocto,
                coalesce(a.net, b.net, 0) - g.cost_nano * {YOCTO_PER_NANO} AS margin_yocto
            FROM gross g
            LEFT JOIN alone a ON a.customer = g.customer
            LEFT JOIN (SELECT s.customer, sum(greatest(0, least(s.atto, b.high) - b.low) * b.ppm) AS net
                FROM gross s JOIN band b ON b.grp = s.grp GROUP BY 1) AS b ON b.customer = g.customer
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
            *_columns([(n, f.span, *f.model, f.cost_ppm, _spelt(f.units_atto)) for n, f in lines], 6),
            *_columns([(n, b.low_atto, b.high_atto, b.ppm) for n, b in pieces], 4),
            *(after or ()),
            limit,
        ],
    )


def _columns(table: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*table, strict=True)] if table else [[] for _ in range(width)]


def _spelt(units_atto: Sequence[int]) -> str:
    return " ".join(map(str, units_atto)) if any(units_atto) else ""
