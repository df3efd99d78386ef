"""`make demo`: played once with fewer calls, interrupted once, and made to fail once; and how it judges itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from demo.truth import CounterState, Prices, Refusal, Row, falsely_refused, total_of
from noburn.runtime.embedded import ROOT

DEMO_SECONDS = 300


class Played:
    """One run of the demo, whose processes are told by the temporary directory that it was given."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="nbd-", dir="/tmp"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demo", "--quick", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(self.directory), "PYTHONUNBUFFERED": "1", **environment},
        )

    def processes(self) -> list[int]:
        """Returns what still runs of it."""
        mark = os.fsencode(self.directory)
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (directory / "environ").read_bytes() + (directory / "cmdline").read_bytes():
                    found.append(int(directory.name))
            except OSError:
                continue
        return found

    def read_until(self, words: str) -> None:
        """Returns when a line of its output holds these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return
        raise AssertionError(f"the demo ended without saying {words!r}")

    def end(self) -> str:
        """Returns the rest of its output, once it has ended."""
        return self.process.communicate(timeout=DEMO_SECONDS)[0]

    def clean(self) -> None:
        """Removes it, running or not."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=DEMO_SECONDS)
        shutil.rmtree(self.directory)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


@pytest.fixture
def played(report: Path) -> Iterator[Played]:
    running = Played("--report", str(report))
    yield running
    running.clean()


class TestDemo:
    def test_keeps_every_promise_and_leaves_nothing_behind(self, played: Played, report: Path) -> None:
        said = played.end()
        assert played.process.returncode == 0, said
        found = json.loads(report.read_text())
        assert found["faults"] == []
        rows = {row["title"]: row for row in found["rows"]}
        assert len(rows) == 6
        for row in rows.values():
            assert row["over"] == row["falsely"] == 0
            assert row["reached"] == row["allowed"] > 0
            assert row["billed"] == row["metered"] > 0
            assert sum(row["refused"].values()) > 0
        assert rows["20 threads"]["reached"] == 4
        assert "Everything as promised" in said
        assert "What to try next" in said
        assert played.processes() == []
        assert list(played.directory.iterdir()) == []

    def test_ends_every_process_when_it_is_interrupted(
        self, report: Path, request: pytest.FixtureRequest
    ) -> None:
        # As a shell starts what runs in the background.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            played: Played = request.getfixturevalue("played")
        finally:
            signal.signal(signal.SIGINT, before)
        played.read_until("Twenty threads")
        assert len(played.processes()) > 5
        played.process.send_signal(signal.SIGINT)
        said = played.end()
        assert played.process.returncode == 130, said
        assert "Interrupted" in said
        assert played.processes() == []
        assert list(played.directory.iterdir()) == []
        assert not report.exists()

    def test_says_why_when_noburn_does_not_start(self) -> None:
        failing = Played(LOG_LEVEL="NONSENSE")
        try:
            said = failing.end()
            assert failing.process.returncode == 1
            assert "manage.py serve ended with 1" in said
            assert "Unable to configure root logger" in said
            assert failing.processes() == []
        finally:
            failing.clean()


HONEST = Row(
    title="scene",
    asked=5,
    allowed=3,
    refused={"budget_exceeded": 2},
    reached=3,
    billed=30,
    answered=30,
    metered=30,
    posted=30,
    spent=30,
    over=0,
    falsely=0,
    stranded=7,
)


class TestRow:
    def test_has_no_faults_when_everyone_agrees(self) -> None:
        assert HONEST.faults() == []

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"asked": 6}, "6 asked, but 3 allowed, 2 refused"),
            ({"reached": 4}, "4 calls reached the provider, 3 were allowed"),
            ({"billed": 31}, "the provider bills $0.000000031, the ledger has $0.00000003"),
            ({"answered": 29}, "settles answered"),
            ({"spent": 31}, "the counters say"),
            ({"over": 1}, "$0.000000001 was spent beyond a limit"),
            ({"falsely": 1}, "1 calls were refused although there was room"),
            ({"refused": {"budget_exceeded": 1, "budget_busy": 1}}, "1 calls waited in vain"),
        ],
    )
    def test_names_each_broken_promise(self, change: dict[str, object], words: str) -> None:
        [fault] = replace(HONEST, **change).faults()  # type: ignore[arg-type]
        assert fault.startswith("scene: ")
        assert words in fault

    def test_adds_up(self) -> None:
        total = total_of([HONEST, replace(HONEST, refused={"budget_busy": 1, "budget_exceeded": 1})])
        assert (total.asked, total.metered, total.stranded) == (10, 60, 14)
        assert total.refused == {"budget_exceeded": 3, "budget_busy": 1}


class TestFalselyRefused:
    counters = {
        "bud_a": [CounterState("alice", 100, 60, 10, 60), CounterState("bob", 100, 0, 0, 0)],
        "bud_b": [CounterState("tenant", 100, 90, 0, 90)],
    }

    @staticmethod
    def refusal(budget_id: str | None, subject: str | None, estimate: int | None) -> Refusal:
        return Refusal("budget_exceeded", budget_id, subject, estimate, "")

    def test_counts_what_had_room_beside_spent_and_stranded(self) -> None:
        assert falsely_refused([self.refusal("bud_a", "alice", 30)], self.counters) == 1
        assert falsely_refused([self.refusal("bud_a", "alice", 31)], self.counters) == 0

    def test_looks_at_the_customers_own_counter(self) -> None:
        assert falsely_refused([self.refusal("bud_a", "bob", 31)], self.counters) == 1

    def test_takes_the_only_counter_of_a_budget_for_everybody(self) -> None:
        assert falsely_refused([self.refusal("bud_b", "bob", 11)], self.counters) == 0

    def test_counts_a_refusal_that_nothing_justifies(self) -> None:
        nameless = [
            self.refusal(None, None, 5),
            self.refusal("bud_c", "bob", 5),
            self.refusal("bud_b", None, None),
        ]
        assert falsely_refused(nameless, self.counters) == 3


class TestPrices:
    prices = Prices(
        [
            {
                "model": "m",
                "variant": variant,
                "prices": {
                    "input_tokens": {"usd_per_million_tokens": price},
                    "output_tokens": {"usd_per_million_tokens": "0.6"},
                    "web_searches": {"usd_per_unit": "0.01"},
                },
            }
            for variant, price in (("batch", "0.1"), ("standard", "0.15"))
        ],
        ["m"],
    )

    def test_multiplies_the_standard_price_exactly(self) -> None:
        assert self.prices.cost("m", input_tokens=7, output_tokens=3) == 7 * 150 + 3 * 600

    def test_refuses_to_price_what_is_no_plain_text(self) -> None:
        entry = {"model": "m", "metered": {"input_tokens": 7, "output_tokens": 3, "cached_tokens": 1}}
        with pytest.raises(ValueError, match="plain text alone"):
            self.prices.billed(entry)
