"""`python -m demo`: plays the scenes, holds noburn to its word, and exits 0 only if every promise was kept."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import noburn_sdk
import psycopg

from demo.application import CLAUDE, GPT, Application
from demo.processes import DemoFailed, Stage
from demo.scene import QUICK, Scene, Seen, Set, Sizes, in_threads
from demo.scenes import SCENES, TENANT_LIMIT
from demo.screen import Screen
from demo.truth import Prices, Row, costs_on_ledger, counters_of, falsely_refused, total_of, usd
from noburn.kit import ids
from noburn.runtime.names import ACROSS

TENANT = "acme"
PATIENCE_SECONDS = 30.0
RETRIES_MAX = 20
LEDGER_MAX = 100_000
INTERRUPTED_EXIT = 130


class Interruption:
    """Ends the demo on a signal, also where SIGINT was ignored when it started, as a shell does for background jobs.

    A KeyboardInterrupt may be raised within a finalizer or a callback, where Python prints and drops it. It is
    remembered, so that the next look at it raises it again.
    """

    def __init__(self) -> None:
        self._came = False

    def heed(self, *numbers: signal.Signals) -> None:
        """Takes these signals from now on."""
        for number in numbers:
            signal.signal(number, self._come)

    def check(self) -> None:
        """Raises KeyboardInterrupt when a signal came."""
        if self._came:
            raise KeyboardInterrupt

    def _come(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        raise KeyboardInterrupt


class Demo:
    """One performance: what runs, what was provisioned, and what has been counted so far."""

    def __init__(self, stage: Stage, screen: Screen, sizes: Sizes, interruption: Interruption) -> None:
        self._stage, self._screen, self._sizes = stage, screen, sizes
        self._interruption = interruption
        self.rows: list[Row] = []
        self.faults: list[str] = []

    def run(self) -> None:
        """Plays everything. Raises DemoFailed when it cannot go on."""
        with self._screen.step("the provider double serves (OpenAI and Anthropic, metering every call)"):
            self._stage.start_double()
        with self._screen.step("noburn serves: PostgreSQL, Valkey, gateway, Celery, epoch controller"):
            self._stage.start_noburn()
        with self._screen.step(
            f"manage.py provision --tenant {TENANT}: an API key, and a budget for each scene"
        ):
            self._provision()
        with noburn_sdk.Noburn(
            self._key,
            self._stage.base_url,
            busy_timeout=PATIENCE_SECONDS,
            retry_timeout=PATIENCE_SECONDS,
            max_retries=RETRIES_MAX,
        ) as nb:
            for number, scene in enumerate(self._scenes, 1):
                self._play(number, scene, nb)
        self._look_at_the_whole()

    def _provision(self) -> None:
        made = self._stage.manage("provision", "--tenant", TENANT, "--json")
        self._key: str = made["api_key"]
        with noburn_sdk.Noburn(self._key, self._stage.base_url) as nb:
            listed = [item for name in ("openai", "anthropic") for item in nb.prices(provider=name)["prices"]]
        self._prices = Prices(listed, (GPT, CLAUDE))
        self._scenes: list[Scene] = [kind(self._prices, self._sizes) for kind in SCENES]
        budgets = [TENANT_LIMIT, *(scene.budget for scene in self._scenes)]
        order = [word for budget in budgets for word in ("--budget", budget.spec())]
        made = self._stage.manage("provision", "--tenant", TENANT, *order, "--json")
        self._tenant_budget, *scene_budgets = [item["id"] for item in made["budgets"]]
        self._budgets: dict[str, str] = dict(
            zip((scene.label for scene in self._scenes), scene_budgets, strict=True)
        )

    def _play(self, number: int, scene: Scene, nb: noburn_sdk.Noburn) -> None:
        self._interruption.check()
        self._screen.title(number, scene.title, scene.story, scene.budget.spec())
        self._stage.double.control(**_BEHAVED | scene.provider)
        app = Application(nb=nb, double=self._stage.double, label=scene.label)
        try:
            with self._screen.progress(scene.calls, app.tally) as shown:

                def watch() -> None:
                    self._interruption.check()
                    self._screen.update_progress(shown, app.tally)

                run = in_threads(watch)
                scene.play(Set(stage=self._stage, nb=nb, app=app, say=self._screen.say, run=run))
        finally:
            app.close()
        seen = self._count(scene, app)
        faults = seen.row.faults() + scene.faults(seen)
        self.rows.append(seen.row)
        self.faults += faults
        if scene.label == "kill":
            self._show_stranded(self._budgets[scene.label])
        self._screen.result(scene.result(seen), faults)

    def _count(self, scene: Scene, app: Application) -> Seen:
        reached = [
            entry for entry in self._stage.double.ledger(limit=LEDGER_MAX) if entry["label"] == scene.label
        ]
        budget_id, tally = self._budgets[scene.label], app.tally
        with psycopg.connect(self._stage.database_url, options=f"-c role={ACROSS}") as connection:
            counters = counters_of(connection, ids.decode(ids.BUDGET, budget_id))
            whole = counters_of(connection, ids.decode(ids.BUDGET, self._tenant_budget))
            metered = costs_on_ledger(connection, ids.decode(ids.BUDGET, budget_id))
        row = Row(
            title=scene.short,
            asked=tally.asked,
            allowed=tally.allowed,
            refused=dict(Counter(refusal.reason for refusal in tally.refusals)),
            unavailable=len(tally.unavailable),
            reached=len(reached),
            billed=sum(self._prices.billed(entry) for entry in reached),
            answered=tally.answered_nano,
            metered=metered,
            posted=sum(counter.posted for counter in counters),
            spent=sum(counter.spent for counter in counters),
            over=sum(max(0, counter.spent - counter.limit) for counter in counters),
            falsely=falsely_refused(tally.refusals, {budget_id: counters, self._tenant_budget: whole}),
            stranded=sum(counter.stranded for counter in counters),
        )
        return Seen(row, counters)

    def _show_stranded(self, budget_id: str) -> None:
        lines = self._stage.manage("epoch", "status", "--json")["stranded"]
        mine = [line for line in lines if ids.encode(ids.BUDGET, UUID(line["budget_id"])) == budget_id]
        for line in mine:
            self._screen.say(
                f"[dim]manage.py epoch status:[/] {usd(line['authority'])} of this budget is stranded, lent to epoch "
                f"{line['epoch'][:8]} (closed); likewise {len(lines) - len(mine)} other counters of the tenant"
            )
        self._screen.say(
            "[dim]Stranded is what the dead Redis may have handed out. It counts as spent until the window ends or an "
            "operator writes it off, so the limit holds whatever was allowed in its last moment.[/]"
        )

    def _look_at_the_whole(self) -> None:
        """Compares the tenant's own budget with the sum of the scenes, and lets `verify` recompute everything."""
        with psycopg.connect(self._stage.database_url, options=f"-c role={ACROSS}") as connection:
            whole = counters_of(connection, ids.decode(ids.BUDGET, self._tenant_budget))
        total, summary = total_of(self.rows), self._stage.double.summary()
        spent, posted = sum(counter.spent for counter in whole), sum(counter.posted for counter in whole)
        if not spent == posted == total.metered:
            self.faults.append(f"The tenant's budget has {usd(spent)} spent, its scenes {usd(total.metered)}")
        if summary["requests"] != total.reached or summary["open"] or summary["forgotten"]:
            self.faults.append(f"The provider saw {summary['requests']} calls, the scenes {total.reached}")
        try:
            found = self._stage.manage("verify", "--json")
        except DemoFailed as failed:
            self.faults.append(f"manage.py verify found differences: {failed}")
            return
        totals = found["totals"]
        if found["differences"] or totals["open_holds"] or totals["overrun"]:
            self.faults.append(f"manage.py verify is not exact: {found}")
            return
        self._screen.say(
            f"[bold green]✓[/] manage.py verify: {totals['counters']} counters recomputed from "
            f"{totals['entries']} ledger entries, grants and Redis: 0 differences"
        )


