"""One event loop for all tests of a process: frameworks keep connections, which belong to the loop of their first use."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

_runner = asyncio.Runner()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end, in the caller's context: a runner has one of its own, from when it was made."""
    return _runner.run(work, context=contextvars.copy_context())
