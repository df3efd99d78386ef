"""Buckets let a burst through and then the rate, for each name by itself, in bounded memory."""

from __future__ import annotations

import pytest

from noburn.kit.addresses import caller
from noburn.kit.problems import problem
from noburn.kit.rates import Buckets, Rate, headers_of, refused

RATE = Rate(2, 5)
NOW = 1000.0


class TestBuckets:
    def test_let_a_burst_through_and_then_the_rate(self) -> None:
        buckets = Buckets()
        assert [buckets.take("a", RATE, NOW) for _ in range(5)] == [0.0] * 5
        assert buckets.take("a", RATE, NOW) == pytest.approx(0.5)
        # What is refused takes nothing: half a second later there is one, and one only.
        assert buckets.take("a", RATE, NOW + 0.5) == 0.0
        assert buckets.take("a", RATE, NOW + 0.5) == pytest.approx(0.5)
        assert [buckets.take("a", RATE, NOW + 60) for _ in range(5)] == [0.0] * 5
        assert buckets.take("a", RATE, NOW + 60) > 0

    def test_keep_to_the_rate_in_the_long_run(self) -> None:
        buckets = Buckets()
        passed = sum(not buckets.take("a", RATE, NOW + at / 100) for at in range(10_000))
        assert passed == pytest.approx(2 * 100 + 5, abs=1)

    def test_know_names_apart(self) -> None:
        buckets = Buckets()
        for _ in range(5):
            buckets.take("a", RATE, NOW)
        assert buckets.take("a", RATE, NOW) > 0
        assert buckets.take("b", RATE, NOW) == 0.0

    def test_tell_what_is_left_without_taking_it(self) -> None:
        buckets = Buckets()
        for left in (5, 4, 3, 2, 1):
            assert buckets.left("a", RATE, NOW) == left
            assert buckets.wait("a", RATE, NOW) == 0.0
            buckets.take("a", RATE, NOW)
        assert buckets.left("a", RATE, NOW) == 0
        assert buckets.wait("a", RATE, NOW) == pytest.approx(0.5)

    def test_forget_the_oldest_and_never_grow_beyond_their_bound(self) -> None:
        buckets = Buckets(names_max=10)
        for number in range(1000):
            assert buckets.take(number, RATE, NOW) == 0.0
            assert len(buckets) <= 10
        for _ in range(5):
            buckets.take(999, RATE, NOW)
        assert buckets.take(999, RATE, NOW) > 0

    def test_forget_first_whose_bucket_is_full_again(self) -> None:
        buckets = Buckets(names_max=4)
        for _ in range(5):
            buckets.take("busy", RATE, NOW)
        for name in ("b", "c", "d"):
            buckets.take(name, RATE, NOW)
        buckets.take("e", RATE, NOW + 1)
        # It began first and is not full yet: the others, which are, went before it.
        assert len(buckets) == 2
        assert buckets.left("busy", RATE, NOW + 1) == 2


class TestRefused:
    def test_tells_when_to_come_again(self) -> None:
        failure = refused("This API key", RATE, 0.2).problem
        assert failure.status == 429
        assert headers_of(failure) == {
            "Retry-After": "1",
            "RateLimit-Limit": "5",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": "3",
        }
        assert headers_of(problem("not-found", "x")) == {}


class TestCaller:
    @pytest.mark.parametrize(
        ("connected", "forwarded", "proxies", "expected"),
        [
            ("8.8.8.8", "", 0, "8.8.8.8"),
            # Without a proxy that is trusted nobody's word for an address counts.
            ("8.8.8.8", "1.1.1.1", 0, "8.8.8.8"),
            ("10.0.0.1", "1.1.1.1", 1, "1.1.1.1"),
            ("10.0.0.1", "6.6.6.6, 1.1.1.1", 1, "1.1.1.1"),
            ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", 2, "1.1.1.1"),
            ("10.0.0.1", "1.1.1.1", 2, "10.0.0.1"),
            ("10.0.0.1", "", 1, "10.0.0.1"),
            ("::ffff:8.8.8.8", "", 0, "8.8.8.8"),
            ("2001:4860:4860:1:2:3:4:5", "", 0, "2001:4860:4860:1::/64"),
            ("2001:4860:4860:1:6:7:8:9", "", 0, "2001:4860:4860:1::/64"),
            ("unix", "", 0, "unix"),
            ("x" * 1000, "", 0, "x" * 64),
        ],
    )
    def test_is_who_connected_to_the_outermost_trusted_proxy(
        self, connected: str, forwarded: str, proxies: int, expected: str
    ) -> None:
        assert caller(connected, forwarded, proxies=proxies) == expected