_BEHAVED: dict[str, Any] = {
    "latency_ms": 0,
    "jitter_ms": 0,
    "chunk_delay_ms": 0,
    "output_fraction": None,
    "output_tokens": 24,
}


def perform(screen: Screen, sizes: Sizes, report: Path | None, interruption: Interruption) -> int:
    """Plays the demo and returns the exit status."""
    started = time.monotonic()
    screen.opening()
    stage, log = Stage(), ""
    try:
        with stage:
            demo = Demo(stage, screen, sizes, interruption)
            try:
                demo.run()
            except (DemoFailed, KeyboardInterrupt):
                raise
            except Exception as error:
                # Its log is gone with its home a moment later.
                raise DemoFailed(f"{error!r}\nThe end of noburn's log:\n{stage.last_words()}") from error
            log = stage.last_words()
    except KeyboardInterrupt:
        screen.interrupted()
        return INTERRUPTED_EXIT
    except DemoFailed as failed:
        screen.failed(str(failed))
        return 1
    finally:
        left = stage.left_over()
    if left:
        demo.faults.append(f"processes {left} were left behind")
    screen.table(demo.rows, total_of(demo.rows))
    screen.verdict(demo.faults, log)
    if report is not None:
        report.write_text(json.dumps({"rows": [asdict(row) for row in demo.rows], "faults": demo.faults}))
    screen.took(time.monotonic() - started)
    if not demo.faults:
        screen.next_steps()
    return 1 if demo.faults else 0


def main() -> None:
    """Reads the command line and plays."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the same scenes with fewer calls")
    parser.add_argument("--report", type=Path, help="write the numbers to this file, as JSON")
    options = parser.parse_args()
    interruption = Interruption()
    interruption.heed(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    sys.exit(perform(Screen(), QUICK if options.quick else Sizes(), options.report, interruption))


if __name__ == "__main__":
    main()
