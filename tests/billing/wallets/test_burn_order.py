"""The burn order and the journal's lines over random lives of a purse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from billing.domain.wallets import LAPSE, Credit, Draw, Purse

START = datetime(2026, 11, 1, tzinfo=UTC)
HOURS = st.integers(0, 48)
CREDIT_ACCOUNTS = ("paid_credit", "promotional_credit")


def at(hours: int) -> datetime:
    return START + timedelta(hours=hours)


credits = st.builds(
    Credit,
    id=st.builds(uuid4),
    kind=st.sampled_from(["paid", "promotional"]),
    amount=st.integers(50, 60),
    remaining=st.integers(0, 50),
    priority=st.sampled_from([1, 40, 50]),
    expires_at=st.one_of(st.none(), HOURS.map(at)),
    voided_at=st.one_of(st.none(), st.none(), HOURS.map(at)),
    created_at=HOURS.map(at),
)
lives = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.integers(1, 60), HOURS),
        st.tuples(st.just("presume"), st.integers(1, 60), HOURS),
        st.tuples(st.just("give back"), st.integers(0, 20), HOURS),
        st.tuples(st.just("restore"), st.integers(1, 60), HOURS),
        st.tuples(st.just("repay"), st.just(0), HOURS),
        st.tuples(st.just("end"), st.integers(0, 5), HOURS),
    ),
    max_size=25,
)


class TestLives:
    @given(st.lists(credits, max_size=6), st.integers(0, 20), lives)
    def test_keep_every_account(
        self, given_: list[Credit], owed: int, life: list[tuple[str, int, int]]
    ) -> None:
        purse = Purse(given_, owed=owed)
        began = {credit.id: credit.remaining for credit in given_}
        standing: list[tuple[str, list[Draw]]] = []
        for what, number, hour in life:
            now, lines_before = at(hour), dict(purse.lines.amounts)
            if what in ("draw", "presume"):
                into = "revenue" if what == "draw" else "presumed"
                left = {credit.id: credit.remaining for credit in purse.credits.values()}
                free = min(number, max(0, -purse.owed))
                draws = purse.draw(number, placed_at=now, into=into)
                assert draws[: int(free > 0)] == ([(None, free)] if free else [])
                self.in_order(purse, draws[int(free > 0) :], left, now)
                assert sum(nano for _, nano in draws) == number
                standing.append((into, draws))
            elif what == "give back" and standing:
                into, draws = standing.pop(number % len(standing))
                purse.give_back(draws, out_of=into)
            elif what == "restore":
                self.restored(purse, number, now)
            elif what == "repay":
                purse.repay(now=now)
            elif what == "end" and purse.credits:
                credit = list(purse.credits.values())[number % len(purse.credits)]
                ends = credit.lapses_at()
                if ends is not None and ends <= now:
                    purse.end(credit)
            # Every step adds up by itself, whatever a posting gathers.
            step = [amount - lines_before.get(place, 0) for place, amount in purse.lines.amounts.items()]
            assert sum(step) == 0
            assert all(0 <= credit.remaining <= credit.amount for credit in purse.credits.values())
        self.adds_up(purse, began, owed)

    def restored(self, purse: Purse, number: int, now: datetime) -> None:
        """What is owed is paid first; no credit gets any while one that is burnt later, or has not ended, has room."""
        owed = purse.owed
        left = {credit.id: credit.remaining for credit in purse.credits.values()}
        purse.restore(number, now=now, out_of="revenue")
        got = {c.id: c.remaining - left[c.id] for c in purse.credits.values()}
        assert sum(got.values()) + owed - purse.owed == number
        ranked = sorted(reversed(purse.credits.values()), key=lambda c: not c.active(now))
        for earlier, credit in enumerate(ranked):
            if got[credit.id]:
                assert owed - purse.owed >= max(0, owed)
                assert all(before.remaining == before.amount for before in ranked[:earlier])
        assert purse.owed >= 0 or owed < 0 or all(c.remaining == c.amount for c in ranked)

    def in_order(self, purse: Purse, draws: list[Draw], left: dict[UUID, int], placed_at: datetime) -> None:
        """What was drawn had not ended, and nothing before it in the order was left over."""
        names = [grant for grant, _ in draws]
        ranks = [purse.credits[grant].rank() for grant in names if grant is not None]
        assert all(one < other for one, other in pairwise(ranks))
        for grant in names:
            if grant is not None:
                ends = purse.credits[grant].expires_at
                assert ends is None or placed_at < ends
        usable = [c for c in purse.credits.values() if left[c.id] and c.pays_for(placed_at)]
        for credit in usable:
            later = [n for n in names if n is None or purse.credits[n].rank() > credit.rank()]
            assert not (credit.remaining and later)

    def adds_up(self, purse: Purse, began: dict[UUID, int], owed: int) -> None:
        """Each grant's lines are what it changed by; so are those of what is owed; and all of them are nothing."""
        amounts = purse.lines.amounts
        for grant, before in began.items():
            lines = sum(n for (account, of), n in amounts.items() if of == grant)
            assert purse.credits[grant].remaining == before + lines
        assert purse.owed - owed == -amounts.get(("owed", None), 0)
        assert sum(amounts.values()) == 0
        assert all((account in CREDIT_ACCOUNTS) == (grant is not None) for account, grant in amounts)


class TestBurnOrder:
    def test_is_priority_then_end_then_presents_then_age(self) -> None:
        def credit(**fields: object) -> Credit:
            usual = {
                "kind": "paid", "amount": 1, "remaining": 1, "priority": 50, "expires_at": None, "voided_at": None,
                "created_at": START,
            }  # fmt: skip
            return Credit(id=uuid4(), **{**usual, **fields})  # type: ignore[arg-type]

        wanted = [
            credit(priority=1),
            credit(expires_at=at(5), kind="paid"),
            credit(expires_at=at(9), kind="promotional"),
            credit(kind="promotional", created_at=at(3)),
            credit(),
            credit(created_at=at(1)),
            credit(priority=60, expires_at=at(1)),
            credit(priority=1, voided_at=START),
        ]
        found = list(Purse(reversed(wanted), owed=0).credits.values())
        assert [c.id for c in found] == [c.id for c in wanted]

    def test_lets_credit_lapse_an_hour_after_its_end(self) -> None:
        ending = Credit(
            id=uuid4(),
            kind="paid",
            amount=1,
            remaining=1,
            priority=50,
            expires_at=at(5),
            voided_at=at(7),
            created_at=START,
        )
        assert ending.lapses_at() == at(5) + LAPSE
        assert ending.pays_for(at(5) - timedelta(microseconds=1))
        assert not ending.pays_for(at(5))
