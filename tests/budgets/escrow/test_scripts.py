"""The Redis scripts alone: the worked example of each header, and exactness where doubles end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis

from budgets.stores.redis.scripts import NAMES, ScriptSet, digests_of, texts_of

LARGEST = 2**53


class Bench:
    """One epoch of its own, with keys of its own in one slot."""

    def __init__(self, client: redis.Redis) -> None:
        self.client, self.epoch = client, uuid4()
        self.scripts = ScriptSet(digests_of(self.epoch))
        self.prefix = f"{{{uuid4().hex}}}"
        for name in NAMES:
            client.script_load(texts_of(self.epoch)[name])
        self.open(self.now + 60_000)
        client.set(self.key("policy"), 1)

    def key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    @property
    def now(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def open(self, until: int) -> None:
        self.client.hset(self.key("epoch"), mapping={"id": self.epoch.hex, "until": until})

    def run(self, name: str, keys: list[str], *args: object) -> list[Any]:
        reply = self.client.evalsha(
            getattr(self.scripts, name), len(keys), *map(self.key, keys), *[str(arg) for arg in args]
        )
        return [part.decode() if isinstance(part, bytes) else part for part in reply]

    def counter(self, name: str = "c", **fields: int) -> None:
        given: dict[Any, Any] = {
            "inc": 1,
            "seq": 1,
            "bv": 1,
            "chunk": 0,
            "used": 0,
            "held": 0,
            "pf": 0,
            "lim": 10,
            **fields,
        }
        self.client.hset(self.key(name), mapping=given)

    def figures(self, name: str = "c") -> dict[str, int]:
        found: dict[Any, Any] = self.client.hgetall(self.key(name))
        return {k.decode(): int(v) for k, v in found.items()}

    def place(
        self, *needs: tuple[str, str, int], hold: str = "h", mode: str = "place", **given: Any
    ) -> list[Any]:
        """Places a hold on (counter, kind, need); `given` may carry version, digest, starts, ends, limit, bv."""
        args: list[object] = [
            given.get("version", 1),
            f"id-{hold}",
            given.get("digest", "d"),
            60_000,
            "body",
            mode,
        ]
        for _, kind, need in needs:
            args += [
                kind,
                need,
                given.get("bv", 1),
                given.get("starts", 0),
                given.get("ends", 0),
                given.get("limit", 10),
            ]
        return self.run("preflight", ["epoch", "policy", hold, "x", *(name for name, _, _ in needs)], *args)

    def load(
        self, total: int, *, inc: int = 1, seq: int = 2, pf: int = 0, create: int = 0, lim: int = 10
    ) -> list[Any]:
        return self.run("load", ["epoch", "c"], inc, seq, total, pf, 1, lim, create)

    def resolve(
        self, held: int, first: int, *, hold: str = "h", inc: int = 1, counter: str = "c"
    ) -> list[Any]:
        return self.run("resolve", [hold, "x", counter], f"id-{hold}", inc, held, first)


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    with redis.Redis.from_url(redis_url) as client:
        yield Bench(client)


class TestPreflightScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7, held=3)
        assert bench.place(("c", "b", 4)) == ["DENY", "busy", 1, 3, 10, 6]

    def test_places_and_says_how_the_counter_stands(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7)
        word, at, ex, inc, remaining, limit, fitted = bench.place(("c", "b", 3))
        assert (word, ex - at, inc, remaining, limit, fitted) == ("PLACED", 60_000, "1", 0, 10, 1)
        assert bench.figures()["used"] == 10
        assert bench.figures()["held"] == 3
        assert bench.client.zscore(bench.key("x"), bench.key("h")) == ex

    def test_tries_a_dry_run_without_a_trace(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7)
        before = bench.figures()
        assert bench.place(("c", "b", 3), mode="dry")[0] == "FITS"
        assert bench.figures() == before
        assert not bench.client.exists(bench.key("h"))

    def test_asks_when_postgresql_has_more(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7, pf=5)
        assert bench.place(("c", "b", 4)) == ["ASK", 1, 10, 7]
        assert bench.place(("nowhere", "b", 4)) == ["ASK", 1, 0, 0]
        bench.counter(chunk=10, used=0, bv=0)
        assert bench.place(("c", "b", 1)) == ["ASK", 1, 10, 0]

    def test_lets_a_negative_parent_bite(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=0, pf=-4)
        assert bench.place(("c", "b", 7))[:2] == ["DENY", "exceeded"]
        assert bench.place(("c", "b", 6))[0] == "PLACED"

    def test_decides_by_the_worst_of_its_counters(self, bench: Bench) -> None:
        bench.counter("busy", chunk=10, used=10, held=10)
        bench.counter("full", chunk=10, used=10)
        bench.counter("free", chunk=10)
        assert bench.place(("free", "b", 1), ("busy", "b", 1))[:3] == ["DENY", "busy", 2]
        assert bench.place(("busy", "b", 1), ("lacks", "b", 1))[0] == "ASK"
        assert bench.place(("lacks", "b", 1), ("busy", "b", 1), ("full", "b", 1))[:3] == [
            "DENY",
            "exceeded",
            3,
        ]
        assert bench.figures("free")["used"] == 0

    def test_answers_a_second_call_with_the_first_hold(self, bench: Bench) -> None:
        bench.counter(chunk=10)
        first = bench.place(("c", "b", 3))
        again = bench.place(("c", "b", 3), digest="other")
        assert again == ["REPLAY", first[1], first[2], "1", "id-h", "d", "body"]
        assert bench.figures()["used"] == 3

    @pytest.mark.parametrize("window", [(1, 2), (2**52, 0)])
    def test_checks_the_window_against_its_own_clock(self, bench: Bench, window: tuple[int, int]) -> None:
        bench.counter(chunk=10)
        word, now, index = bench.place(("c", "b", 1), starts=window[0], ends=window[1])
        assert (word, index) == ("STALE_WINDOW", 1)
        assert abs(now - bench.now) < 60_000

    def test_sends_an_older_policy_back_and_trusts_a_newer_one(self, bench: Bench) -> None:
        bench.counter(chunk=10)
        bench.client.set(bench.key("policy"), 5)
        assert bench.place(("c", "b", 1), version=4) == ["STALE_POLICY", "5"]
        assert bench.place(("c", "b", 1), version=6)[0] == "PLACED"
        bench.client.delete(bench.key("policy"))
        assert bench.place(("c", "b", 1), hold="h2") == ["STALE_POLICY", "0"]

    def test_refuses_a_gateway_whose_budget_is_older_than_the_counter(self, bench: Bench) -> None:
        bench.counter(chunk=10, bv=2)
        assert bench.place(("c", "b", 1), bv=1) == ["STALE_POLICY", "0"]

    @pytest.mark.parametrize("loss", ["gone", "foreign", "over"])
    def test_places_nothing_behind_the_fence(self, bench: Bench, loss: str) -> None:
        bench.counter(chunk=10)
        if loss == "gone":
            bench.client.delete(bench.key("epoch"))
        elif loss == "foreign":
            bench.client.hset(bench.key("epoch"), "id", uuid4().hex)
        else:
            bench.open(bench.now)
        assert bench.place(("c", "b", 1))[0] == "FENCED"
        assert bench.figures()["used"] == 0

    def test_counts_a_rate_and_refuses_beyond_it(self, bench: Bench) -> None:
        ends = bench.now + 60_000
        placed = [bench.place(("r", "m", 4), hold=f"h{n}", limit=10, ends=ends) for n in range(3)]
        assert [reply[0] for reply in placed] == ["PLACED", "PLACED", "DENY"]
        assert placed[2] == ["DENY", "exceeded", 1, 2, 10, 2]
        assert 0 < bench.client.pttl(bench.key("r")) <= 60_000 + 960_000

    def test_lets_a_warn_counter_take_more_than_there_is(self, bench: Bench) -> None:
        bench.counter(chunk=2, pf=3)
        assert bench.place(("c", "w", 5))[4:] == [0, 10, 1]
        assert bench.place(("c", "w", 1), hold="h2")[4:] == [-1, 10, 0]

    def test_never_refuses_what_costs_nothing(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=10, pf=-5)
        assert bench.place(("c", "b", 0))[0] == "PLACED"

    def test_is_exact_up_to_the_largest_amount(self, bench: Bench) -> None:
        bench.counter(chunk=LARGEST, used=LARGEST - 3, lim=LARGEST)
        assert bench.place(("c", "b", 4))[:2] == ["DENY", "exceeded"]
        assert bench.place(("c", "b", 3))[4:] == [0, LARGEST, 1]
        assert bench.figures()["used"] == LARGEST
        assert bench.place(("c", "b", 1), hold="h2")[:2] == ["DENY", "busy"]
        assert bench.resolve(3, 1) == ["APPLIED"]
        assert bench.figures()["used"] == LARGEST - 2

    @pytest.mark.parametrize("amount", [100_000_000_000_001, 2**52 + 1, LARGEST - 1])
    def test_keeps_every_digit_of_a_large_amount(self, bench: Bench, amount: int) -> None:
        bench.counter(chunk=LARGEST, lim=LARGEST)
        assert bench.place(("c", "b", amount))[4] == LARGEST - amount
        assert bench.figures()["held"] == amount
        assert bench.resolve(amount, amount - 1) == ["APPLIED"]
        assert (bench.figures()["used"], bench.figures()["held"]) == (amount - 1, 0)


class TestResolveScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.counter(chunk=100)
        bench.place(("c", "b", 40))
        assert bench.resolve(40, 25) == ["APPLIED"]
        assert (bench.figures()["used"], bench.figures()["held"]) == (25, 0)
        assert not bench.client.exists(bench.key("h"), bench.key("x"))

    def test_is_nothing_the_second_time(self, bench: Bench) -> None:
        bench.counter(chunk=100)
        bench.place(("c", "b", 40))
        bench.resolve(40, 25)
        assert bench.resolve(40, 25) == ["GONE"]
        assert bench.figures()["used"] == 25

    def test_keeps_at_most_what_was_held(self, bench: Bench) -> None:
        bench.counter(chunk=100)
        bench.place(("c", "b", 40))
        bench.resolve(40, 90)
        assert (bench.figures()["used"], bench.figures()["held"]) == (40, 0)

    def test_leaves_another_life_of_the_key_alone(self, bench: Bench) -> None:
        bench.counter(chunk=100)
        bench.place(("c", "b", 40))
        bench.client.hset(bench.key("h"), "id", "id-another")
        assert bench.resolve(40, 25) == ["GONE"]
        assert bench.figures()["held"] == 40

    def test_leaves_another_incarnation_alone(self, bench: Bench) -> None:
        bench.counter(chunk=100)
        bench.place(("c", "b", 40))
        bench.counter(chunk=100, inc=2, used=7, held=7)
        assert bench.resolve(40, 25, inc=1) == ["APPLIED"]
        assert (bench.figures()["used"], bench.figures()["held"]) == (7, 7)

    def test_works_without_the_epoch_key(self, bench: Bench) -> None:
        bench.counter(chunk=100)
        bench.place(("c", "b", 40))
        bench.client.delete(bench.key("epoch"))
        assert bench.resolve(40, 25) == ["APPLIED"]

    def test_counts_a_rate_as_it_was_used(self, bench: Bench) -> None:
        bench.place(("r", "m", 4), ends=bench.now + 60_000)
        assert bench.resolve(4, 9, inc=0, counter="r") == ["APPLIED"]
        assert bench.client.get(bench.key("r")) == b"9"


class TestLoadScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7)
        assert bench.load(5) == ["APPLIED", 2, 7, 7]
        assert (bench.figures()["chunk"], bench.figures()["pf"]) == (7, -2)

    def test_creates_a_counter_only_where_it_may(self, bench: Bench) -> None:
        assert bench.load(5, seq=1) == ["MISSING"]
        assert bench.load(5, seq=1, create=1, pf=3) == ["APPLIED", 1, 5, 0]
        assert bench.figures() == {
            "inc": 1, "used": 0, "held": 0, "seq": 1, "chunk": 5, "pf": 3, "bv": 1, "lim": 10,
        }  # fmt: skip

    def test_ignores_older_messages_and_says_what_stands(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7, seq=5)
        assert bench.load(50, seq=4) == ["KEPT", 5, 10, 7]
        assert bench.load(50, seq=5) == ["KEPT", 5, 10, 7]
        assert bench.figures()["chunk"] == 10

    def test_never_returns_a_retired_incarnation_to_life(self, bench: Bench) -> None:
        bench.counter(chunk=10)
        assert bench.run("retire", ["c"], 1, 0) == ["RETIRED", 0]
        assert bench.load(10, seq=9, create=1) == ["RETIRED"]
        assert bench.load(10, inc=2, seq=1, create=1) == ["APPLIED", 1, 10, 0]
        assert bench.load(10, inc=1, seq=99, create=1) == ["RETIRED"]

    def test_vouches_for_nothing_on_a_flushed_redis(self, bench: Bench) -> None:
        bench.client.delete(bench.key("epoch"))
        assert bench.load(10, seq=1, create=1) == ["FENCED"]

    def test_is_exact_up_to_the_largest_amount(self, bench: Bench) -> None:
        assert bench.load(LARGEST, seq=1, create=1, lim=LARGEST) == ["APPLIED", 1, LARGEST, 0]
        assert bench.load(LARGEST - 1, seq=2, pf=1, lim=LARGEST) == ["APPLIED", 2, LARGEST - 1, 0]
        assert bench.figures()["lim"] == LARGEST


class TestRetireScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7)
        assert bench.run("retire", ["c"], 1, 0) == ["RETIRED", 7]
        assert bench.run("retire", ["c"], 1, 0) == ["RETIRED", 7]
        assert bench.place(("c", "b", 1)) == ["ASK", 1, 0, 0]

    def test_of_a_missing_counter_never_says_that_nothing_was_used(self, bench: Bench) -> None:
        assert bench.run("retire", ["c"], 1, 0) == ["MISSING"]
        assert bench.run("retire", ["c"], 1, 0) == ["MISSING"]

    def test_of_an_older_incarnation_leaves_the_newer_one(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7, inc=2)
        assert bench.run("retire", ["c"], 1, 0) == ["MISSING"]
        assert bench.figures()["used"] == 7

    def test_of_an_ended_window_leaves_nothing(self, bench: Bench) -> None:
        bench.counter(chunk=10, used=7)
        assert bench.run("retire", ["c"], 1, 1) == ["RETIRED", 7]
        assert not bench.client.exists(bench.key("c"))


class TestExtendScript:
    def extend(self, bench: Bench, more: int, longest: int = 900_000) -> list[Any]:
        return bench.run("extend", ["epoch", "h", "x"], "id-h", more, longest)

    def test_prolongs_from_now(self, bench: Bench) -> None:
        bench.counter(chunk=10)
        _, at, ex, *_ = bench.place(("c", "b", 3))
        word, placed, expires, inc = self.extend(bench, 120_000)
        assert (word, placed, inc) == ("EXTENDED", at, "1")
        assert ex < expires <= bench.now + 120_000
        assert bench.client.zscore(bench.key("x"), bench.key("h")) == expires

    def test_never_shortens(self, bench: Bench) -> None:
        bench.counter(chunk=10)
        _, _, ex, *_ = bench.place(("c", "b", 3))
        assert self.extend(bench, 1)[2] == ex

    def test_refuses_beyond_the_longest_life(self, bench: Bench) -> None:
        bench.counter(chunk=10)
        _, at, *_ = bench.place(("c", "b", 3))
        assert self.extend(bench, 900_001) == ["TOO_LONG", at + 900_000]

    def test_finds_no_other_hold_and_none_behind_the_fence(self, bench: Bench) -> None:
        assert self.extend(bench, 60_000) == ["GONE"]
        bench.client.delete(bench.key("epoch"))
        assert self.extend(bench, 60_000)[0] == "FENCED"


class TestRenewScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.open(1000)
        assert bench.run("renew", ["epoch"], 61_000) == ["RENEWED"]
        assert bench.client.hget(bench.key("epoch"), "until") == b"61000"

    def test_never_shortens_and_never_makes_a_key(self, bench: Bench) -> None:
        bench.open(61_000)
        assert bench.run("renew", ["epoch"], 1000) == ["RENEWED"]
        assert bench.client.hget(bench.key("epoch"), "until") == b"61000"
        bench.client.delete(bench.key("epoch"))
        assert bench.run("renew", ["epoch"], 61_000) == ["FENCED"]
        assert not bench.client.exists(bench.key("epoch"))


class TestOpenScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.client.delete(bench.key("epoch"))
        bench.client.hset(bench.key("epoch"), mapping={"id": uuid4().hex, "since": 5, "until": 9})
        assert bench.run("open", ["epoch"], 61_000, 6) == ["OPENED"]
        assert bench.client.hgetall(bench.key("epoch")) == {
            b"id": bench.epoch.hex.encode(), b"until": b"61000", b"since": b"6",
        }  # fmt: skip

    def test_never_undoes_a_later_epoch(self, bench: Bench) -> None:
        bench.client.hset(bench.key("epoch"), mapping={"id": uuid4().hex, "since": 7})
        assert bench.run("open", ["epoch"], 61_000, 6) == ["OLDER"]
        assert bench.client.hget(bench.key("epoch"), "id") != bench.epoch.hex.encode()


class TestCloseScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.client.hset(bench.key("epoch"), "id", uuid4().hex)
        assert bench.run("close", ["epoch"]) == ["OTHER"]
        assert bench.client.exists(bench.key("epoch"))

    def test_stops_all_placing(self, bench: Bench) -> None:
        bench.counter(chunk=10)
        assert bench.run("close", ["epoch"]) == ["CLOSED"]
        assert bench.place(("c", "b", 1))[0] == "FENCED"


class TestVersionScript:
    def test_example_of_its_header(self, bench: Bench) -> None:
        bench.client.set(bench.key("policy"), 7)
        assert bench.run("version", ["policy"], 5) == ["VERSION", 7]
        assert bench.run("version", ["policy"], 8) == ["VERSION", 8]


class TestScriptSet:
    def test_names_its_epoch_in_every_script(self) -> None:
        one, other = uuid4(), uuid4()
        for name in NAMES:
            assert "@EPOCH@" not in texts_of(one)[name]
            assert digests_of(one)[name] != digests_of(other)[name]

    def test_is_unknown_to_a_redis_that_lost_its_scripts(self, bench: Bench) -> None:
        stranger = ScriptSet(digests_of(uuid4()))
        with pytest.raises(redis.exceptions.NoScriptError):
            bench.client.evalsha(stranger.version, 1, bench.key("policy"), 1)
