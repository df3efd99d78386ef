"""The six scenes, in the order in which they are shown. What they promise: docs of each class."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from noburn_sdk import estimate

from demo.application import CLAUDE, GPT, Application, chat_tokens, claude_tokens
from demo.scene import Budget, Scene, Seen, Set
from demo.truth import usd

DEFAULT_CAP = 4_096
"""The cap that noburn gives to a call without one."""


def nothing() -> None:
    """Watches nothing."""


def split(total: int, parts: int) -> list[int]:
    """Divides a number of calls among threads."""
    return [total // parts + (index < total % parts) for index in range(parts)]


class Threads(Scene):
    """Of 20 calls at once against the money for 4, exactly 4 reach the provider."""

    label = "threads"
    short = "20 threads"
    title = "Twenty threads, money for four"
    story = (
        "A worker pool fires twenty calls in the same instant. Who reads a total and then calls lets all "
        "twenty through, because nothing is spent yet when they look."
    )
    text = "Summarise today's tickets in one paragraph."
    cap = 400

    @property
    def budget(self) -> Budget:
        one = self.prices.cost(GPT, input_tokens=chat_tokens(self.text), output_tokens=self.cap)
        return Budget("user", "bob", self.sizes.fits * one, "total")

    @property
    def calls(self) -> int:
        return self.sizes.threads

    @property
    def provider(self) -> dict[str, Any]:
        # Every call uses its cap whole, so that what is settled frees nothing for a fifth one.
        return {"latency_ms": 150, "output_fraction": 1.0}

    def play(self, on: Set) -> None:
        on.run([lambda: on.app.chat(self.text, cap=self.cap, user="bob")] * self.sizes.threads, nothing)

    def result(self, seen: Seen) -> str:
        row = seen.row
        return (
            f"{row.reached} of {row.asked} calls reached the provider; "
            f"{usd(row.spent)} of {usd(self.budget.limit)} spent"
        )

    def faults(self, seen: Seen) -> list[str]:
        if seen.row.reached == self.sizes.fits:
            return []
        return [f"{self.short}: {seen.row.reached} calls reached the provider, not {self.sizes.fits}"]


class Document(Scene):
    """A document whose tokens alone cost more than what is left never reaches the provider."""

    label = "document"
    short = "document"
    title = "A pasted document of 100,000 tokens, with one cent left"
    story = (
        "A user pastes a whole manual into the chat. The tokens are counted here, exactly and without sending "
        "the text anywhere; the provider would have billed them before anybody could look."
    )
    question = "What does section 4 say about refunds?"
    cap = 500

    @property
    def budget(self) -> Budget:
        return Budget("tag", "feature=manuals", 10_000_000, "total")

    @property
    def calls(self) -> int:
        return 2

    @property
    def provider(self) -> dict[str, Any]:
        return {"latency_ms": 100, "output_tokens": 60}

    def document(self) -> str:
        """Returns a text of exactly so many tokens."""
        wanted = self.sizes.document_tokens
        paragraph = (
            "The customer may return any item within thirty days, unless the seal of the box is broken.\n"
        )
        text = paragraph * (wanted // estimate.count_text(paragraph * 10, GPT) * 10)
        # One word is one token here, so the rest can be filled up exactly.
        text += " ok" * (wanted - estimate.count_text(text, GPT))
        assert estimate.count_text(text, GPT) == wanted
        return text

    def play(self, on: Set) -> None:
        tags = {"feature": "manuals"}
        text = self.document()
        on.run([lambda: on.app.chat(text, cap=self.cap, tags=tags)], nothing)
        on.run([lambda: on.app.chat(self.question, cap=self.cap, tags=tags)], nothing)
        for refusal in on.app.tally.refusals:
            on.say(f"[italic]What the user's browser gets:[/] {refusal.text}")
        entries = on.stage.double.ledger()
        self.largest = max(
            (e["metered"]["input_tokens"] for e in entries if e["label"] == self.label), default=0
        )

    def result(self, seen: Seen) -> str:
        sent = int(self.largest >= self.sizes.document_tokens)
        return (
            f"the document: {sent} calls reached the provider, $0 billed; "
            f"a short question asked right after it went through for {usd(seen.row.billed)}"
        )

    def faults(self, seen: Seen) -> list[str]:
        wrong = []
        if self.largest >= self.sizes.document_tokens:
            wrong.append(f"{self.short}: the document reached the provider")
        if seen.row.reached != 1 or seen.row.refused.get("budget_exceeded") != 1:
            wrong.append(
                f"{self.short}: not one call refused and one made, but {dict(seen.row.refused)} and {seen.row.reached}"
            )
        return wrong


class RetryLoop(Scene):
    """An agent that retries for ever is stopped at its run's budget, to the call."""

    label = "retries"
    short = "retry loop"
    title = "An agent in a retry loop"
    story = (
        "An agent cannot parse its answer and asks again, and again, all night. Its run has a budget; "
        "from there on a refusal takes milliseconds and costs nothing."
    )
    text = "Return the invoice as JSON with the fields number, date, lines and total. " * 30
    cap, used = 600, 350

    def _one(self, output_tokens: int) -> int:
        return self.prices.cost(GPT, input_tokens=chat_tokens(self.text), output_tokens=output_tokens)

    @property
    def budget(self) -> Budget:
        # So that exactly this many calls fit one after the other: the last one needs its whole bound.
        limit = (self.sizes.attempts_paid - 1) * self._one(self.used) + self._one(self.cap)
        return Budget("run", "nightly-invoices", limit, "run")

    @property
    def calls(self) -> int:
        return self.sizes.attempts

    @property
    def provider(self) -> dict[str, Any]:
        return {"latency_ms": 20, "output_tokens": self.used}

    def play(self, on: Set) -> None:
        def agent() -> None:
            for _ in range(self.sizes.attempts):
                on.app.chat(self.text, cap=self.cap, run="nightly-invoices")

        on.run([agent], nothing)

    def result(self, seen: Seen) -> str:
        row = seen.row
        would = row.billed // max(1, row.reached) * row.asked
        return (
            f"stopped after {row.reached} of {row.asked} attempts: {usd(row.billed)} instead of {usd(would)}, "
            "and the loop would not have ended there"
        )

    def faults(self, seen: Seen) -> list[str]:
        if seen.row.reached == self.sizes.attempts_paid:
            return []
        return [
            f"{self.short}: {seen.row.reached} attempts reached the provider, not {self.sizes.attempts_paid}"
        ]


