"""docs/reliability.md says what the runs say."""

from __future__ import annotations

from tests.faults.report import PAGE, page, runs, tables


class TestReport:
    def test_is_made_of_the_runs_that_stand_beside_it(self) -> None:
        text = PAGE.read_text()
        assert page(text, tables(runs())) == text, "run: python -m tests.faults.report"

    def test_tells_of_thousands_of_faults_and_nothing_lost(self) -> None:
        found = runs()
        assert sum(sum(run["injected"].values()) for run in found) >= 2_000
        for run in found:
            assert run["lost"] == run["over"] == run["budgets over"] == run["drift alerts"] == 0
            assert run["counts"]["budget_exceeded"] > 0
