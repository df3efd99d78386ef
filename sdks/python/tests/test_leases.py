"""Leases in a process: what is drawn, what comes back, and that a bound is the server's."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from noburn_sdk import Gate, UnavailableError
from noburn_sdk._answers import Reply
from noburn_sdk._exchange import Lost
from noburn_sdk._requests import Preflight, Request
from noburn_sdk.estimate.cost import Rates, bound_nano
from noburn_sdk.gate import Asked
from noburn_sdk.gate.serving import ServingGate
from noburn_sdk.integrations.openai.endpoints import CHAT
from noburn_sdk.leases import Draw, Lease, Leases
from noburn_sdk.leases.bounds import Bounds
from noburn_sdk.leases.pool import (
    BURN_SECONDS,
    CALLS_MIN,
    IDLE_SECONDS,
    LEASES_MAX,
    PAUSE_SECONDS,
    REPORT_SECONDS,
)
from noburn_sdk.settling import Resolution
from noburn_sdk.testing import MemoryGate, MemoryPlane

REPORT_DEMANDED_SECONDS = 5.0
"""How often noburn demands a report: how soon an edit reaches every holder."""
SECONDS = 60.0
RATES = Rates("m", {"input_tokens": [(0, 1_000)], "output_tokens": [(0, 1_000)]})


def lease(put: Any = lambda _: None, **fields: Any) -> Lease:
    values: dict[str, Any] = {"nano": 1_000, "tokens": None, "requests": None, "until": 60.0, "cap": 100}
    return Lease(
        id="hold_1", authorization="a", nonce="n", bounds=Bounds(RATES), put=put, **(values | fields)
    )


def ended(draw: Draw, read: int, written: int) -> None:
    usage = {"input_tokens": read, "output_tokens": written}
    draw.put(Resolution("settle", "k", {"authorization": "x", "usage": usage, "outcome": "ok"}))


class TestDraw:
    def test_takes_bounds_until_nothing_is_left(self) -> None:
        one = lease()
        assert [one.draw(400, 1, 0.0) is not None for _ in range(3)] == [True, True, False]
        assert one.left == 200

    def test_of_requests_and_tokens(self) -> None:
        assert [lease(tokens=5).draw(1, tokens, 0.0) is None for tokens in (5, 6)] == [False, True]
        one = lease(requests=1)
        assert [one.draw(1, 1, 0.0) is None for _ in range(2)] == [False, True]

    def test_ends_at_its_time_and_when_it_is_given_back(self) -> None:
        one = lease()
        assert one.draw(1, 1, 59.9) is not None
        assert one.draw(1, 1, 60.0) is None
        one.retire("recalled")
        assert one.draw(1, 1, 0.0) is None

    def test_gives_back_what_was_not_used_and_is_told(self) -> None:
        told: list[Resolution] = []
        one = lease(told.append)
        draw = one.draw(900, 1_500, 0.0)
        assert draw is not None
        ended(draw, 1, 1)
        assert one.left == 1_000 - 2
        (resolution,) = told
        assert (resolution.op, resolution.key) == ("draw", "hold_1:n:1")
        assert resolution.body["draw"] == {
            "seq": 1,
            "bound_usd": "0.000000900",
            "bound_tokens": 1_500,
            "usage": {"input_tokens": 1, "output_tokens": 1},
            "outcome": "ok",
        }
        assert resolution.body["authorization"] == "a"

    def test_that_was_not_made_is_not_told(self) -> None:
        told: list[Resolution] = []
        one = lease(told.append)
        draw = one.draw(900, 1, 0.0)
        assert draw is not None
        draw.put(Resolution("void", "k", {"authorization": "x"}))
        assert (one.left, told, one.standing()) == (1_000, [], (0, True))

    def test_of_which_nothing_was_seen_keeps_its_bound(self) -> None:
        one = lease()
        draw = one.draw(900, 1, 0.0)
        assert draw is not None
        draw.put(Resolution("settle", "k", {"authorization": "x", "usage": None, "outcome": "cut"}))
        assert one.left == 100

    def test_is_in_flight_until_its_report_was_answered(self) -> None:
        one = lease()
        first, second = one.draw(300, 1, 0.0), one.draw(300, 1, 0.0)
        assert first is not None
        assert second is not None
        assert one.standing() == (0, False)
        ended(first, 0, 100)
        ended(second, 0, 100)
        assert one.standing() == (2, False)
        one.heard([(1, 60), (2, 200)], None, 0.0)
        assert (one.standing(), one.left) == ((2, True), 1_000 - 260)
        one.heard([(2, 200)], "policy", 0.0)
        assert (one.standing(), one.left, one.recalled) == ((2, True), 1_000 - 260, "policy")

    def test_by_many_threads_never_exceeds_the_lease(self) -> None:
        one = lease(nano=10_000)
        drawn: list[int] = []

        def work(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(300):
                bound = rng.randint(1, 40)
                draw = one.draw(bound, 1, 0.0)
                if draw is not None and rng.random() < 0.5:
                    draw.put(Resolution("void", "k", {"authorization": "x"}))
                elif draw is not None:
                    drawn.append(bound)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(drawn) + one.left == 10_000
        assert one.left >= 0


CALL: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi"}],
    "max_completion_tokens": 5,
}


def asked(**fields: Any) -> Preflight:
    values: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 10, "max_output_tokens": 20}
    return Preflight(**values | {"customer": "acme"} | fields)


def held_by(leases: Leases, one: Lease) -> Leases:
    """Leases that have this one for the calls of `asked`."""
    leases.draw(asked())
    (kind,) = leases._kinds.values()
    kind.lease = one
    kind.not_before = float("inf")
    return leases


@pytest.fixture
def gate() -> MemoryGate:
    return MemoryGate(MemoryPlane(), leases=True, outbox=False)


class TestLeases:
    @pytest.fixture
    def leases(self, gate: MemoryGate) -> Leases:
        assert gate.leases is not None
        return held_by(gate.leases, lease(until=float("inf")))

    def test_decide_about_calls_of_their_kind(self, leases: Leases) -> None:
        drawn = leases.draw(asked())
        assert drawn is not None
        assert (drawn.hold_id, str(drawn.amount_usd), drawn.max_output_tokens) == ("hold_1:1", "3.0E-8", 20)

    def test_give_calls_without_a_cap_the_tenant_s(self, leases: Leases) -> None:
        drawn = leases.draw(asked(max_output_tokens=None))
        assert drawn is not None
        assert drawn.max_output_tokens == 100

    @pytest.mark.parametrize(
        "other",
        [
            {"customer": "other"},
            {"user": "u1"},
            {"model": "gpt-4o"},
            {"tags": {"feature": "chat"}},
            {"cost_usd": "0.1"},
            {"dry_run": True},
            {"max_output_tokens": 2_000},
            {"images": 1, "tools": {"web_search": 1}},
        ],
    )
    def test_say_nothing_about_any_other(self, leases: Leases, other: dict[str, Any]) -> None:
        assert leases.draw(asked(**other)) is None

    def test_are_dropped_by_a_fork(self, gate: MemoryGate) -> None:
        assert gate.leases is not None
        before = held_by(gate.leases, lease(until=float("inf")))
        gate._forked()
        assert gate.leases is not before
        assert gate.leases is not None
        assert gate.leases.draw(asked()) is None

    def test_are_spent_while_noburn_does_not_answer_and_nothing_beyond(self) -> None:
        plane = MemoryPlane()
        gate = MemoryGate(plane, leases=True, outbox=False, max_retries=0, retry_timeout=0)
        assert gate.leases is not None
        call = Asked(CHAT, "m", CALL)
        gate.admit(call).void()
        (kind,) = gate.leases._kinds.values()
        kind.lease, kind.not_before = lease(until=float("inf"), nano=5_000), float("inf")
        plane.unavailable = True
        bounds = []
        with suppress(UnavailableError):
            for _ in range(5_000):
                allowed = gate.admit(call).allowed
                assert allowed is not None
                bounds.append(int((allowed.amount_usd or 0) * 10**9))
        assert bounds
        assert sum(bounds) + kind.lease.left == 5_000
        assert kind.lease.left < bounds[0]

    def test_are_on_but_where_each_call_is_to_be_asked_about(self, tmp_path: Path) -> None:
        common: dict[str, Any] = {
            "api_key": "nb_test_x",
            "base_url": "http://noburn.invalid",
            "outbox": False,
        }
        made = [
            Gate(**common),
            Gate(**common, mode="observe"),
            ServingGate(**common),
            MemoryGate(MemoryPlane()),
        ]
        assert [gate.leases is not None for gate in made] == [True, False, False, False]
        for gate in made:
            gate.close(0)


class LeasingPlane(MemoryPlane):
    """A plane that gives leases of $1 and keeps what it is asked. With `recall` it wants them back and gives no more."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.recall: str | None = None
        self.lost = 0
        """How many answers to asks for a lease are lost."""

    def answer(self, request: Request) -> Reply | Lost:
        if not request.path.startswith("/v1/leases"):
            return super().answer(request)
        body = json.loads(request.body or b"{}")
        self.asked.append((request.path, str(request.idempotency_key), body))
        if request.path == "/v1/leases":
            if self.lost:
                self.lost -= 1
                return Lost(TimeoutError("the answer was lost"))
            value = self._lease(str(request.idempotency_key))
        else:
            results = [{"seq": draw["seq"], "status": 200, "cost_usd": "0"} for draw in body["draws"]]
            closed = request.path.endswith("/close")
            value = {"results": results, "draws": 0, "closed": closed, "recall": self.recall}
        return Reply(200, {"content-type": "application/json"}, json.dumps(value).encode())

    def _lease(self, key: str) -> dict[str, Any]:
        if self.recall is not None:
            return {"decision": "deny", "reason": "not_leasable"}
        price = {"usd_per_million_tokens": "1"}
        prices = {"input_tokens": price, "output_tokens": price}
        return {
            "decision": "allow",
            "authorization": "nba1.lease",
            "lease": {"id": f"hold_{key}", "amount_usd": "1", "draw_seconds": 60.0, "report_seconds": 5},
            "provider": "openai",
            "max_output_tokens": 100,
            "prices": [
                {"provider": "openai", "model": "gpt-4o-mini", "variant": "standard", "prices": prices}
            ],
            "guards": {},
        }

    def sent(self, word: str) -> list[tuple[str, str, dict[str, Any]]]:
        """What was asked of paths that end so."""
        return [one for one in self.asked if one[0].endswith(word)]