class Burst(Scene):
    """A burst that the budget can pay for gets through, although its bounds together are far above the limit."""

    label = "burst"
    short = "burst"
    title = "A burst without output caps that the budget can afford"
    story = (
        "Nobody set max_tokens, so each call may cost four times what it will: noburn injects the cap of 4,096 "
        "and holds for that. Held is not spent: calls wait a moment for others to settle instead of being refused."
    )
    text = "Classify this review: the soup was cold."
    share = 0.25

    def _one(self, output_tokens: int) -> int:
        return self.prices.cost(GPT, input_tokens=chat_tokens(self.text), output_tokens=output_tokens)

    @property
    def budget(self) -> Budget:
        return Budget(
            "plan", "free", self.sizes.affordable * self._one(int(DEFAULT_CAP * self.share)), "total"
        )

    @property
    def possible(self) -> int:
        """How many can be made without ever risking the limit: the last one needs room for its whole bound."""
        actual, bound = self._one(int(DEFAULT_CAP * self.share)), self._one(DEFAULT_CAP)
        return (self.budget.limit - bound) // actual + 1

    @property
    def calls(self) -> int:
        return self.sizes.burst

    @property
    def provider(self) -> dict[str, Any]:
        return {"latency_ms": 120, "output_fraction": self.share}

    def play(self, on: Set) -> None:
        started = time.monotonic()
        on.run([lambda: on.app.chat(self.text, plan="free")] * self.sizes.burst, nothing)
        self.seconds = time.monotonic() - started

    def result(self, seen: Seen) -> str:
        at_once = self.budget.limit // self._one(DEFAULT_CAP)
        return (
            f"{seen.row.reached} of {self.sizes.affordable} affordable calls made in {self.seconds:.1f} s "
            f"(refusing while {at_once} hold everything would have made {at_once}); {usd(seen.row.spent)} of "
            f"{usd(self.budget.limit)} spent"
        )

    def faults(self, seen: Seen) -> list[str]:
        # Exactly `possible` get through unless one of them waited longer than its patience.
        if 0.95 * self.possible <= seen.row.reached <= self.possible:
            return []
        return [f"{self.short}: {seen.row.reached} calls got through, {self.possible} could have"]


