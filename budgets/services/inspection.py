"""What operators see of the money path: counters beside what their sources say, epochs, and what these strand.

Everything is bounded: so many rows a page, so long a statement. A figure that could not be had in time is None, and
is shown as unknown; it never stands in for zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import redis
from django.conf import settings

from budgets.queries import counters as query
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.counters import CounterFilter, Key
from budgets.stores.redis.keys import Keys
from noburn.kit.redis_cluster import servers_of

LIST_MS = 3_000
"""How long the rows of a page may take."""

VERIFY_MS = 4_000
"""How long each of the two sums behind a page's verify figures may take."""

SEARCH_MAX = 500
"""How many counters one page of `drift only` looks through."""

REDIS_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class InRedis:
    """What Redis has of a counter's live incarnation, in the counter's unit."""

    used: int
    held: int


@dataclass(kw_only=True, slots=True)
class Counter:
    """One counter with its figures, in its metric's unit. `row` has its names, window, limit and `spent`."""

    row: Row
    grants: list[Row] = field(default_factory=list)
    ledger_spent: int | None = None
    derived: dict[tuple[UUID, int], int] | None = None
    redis: InRedis | None = None

    @property
    def key(self) -> Key:
        """The tenant's id and the counter's."""
        return self.row["tenant_id"], self.row["counter_id"]

    @property
    def authority(self) -> int:
        """What was granted and not yet resolved, in all epochs."""
        return sum(int(grant["authority"]) for grant in self.grants)

    @property
    def stranded(self) -> int:
        """The part of it from which nobody can place a call any more."""
        return sum(int(grant["authority"]) for grant in self.grants if grant["stranded"])

    @property
    def derived_authority(self) -> int | None:
        """Granted, less what resolutions took, plus what they could not take."""
        return None if self.derived is None else sum(self.derived.values())

    @property
    def headroom(self) -> int:
        """What may still be granted."""
        return max(0, int(self.row["limit_amount"] - self.row["spent"]) - self.authority)

    @property
    def overrun(self) -> int:
        """What is spent or promised above the limit."""
        return max(0, int(self.row["spent"] - self.row["limit_amount"]) + self.authority)

    @property
    def drifts(self) -> bool | None:
        """Whether a figure is not what its sources say; None when nobody could tell in time."""
        if self.ledger_spent is None or self.derived is None:
            return None
        wrong = any(
            grant["authority"] != self.derived[grant["epoch_id"], grant["incarnation"]]
            for grant in self.grants
        )
        return wrong or self.row["spent"] != self.ledger_spent


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterPage:
    """Counters, the key after which the next page begins, and whether their figures could be checked."""

    counters: list[Counter]
    after: Key | None
    checked: bool
    searched: int


def counter_page(
    *, wanted: CounterFilter, after: Key | None, limit: int, drift_only: bool, now: datetime
) -> CounterPage:
    """A page of counters with their figures; `drift_only` looks through the next SEARCH_MAX. Raises TookTooLong."""
    most = SEARCH_MAX if drift_only else limit
    with limited(milliseconds=LIST_MS):
        found = query.counters(wanted=wanted, after=after, limit=most + 1, now=now)
    shown = [Counter(row=row) for row in found[:most]]
    checked = _check(shown)
    following = shown[-1].key if len(found) > most else None
    searched = len(shown)
    if drift_only:
        shown = [counter for counter in shown if counter.drifts]
        if len(shown) > limit:
            following = shown[limit - 1].key
            shown = shown[:limit]
    _ask_redis(shown)
    return CounterPage(counters=shown, after=following, checked=checked, searched=searched)


def one_counter(*, tenant_id: UUID, counter_id: UUID) -> Counter | None:
    """One counter with its figures, or None. Raises TookTooLong."""
    with limited(milliseconds=LIST_MS):
        row = query.counter(tenant_id=tenant_id, counter_id=counter_id)
    if row is None:
        return None
    counter = Counter(row=row)
    _check([counter])
    _ask_redis([counter])
    return counter


def _check(counters: Sequence[Counter]) -> bool:
    """Fills in grants and what the sources say, all of one moment; False if that took too long."""
    if not counters:
        return True
    by_key = {counter.key: counter for counter in counters}
    keys = list(by_key)
    try:
        with limited(milliseconds=VERIFY_MS):
            for fresh in query.spent(keys=keys):
                by_key[fresh["tenant_id"], fresh["counter_id"]].row.update(fresh)
            _add_grants(by_key, query.grants(keys=keys))
            posted, consumed = query.posted(keys=keys), query.consumed(keys=keys)
    except TookTooLong:
        with limited(milliseconds=LIST_MS):
            _add_grants(by_key, query.grants(keys=keys))
        return False
    for key, counter in by_key.items():
        counter.ledger_spent = counter.row["opening"] + posted.get(key, 0)
        counter.derived = {
            (grant["epoch_id"], grant["incarnation"]): grant["granted"]
            + grant["clamped"]
            - consumed.get((key[1], grant["epoch_id"], grant["incarnation"]), 0)
            for grant in counter.grants
        }
    return True


def _add_grants(counters: dict[Key, Counter], rows: Sequence[Row]) -> None:
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["tenant_id"], row["counter_id"]].append(row)
    for key, counter in counters.items():
        counter.grants = found[key]


def _ask_redis(counters: Sequence[Counter]) -> None:
    """Fills in what Redis has of live incarnations; leaves it unknown when Redis does not answer at once."""
    asked = [
        (counter, grant, Keys(shard=grant["shard"], epoch_id=grant["epoch_id"]))
        for counter in counters
        for grant in counter.grants
        if not grant["stranded"]
    ]
    if not asked:
        return
    try:
        servers = servers_of(settings.REDIS_URL, {keys.epoch for *_, keys in asked}, seconds=REDIS_SECONDS)
    except redis.RedisError:
        return
    for server in sorted(set(servers.values())):
        _ask_server(server, [one for one in asked if servers[one[2].epoch] == server])


def _ask_server(url: str, asked: Sequence[tuple[Counter, Row, Keys]]) -> None:
    try:
        with (
            redis.Redis.from_url(
                url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
            ) as client,
            client.pipeline(transaction=False) as pipeline,
        ):
            for counter, _, keys in asked:
                pipeline.hmget(keys.counter(counter.row["counter_id"]), ["inc", "used", "held"])
            answers = pipeline.execute(raise_on_error=False)
    except redis.RedisError:
        return
    for (counter, grant, _), answer in zip(asked, answers, strict=True):
        if isinstance(answer, list) and answer[0] is not None and int(answer[0]) == grant["incarnation"]:
            counter.redis = InRedis(used=int(answer[1]), held=int(answer[2]))
