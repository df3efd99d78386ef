"""Named points of work that may be cut off anywhere. Nothing happens here; a test ends the process at one."""

from __future__ import annotations


def reached(step: str) -> None:
    """Says that a step has been reached: what came before it is done, what comes after is not."""
    del step