class Customers(Scene):
    """One budget for each customer, without anybody creating them: who runs out stops alone."""

    label = "customers"
    short = "customer:*"
    title = "One budget for each customer, and one of them is greedy"
    story = (
        "One line, customer:*, puts every customer under a limit, from the first call of one never seen before. "
        "One empties its own; the others must not notice. Claude this time, every second call a stream."
    )
    text = "Draft a polite answer to this complaint about a late delivery. " * 6
    cap = 300
    greedy = "initech"
    modest = ("globex", "hooli", "umbrella")

    @property
    def budget(self) -> Budget:
        bound = self.prices.cost(CLAUDE, input_tokens=2 * claude_tokens(self.text), output_tokens=self.cap)
        # A modest customer could have all its calls in flight at once.
        return Budget("customer", "*", (self.sizes.modest + 2) * bound, "month")

    @property
    def calls(self) -> int:
        return self.sizes.greedy + len(self.modest) * self.sizes.modest

    @property
    def provider(self) -> dict[str, Any]:
        return {"latency_ms": 60, "output_fraction": 0.7, "chunk_delay_ms": 5}

    def play(self, on: Set) -> None:
        def calls(customer: str, count: int) -> Callable[[], None]:
            def work() -> None:
                for index in range(count):
                    on.app.claude(self.text, cap=self.cap, stream=index % 2 == 1, customer=customer)

            return work

        jobs = [calls(self.greedy, count) for count in split(self.sizes.greedy, 6)]
        for customer in self.modest:
            jobs += [calls(customer, count) for count in split(self.sizes.modest, 2)]
        on.run(jobs, nothing)
        tally = on.app.tally
        self.allowed = dict(tally.allowed_by)
        self.stopped = {refusal.subject for refusal in tally.refusals}

    def result(self, seen: Seen) -> str:
        spent = {counter.subject: counter.spent for counter in seen.counters}
        others = ", ".join(f"{name} {self.allowed.get(name, 0)}" for name in self.modest)
        made, greedy = self.allowed.get(self.greedy, 0), spent.get(self.greedy, 0)
        return (
            f"{self.greedy} stopped after {made} calls at {usd(greedy)} of {usd(self.budget.limit)}; "
            f"the others made all of theirs ({others})"
        )

    def faults(self, seen: Seen) -> list[str]:
        wrong = []
        if {counter.subject for counter in seen.counters} != {self.greedy, *self.modest}:
            wrong.append(f"{self.short}: the customers are not counted one by one")
        if self.stopped != {self.greedy}:
            wrong.append(f"{self.short}: stopped were {self.stopped or 'none'}, not {self.greedy} alone")
        for name in self.modest:
            if self.allowed.get(name, 0) != self.sizes.modest:
                wrong.append(
                    f"{self.short}: {name} made {self.allowed.get(name, 0)} of {self.sizes.modest} calls"
                )
        return wrong


class Kill(Scene):
    """The counters' Redis is killed under traffic: back in seconds, nothing lost, nothing spent twice."""

    label = "kill"
    short = "kill -9 Redis"
    title = "kill -9 of Redis in the middle of it"
    story = (
        "The counters live in Redis, and Redis dies with calls in flight. PostgreSQL had lent it authority in "
        "chunks; what the dead one may have handed out stays locked, so nothing can be spent a second time."
    )
    text = "Which plan suits a team of five?"
    cap, used = 500, 300
    back_within_seconds = 20.0

    def _one(self, output_tokens: int) -> int:
        return self.prices.cost(GPT, input_tokens=chat_tokens(self.text), output_tokens=output_tokens)

    @property
    def budget(self) -> Budget:
        return Budget("tag", "feature=support", self.sizes.traffic_paid * self._one(self.used), "total")

    @property
    def calls(self) -> int:
        return self.sizes.traffic

    @property
    def provider(self) -> dict[str, Any]:
        return {"latency_ms": 40, "jitter_ms": 60, "output_tokens": self.used}

    def play(self, on: Set) -> None:
        left, taking = itertools.count(), threading.Lock()
        self.killed_at = 0.0
        self.pid_before = on.stage.counters_pid()

        def worker() -> None:
            while True:
                with taking:
                    if next(left) >= self.sizes.traffic:
                        return
                on.app.chat(self.text, cap=self.cap, tags={"feature": "support"})

        def killer() -> None:
            if not self.killed_at and on.app.tally.asked >= self.sizes.traffic // 5 and self.pid_before:
                os.kill(self.pid_before, signal.SIGKILL)
                self.killed_at = time.monotonic()
                on.say(
                    f"[bold red]kill -9 {self.pid_before}[/] (valkey-server, after {on.app.tally.asked} calls)"
                )

        on.run([worker] * self.sizes.traffic_threads, killer)
        self.late = on.app.settle_late()
        self.pid_after = on.stage.counters_pid()
        self._look_back(on.app)

    def _look_back(self, app: Application) -> None:
        after = [allowed for asked, allowed in app.tally.spans if asked > self.killed_at > 0]
        self.served_after = len(after)
        self.gap = min(after) - self.killed_at if after else None

    def result(self, seen: Seen) -> str:
        gap = f"{self.gap:.1f} s" if self.gap is not None else "never"
        row = seen.row
        return (
            f"started again (process {self.pid_after}), first call allowed {gap} after the kill, "
            f"{self.served_after} since; {usd(row.spent)} spent + {usd(row.stranded)} stranded, "
            f"limit {usd(self.budget.limit)}"
        )

    def faults(self, seen: Seen) -> list[str]:
        wrong = []
        if not self.killed_at:
            wrong.append(f"{self.short}: Redis was never killed (its process: {self.pid_before})")
        elif self.gap is None or self.gap > self.back_within_seconds:
            wrong.append(
                f"{self.short}: no call was allowed within {self.back_within_seconds:.0f} s of the kill"
            )
        elif self.pid_after in (None, self.pid_before):
            wrong.append(f"{self.short}: Redis was not started again")
        for counter in seen.counters:
            if counter.spent + counter.stranded > counter.limit:
                wrong.append(f"{self.short}: spent and stranded together exceed the limit")
        return wrong


SCENES: tuple[type[Scene], ...] = (Threads, Document, RetryLoop, Burst, Customers, Kill)

TENANT_LIMIT = Budget("tenant", "*", int(Decimal(50).scaleb(9)), "month")
"""Stands over every call of the demo, beside the scene's own budget."""
