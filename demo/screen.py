"""What is shown: a title a scene, progress on a terminal, one line of result, and the closing table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from demo.application import Tally
from demo.truth import Row

PLAIN_WIDTH = 118

NEXT_SDK = """\
import noburn_sdk, openai
nb, client, text = noburn_sdk.Noburn(), openai.OpenAI(max_retries=0), [{"role": "user", "content": "A haiku, please"}]
tokens = noburn_sdk.estimate.count_chat(text, "gpt-4o-mini")
with nb.call(model="gpt-4o-mini", input_tokens=tokens, customer="bob") as call:
    cap = call.max_output_tokens
    call.settle(client.chat.completions.create(model=call.model, messages=text, max_completion_tokens=cap))"""

NEXT_CURL = """\
curl -s http://127.0.0.1:8420/v1/preflight -H "Authorization: Bearer $NOBURN_API_KEY" \\
  -H "Idempotency-Key: 1" -H "Content-Type: application/json" \\
  -d '{"model": "gpt-4o-mini", "input_tokens": 1200, "subject": {"customer": "bob"}}'"""

WIDE = 100
"""Columns from which on the closing table has room to breathe; it fits into 80."""


def _short(amount: int) -> str:
    """Spells an amount for the table: six places, rounded up so that nothing looks like nothing."""
    return f"{Decimal(-(-amount // 1000)).scaleb(-6):f}" if amount else "0"


class Screen:
    """The console of the demo. Without a terminal there is no progress and a fixed width."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, emoji=False)
        if not self._console.is_terminal:
            self._console = Console(file=self._console.file, highlight=False, emoji=False, width=PLAIN_WIDTH)

    def opening(self) -> None:
        """Says what is about to happen."""
        self._console.print()
        self._console.print(
            "[bold]noburn[/]: six ways to burn money on LLM calls, each stopped at its budget."
        )
        self._console.print(
            "[dim]Real PostgreSQL, Redis, gateway and the real openai and anthropic clients; only the provider is a "
            "double, whose own list of calls is the ground truth.[/]"
        )
        self._console.print()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Shows a step under way, and how long it took."""
        started = time.monotonic()
        with self._console.status(f"{what} …"):
            yield
        self._console.print(f"[green]✓[/] {what} [dim]{time.monotonic() - started:.1f} s[/]")

    def title(self, number: int, title: str, story: str, budget: str) -> None:
        """Opens a scene."""
        self._console.print()
        self._console.rule(f"[bold]{number}  {escape(title)}[/]", align="left", style="cyan")
        self._indented(f"[dim]{escape(story)}[/]")
        self._indented(f"[dim]budget[/] [cyan]{escape(budget)}[/]")

    @contextmanager
    def progress(self, calls: int, tally: Tally) -> Iterator[Progress]:
        """Shows the tally while it grows; `refresh` with `update_progress`."""
        columns = (
            TextColumn("  {task.completed:>4.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("[green]{task.fields[allowed]} allowed[/]  [red]{task.fields[refused]} refused[/]"),
        )
        shown = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        with shown:
            shown.add_task("", total=calls, allowed=0, refused=0)
            yield shown
            self.update_progress(shown, tally)

    @staticmethod
    def update_progress(shown: Progress, tally: Tally) -> None:
        """Shows the numbers of now."""
        for task in shown.task_ids:
            done = tally.allowed + len(tally.refusals) + len(tally.unavailable)
            shown.update(task, completed=done, allowed=tally.allowed, refused=len(tally.refusals))

    def say(self, text: str) -> None:
        """Prints a line of the story; markup is the caller's."""
        self._indented(text)

    def result(self, text: str, faults: Sequence[str]) -> None:
        """Prints what came of a scene."""
        self._indented(f"[bold red]✗[/] {escape(text)}" if faults else f"[bold green]✓[/] {escape(text)}")
        for fault in faults:
            self._indented(f"[bold red]{escape(fault)}[/]")

    def table(self, rows: Sequence[Row], total: Row) -> None:
        """Prints the closing table."""
        padding = (0, int(self._console.width >= WIDE))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=padding)
        table.add_column("scene", no_wrap=True)
        names = (
            "asked",
            "allowed",
            "refused:\nbudget_…",
            "reached\nprovider",
            "metered\nUSD",
            "over\nbudget",
        )
        for name in (*names, "falsely\nrefused", "stranded\nUSD"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in (*rows, total):
            table.add_row(
                row.title,
                str(row.asked),
                str(row.allowed),
                self._why(row),
                str(row.reached),
                _short(row.metered),
                _short(row.over),
                str(row.falsely),
                _short(row.stranded),
                style="bold" if row is total else None,
                end_section=row is rows[-1],
            )
        self._console.print()
        self._console.print(table)

    def _why(self, row: Row) -> str:
        between = " " if self._console.width >= WIDE else "\n"
        why = [
            f"{count}{between}{reason.removeprefix('budget_')}"
            for reason, count in sorted(row.refused.items())
        ]
        return "\n".join(why + [f"{row.unavailable}{between}undecided"] * bool(row.unavailable)) or "0"

    def verdict(self, faults: Sequence[str], log: str) -> None:
        """Says whether everything was as promised, and shows the end of noburn's log if not."""
        if not faults:
            self._console.print(
                "[bold green]Everything as promised:[/] reached = allowed, metered = billed to the nano-dollar, "
                "nothing over budget, nothing falsely refused."
            )
            return
        self._console.print(f"[bold red]{len(faults)} promises were broken:[/]")
        for fault in faults:
            self._console.print(f"  [red]{escape(fault)}[/]")
        self._console.print(f"[dim]The end of noburn's log:\n{escape(log)}[/]")

    def failed(self, reason: str) -> None:
        """Says that the demo could not be finished."""
        self._console.print(f"\n[bold red]The demo could not be finished:[/] {escape(reason)}")

    def interrupted(self) -> None:
        """Says that somebody ended the demo."""
        self._console.print("\nInterrupted; every process has been ended.")

    def took(self, seconds: float) -> None:
        """Says how long it all took."""
        self._console.print(f"[dim]{seconds:.0f} s in all; nothing is left running.[/]")

    def next_steps(self) -> None:
        """Says what to try next; each of these works as it stands."""
        self._console.print("\n[bold]What to try next[/]")
        self._console.print(
            "[dim]Run noburn for yourself (Ctrl-C ends it), and in another terminal make a tenant:[/]"
        )
        self._code("make serve")
        self._code(".venv/bin/python manage.py provision --tenant acme --budget 'customer:*:10:month'")
        self._console.print("[dim]Ask it about a call, with the key that it printed as NOBURN_API_KEY:[/]")
        self._code(NEXT_CURL)
        self._console.print(
            "[dim]Guard your own calls: six lines of Python (.venv/bin/python, OPENAI_API_KEY set):[/]"
        )
        self._code(NEXT_SDK)

    def _indented(self, text: str) -> None:
        self._console.print(Padding(text, (0, 0, 0, 3), expand=False))

    def _code(self, text: str) -> None:
        # Neither wrapped nor indented by us, so that it can be copied as it is.
        self._console.print(text, style="cyan", markup=False, soft_wrap=True)
