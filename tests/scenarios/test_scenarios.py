"""The recommended guards stop every kind of runaway, and nothing of what is as it should be."""

from __future__ import annotations

import pytest

from tests.scenarios.replay import DOCUMENT, documented, replay
from tests.scenarios.traffic import NANO, SCENARIOS, Scenario

GOOD = [scenario for scenario in SCENARIOS if scenario.good]
BAD = {scenario.name: scenario for scenario in SCENARIOS if not scenario.good}


class TestReplay:
    @pytest.mark.parametrize("scenario", GOOD, ids=lambda scenario: scenario.name)
    def test_stops_nothing_of_good_traffic(self, scenario: Scenario) -> None:
        outcome = replay(scenario)
        assert (outcome.trips, outcome.stopped, outcome.spent_nano) == ([], 0, outcome.asked_nano)

    @pytest.mark.parametrize(
        ("name", "guard", "spent"),
        [
            ("retry loop", "loops", NANO),
            ("recursion", "depth", NANO),
            ("pasted document", "size of a call", NANO),
            ("leaked key", "newcomers", 7 * NANO),
            ("leaked key, known customer", "spend of a key", 250 * NANO),
        ],
    )
    def test_stops_each_runaway_before_it_is_dear(self, name: str, guard: str, spent: int) -> None:
        outcome = replay(BAD[name])
        assert outcome.trips[0].guard == guard
        assert outcome.spent_nano <= spent < outcome.asked_nano

    def test_is_the_same_each_time(self) -> None:
        assert [replay(scenario).spent_nano for scenario in SCENARIOS[:1]] == [
            replay(scenario).spent_nano for scenario in SCENARIOS[:1]
        ]


class TestDocument:
    def test_shows_what_a_replay_says(self) -> None:
        text = DOCUMENT.read_text()
        assert text == documented(text), "run: python -m tests.scenarios"