class Ticking:
    """A pool of leases with a clock to move, and its rounds made by hand."""

    def __init__(self, plane: LeasingPlane) -> None:
        self.plane, self.now = plane, 100.0
        self.gate = MemoryGate(plane, outbox=False, max_retries=0, retry_timeout=0)
        self.leases = Leases(
            self.gate._patient_client, self.gate.settler, ttl_seconds=60, clock=lambda: self.now
        )
        self.leases._start = lambda: None  # type: ignore[method-assign]
        self.leases._client = self.gate._patient_client()

    def round(self, seconds: float = 0.0) -> None:
        """Lets so much time pass, and looks after the leases once."""
        self.now += seconds
        self.leases._round()

    def draws(self, **fields: Any) -> bool:
        """Whether a call is drawn; it is not made."""
        drawn = self.leases.draw(asked(**fields))
        if drawn is not None:
            drawn.draw.put(Resolution("void", "k", {}))
        return drawn is not None

    def leased(self, **fields: Any) -> None:
        """Calls until calls of this kind are leased."""
        for _ in range(CALLS_MIN):
            assert not self.draws(**fields)
        self.round()
        assert self.draws(**fields)


@pytest.fixture
def ticking() -> Iterator[Ticking]:
    made = Ticking(LeasingPlane())
    yield made
    made.gate.close(SECONDS)


