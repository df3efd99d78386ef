"""Eight kinds of traffic, each a list of calls in order of time. Deterministic: chance is drawn from a fixed seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
NANO = 10**9
NOON_MS = 1_795_435_200_000
"""When every scenario begins."""

# Nano-USD for a token of a middling model: $2.50 and $10 for a million.
INPUT_NANO, OUTPUT_NANO = 2_500, 10_000


@dataclass(frozen=True)
class Event:
    """One call as guards see it: when, whose, what it may cost at most and what it did cost, and how long it took."""

    at_ms: int
    customer: str
    api_key: str
    fingerprint: str
    input_tokens: int
    cap: int
    used: int
    depth: int = 0
    first_ms: int | None = None
    took_ms: int = 2_000

    @property
    def bound_nano(self) -> int:
        """The most that it can cost: what is held."""
        return self.input_tokens * INPUT_NANO + self.cap * OUTPUT_NANO

    @property
    def actual_nano(self) -> int:
        """What it cost."""
        return self.input_tokens * INPUT_NANO + self.used * OUTPUT_NANO


@dataclass(frozen=True)
class Scenario:
    """One kind of traffic. `good`: nothing of it may be stopped."""

    name: str
    says: str
    good: bool
    make: Callable[[random.Random], list[Event]]

    def events(self) -> list[Event]:
        """Its calls, in order of time."""
        return sorted(self.make(random.Random(self.name)), key=lambda event: event.at_ms)


def _steady_chat(chance: random.Random) -> list[Event]:
    """Twenty customers chat for two hours, a question a minute each; one in fifty is asked again at once."""
    events = []
    for customer in range(20):
        at = NOON_MS + chance.randrange(MINUTE)
        for number in range(120):
            at += chance.randrange(20 * SECOND, 100 * SECOND)
            asked = Event(
                at,
                f"customer-{customer}",
                "web",
                f"{customer}-{number}",
                chance.randrange(300, 4_000),
                1_024,
                chance.randrange(40, 700),
                first_ms=NOON_MS - 90 * 24 * HOUR,
            )
            events.append(asked)
            if chance.random() < 0.02:
                events += [Event(**{**asked.__dict__, "at_ms": at + 3 * SECOND})]
    return events


def _bursty_batch(chance: random.Random) -> list[Event]:
    """Four times in an hour a customer's 600 documents are summed up at once, eight under way at a time."""
    events = []
    for burst in range(4):
        at = NOON_MS + burst * 15 * MINUTE
        for number in range(600):
            at += chance.randrange(100, 400)
            events.append(
                Event(
                    at,
                    "publisher",
                    "batch",
                    f"{burst}-{number}",
                    chance.randrange(800, 3_000),
                    500,
                    chance.randrange(100, 400),
                    first_ms=NOON_MS - 30 * 24 * HOUR,
                )
            )
    return events


def _nightly_job(chance: random.Random) -> list[Event]:
    """Nothing all evening; then a job reads 3,000 records in half an hour. The same prompt in front, other records."""
    at = NOON_MS + 12 * HOUR
    events = []
    for number in range(3_000):
        at += chance.randrange(300, 900)
        events.append(
            Event(
                at,
                "insurer",
                "jobs",
                f"record-{number}",
                chance.randrange(1_500, 2_500),
                800,
                chance.randrange(150, 500),
                first_ms=NOON_MS - 200 * 24 * HOUR,
            )
        )
    return events


def _retry_loop(chance: random.Random) -> list[Event]:
    """A tool's answer cannot be parsed, so an agent asks the same again, every two seconds, for an hour."""
    return [
        Event(
            NOON_MS + number * 2 * SECOND + chance.randrange(300),
            "shop",
            "agent",
            "the same",
            6_000,
            1_500,
            400,
            first_ms=NOON_MS - 30 * 24 * HOUR,
        )
        for number in range(1_800)
    ]


def _recursion(chance: random.Random) -> list[Event]:
    """An agent that may call agents: each starts two more, a level a minute, until the eighth level."""
    events = []
    for depth in range(8):
        for number in range(2**depth):
            events.append(
                Event(
                    NOON_MS + depth * MINUTE + chance.randrange(50 * SECOND),
                    "lab",
                    "agent",
                    f"{depth}-{number}",
                    8_000 + 1_000 * depth,
                    2_000,
                    900,
                    depth=depth,
                    first_ms=NOON_MS - 10 * 24 * HOUR,
                )
            )
    return events


def _pasted_document(chance: random.Random) -> list[Event]:
    """An hour of ordinary chat, in which somebody three times pastes a book of 900,000 tokens."""
    events = []
    for number in range(40):
        at = NOON_MS + number * 90 * SECOND
        book = number in (20, 21, 30)
        events.append(
            Event(
                at,
                "school",
                "web",
                f"question-{number}",
                900_000 if book else chance.randrange(300, 3_000),
                1_024,
                300,
                first_ms=NOON_MS - 60 * 24 * HOUR,
            )
        )
    return events


def _leaked_key(chance: random.Random) -> list[Event]:
    """A key is in wrong hands: a customer nobody knew asks for long answers, ten at a time, for an hour."""
    events, at = [], NOON_MS
    for number in range(6_000):
        at += chance.randrange(400, 800)
        events.append(
            Event(
                at,
                f"unknown-{number % 3}",
                "leaked",
                f"story-{number}",
                chance.randrange(200, 600),
                8_000,
                chance.randrange(6_000, 8_000),
                first_ms=NOON_MS,
            )
        )
    return events


def _leaked_key_of_a_customer(chance: random.Random) -> list[Event]:
    """The same hands know a customer's name: nobody is new, so nothing but the pace tells; five calls a second."""
    events, at = [], NOON_MS
    for number in range(6_000):
        at += chance.randrange(100, 300)
        events.append(
            Event(
                at,
                "publisher",
                "leaked",
                f"story-{number}",
                chance.randrange(200, 600),
                8_000,
                chance.randrange(6_000, 8_000),
                first_ms=NOON_MS - 200 * 24 * HOUR,
                took_ms=40 * SECOND,
            )
        )
    return events


SCENARIOS = (
    Scenario("steady chat", "20 customers, two hours, a question a minute", True, _steady_chat),
    Scenario("bursty batch", "600 documents at once, four times in an hour", True, _bursty_batch),
    Scenario("nightly job", "3,000 records in half an hour, after a quiet evening", True, _nightly_job),
    Scenario("retry loop", "the same request every two seconds, for an hour", False, _retry_loop),
    Scenario("recursion", "each agent starts two more, eight levels deep", False, _recursion),
    Scenario("pasted document", "ordinary chat, and a book in it three times", False, _pasted_document),
    Scenario("leaked key", "long answers for unknown customers, for an hour", False, _leaked_key),
    Scenario(
        "leaked key, known customer", "the same faster, in a known name", False, _leaked_key_of_a_customer
    ),
)
