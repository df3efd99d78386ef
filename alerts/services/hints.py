"""Tells the workers that deliveries wait. A hint that is lost costs the seconds until the next sweep."""

from __future__ import annotations

from noburn.kit.jobs import hint

TASK = "alerts.deliver"
QUEUE = "alerts"
HINT_SECONDS = 10


def deliveries_wait() -> None:
    """Asks for a sweep soon. Many hints at once are worth one: the first sweep takes everything, the rest expire."""
    hint(TASK, queue=QUEUE, expires_seconds=HINT_SECONDS)