class TestKeeping:
    def test_an_edit_reaches_every_holder_within_the_bound(self, ticking: Ticking) -> None:
        # As many as one process may have, called all the time: none of them is ended for another reason.
        names = [f"c{number}" for number in range(LEASES_MAX)]
        for name in names:
            ticking.leased(customer=name)
        heard = dict.fromkeys(names, ticking.now)
        ticking.plane.recall = "policy"
        for _ in range(int(REPORT_DEMANDED_SECONDS / PAUSE_SECONDS)):
            for name in names:
                if ticking.draws(customer=name):
                    heard[name] = ticking.now
            ticking.round(PAUSE_SECONDS)
        assert max(heard.values()) - 100.0 <= REPORT_SECONDS
        # With what is left for the answer on its way, and for a machine that is slow.
        assert REPORT_SECONDS + PAUSE_SECONDS < REPORT_DEMANDED_SECONDS / 2
        assert not any(ticking.draws(customer=name) for name in names)

    def test_reports_on_a_lease_as_often_as_noburn_demands(self, ticking: Ticking) -> None:
        ticking.leased()
        gaps, before, last = [], 0, ticking.now
        for _ in range(int(40 / PAUSE_SECONDS)):
            assert ticking.draws()
            ticking.round(PAUSE_SECONDS)
            if (told := len(ticking.plane.sent("/report"))) > before:
                gaps.append(ticking.now - last)
                before, last = told, ticking.now
        assert len(gaps) > 10
        assert max(gaps) <= REPORT_DEMANDED_SECONDS / 2

    def test_a_call_now_and_then_is_asked_about(self, ticking: Ticking) -> None:
        for _ in range(20):
            assert not ticking.draws()
            ticking.round(BURN_SECONDS)
        assert ticking.plane.asked == []

    def test_what_no_call_is_drawn_from_is_given_back(self, ticking: Ticking) -> None:
        ticking.leased()
        for _ in range(int(IDLE_SECONDS / PAUSE_SECONDS) + 2):
            ticking.round(PAUSE_SECONDS)
        assert len(ticking.plane.sent("/close")) == 1
        assert not ticking.draws()

    def test_a_lease_whose_answer_was_lost_is_asked_for_again_and_closed(self, ticking: Ticking) -> None:
        # As often as it is tried.
        ticking.plane.lost = 3
        for _ in range(CALLS_MIN):
            ticking.draws()
        ticking.round()
        assert not ticking.draws()
        assert ticking.gate.flush(SECONDS)
        first, *again = ticking.plane.sent("/leases")
        assert again == [first] * 3
        ((path, _, body),) = ticking.plane.sent("/close")
        assert (path, body["total"]) == (f"/v1/leases/hold_{first[1]}/close", 0)

    def test_a_draw_says_what_its_pre_flight_would_have(self, ticking: Ticking) -> None:
        ticking.leased()
        drawn = ticking.leases.draw(asked(task="extract", steps=2))
        assert drawn is not None
        drawn.draw.put(Resolution("settle", "k", {"usage": {"input_tokens": 1, "output_tokens": 1}}))
        assert ticking.gate.flush(SECONDS)
        ((_, _, body),) = ticking.plane.sent("/report")
        assert body["draws"][0]["call"] == {
            "input_tokens": 10,
            "max_output_tokens": 20,
            "task": "extract",
            "steps": 2,
        }


