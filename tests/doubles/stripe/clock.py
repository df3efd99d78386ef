"""The double's time: it stands still, moves when told, and does on its way what had become due."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

STEPS_MAX = 2_000_000


@dataclass(order=True)
class Job:
    """Something to do at a time; `skip` takes it back."""

    at: int
    number: int
    run: Callable[[], None] = field(compare=False)
    skip: bool = field(default=False, compare=False)


class Clock:
    """Seconds since 1970. Stands still unless `running`, in which case it goes as real time does."""

    def __init__(self) -> None:
        self._now = int(time.time())
        self._jobs: list[Job] = []
        self._numbers = itertools.count()
        self._real: float | None = None

    @property
    def now(self) -> int:
        """The present second."""
        return self._now

    @property
    def moment(self) -> datetime:
        """The same, aware."""
        return datetime.fromtimestamp(self._now, UTC)

    def at(self, at: int, run: Callable[[], None]) -> Job:
        """Plans something for a time; for a past one, at the next move."""
        job = Job(at, next(self._numbers), run)
        heapq.heappush(self._jobs, job)
        return job

    def run(self, running: bool) -> None:
        """Lets it go with real time from now on, or stops it."""
        self._real = time.monotonic() if running else None

    def tick(self) -> None:
        """Catches up with real time where it runs, and does what is due."""
        if self._real is None:
            return
        gone = int(time.monotonic() - self._real)
        if gone:
            self._real += gone
            self.move(self._now + gone)

    def move(self, to: int) -> int:
        """Moves on to a time and returns how many jobs that ran. Raises ValueError for a past one."""
        if to < self._now:
            raise ValueError("the clock does not go back")
        done = 0
        while self._jobs and self._jobs[0].at <= to:
            job = heapq.heappop(self._jobs)
            if job.skip:
                continue
            self._now = max(self._now, job.at)
            job.run()
            done += 1
            if done > STEPS_MAX:
                raise RuntimeError("the clock's jobs make ever more of themselves")
        self._now = to
        return done

    def set(self, to: int) -> None:
        """Puts a new double's clock anywhere. Raises ValueError once something is planned."""
        if any(not job.skip for job in self._jobs):
            raise ValueError("the clock is set before anything happened; move it instead")
        self._now = to
