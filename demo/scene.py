"""What a scene is: a budget, a story, and the promises that are its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import noburn_sdk

from demo.application import Application, together
from demo.processes import Stage
from demo.truth import CounterState, Prices, Row

Watch = Callable[[], None]


@dataclass(frozen=True)
class Sizes:
    """How much happens. The quick set is for tests: the same scenes with fewer calls."""

    threads: int = 20
    fits: int = 4
    document_tokens: int = 100_000
    attempts: int = 300
    attempts_paid: int = 25
    burst: int = 120
    affordable: int = 100
    greedy: int = 36
    modest: int = 6
    traffic: int = 500
    traffic_paid: int = 300
    traffic_threads: int = 12


QUICK = Sizes(
    attempts=40, attempts_paid=5, burst=50, affordable=40, greedy=24, modest=2, traffic=200, traffic_paid=140
)


@dataclass(frozen=True)
class Budget:
    """One budget of `manage.py provision`; the limit in nano-USD."""

    scope: str
    subject: str
    limit: int
    window: str

    def spec(self) -> str:
        """Spells it for the command."""
        return f"{self.scope}:{self.subject}:{Decimal(self.limit).scaleb(-9).normalize():f}:{self.window}"


@dataclass(frozen=True)
class Set:
    """What a scene plays with. `run` runs jobs in threads and shows the progress meanwhile."""

    stage: Stage
    nb: noburn_sdk.Noburn
    app: Application
    say: Callable[[str], None]
    run: Callable[[Sequence[Callable[[], object]], Watch], None]


@dataclass(frozen=True)
class Seen:
    """What was counted after a scene: its row, and each counter of its budget."""

    row: Row
    counters: Sequence[CounterState]


class Scene(ABC):
    """One scene. It keeps what it saw between `play` and `result`."""

    label: ClassVar[str]
    short: ClassVar[str]
    """Its name in the closing table."""
    title: ClassVar[str]
    story: ClassVar[str]
    """What happens, and why a person cares."""

    def __init__(self, prices: Prices, sizes: Sizes) -> None:
        self.prices, self.sizes = prices, sizes

    @property
    @abstractmethod
    def budget(self) -> Budget:
        """What this scene may spend."""

    @property
    @abstractmethod
    def calls(self) -> int:
        """How many calls it will ask for."""

    @property
    def provider(self) -> dict[str, Any]:
        """How the provider double behaves meanwhile."""
        return {}

    @abstractmethod
    def play(self, on: Set) -> None:
        """Makes the calls."""

    @abstractmethod
    def result(self, seen: Seen) -> str:
        """Returns what came of it, in a line."""

    @abstractmethod
    def faults(self, seen: Seen) -> list[str]:
        """Names what this scene promises beyond what every row does, and did not come true."""


def in_threads(screen_update: Callable[[], None]) -> Callable[[Sequence[Callable[[], object]], Watch], None]:
    """Returns `Set.run` for a screen that is refreshed by `screen_update`."""

    def run(jobs: Sequence[Callable[[], object]], watch: Watch) -> None:
        def both() -> None:
            screen_update()
            watch()

        together(jobs, both)

    return run