class TestBounds:
    @pytest.mark.parametrize("seed", range(20))
    def test_are_the_slow_ones(self, seed: int) -> None:
        rng = random.Random(seed)

        def tiers(most: int) -> list[tuple[int, int]]:
            starts = [0, *sorted(rng.sample(range(1, 3_000), rng.randint(0, 2)))]
            return [(start, rng.randint(1, most)) for start in starts]

        units: dict[str, list[tuple[int, int]]] = {
            "input_tokens": tiers(10**6),
            "output_tokens": tiers(10**7),
        }
        for name in ("cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens"):
            if rng.random() < 0.5:
                units[name] = tiers(10**6)
        if rng.random() < 0.3:
            units["requests"] = [(0, rng.randint(1, 10**7))]
        rates = Rates("m", units)
        fast = Bounds(rates)
        for _ in range(200):
            tokens = rng.choice((0, 1, rng.randint(0, 4_000)))
            cached = rng.choice((None, 0, rng.randint(0, 5_000)))
            asked = Preflight("m", tokens, n=rng.randint(1, 3), cached_input_tokens=cached)
            cap = rng.randint(1, 2_000)
            assert fast.nano(asked, cap) == bound_nano(
                rates,
                input_tokens=tokens,
                max_output_tokens=cap,
                n=asked.n,
                cached_input_tokens=cached,
                text_only=True,
            )
