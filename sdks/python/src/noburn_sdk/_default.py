"""The gate that everything uses which was given none of its own, made from the environment when first needed."""

from __future__ import annotations

import atexit
import threading
from typing import Any

from noburn_sdk.attribution import Attribution
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.gate import Gate

_lock = threading.RLock()
_gate: Gate | None = None


def gate() -> Gate:
    """Returns the process's gate. Raises AuthenticationError where NOBURN_API_KEY is missing."""
    global _gate
    found = _gate
    if found is None:
        with _lock:
            if _gate is None:
                _gate = Gate()
            found = _gate
    return found


def configure(
    api_key: str | None = None,
    base_url: str | None = None,
    *,
    gate: Gate | None = None,
    **settings: Any,
) -> Gate:
    """Makes the process's gate anew, from settings or as the one given; the one before is flushed and closed.

    Settings are those of `Settings`, and customer, user, run, project, plan and tags for calls of which
    nothing more specific says whom they are for. Raises as `Gate` does.
    """
    global _gate
    if gate is not None and (api_key or base_url or settings):
        raise InvalidRequestError(
            "Cannot configure", errors={"gate": "must be given alone; it has settings of its own"}
        )
    if gate is None:
        names = ("customer", "user", "run", "project", "plan", "tags", "provider")
        said = {name: settings.pop(name) for name in names if settings.get(name) is not None}
        gate = Gate(api_key, base_url, defaults=Attribution(**said), **settings)
    with _lock:
        before, _gate = _gate, gate
    if before is not None and before is not gate:
        before.close()
    return gate


def is_configured() -> bool:
    """Whether the process has a gate already."""
    return _gate is not None


def release() -> None:
    """Closes the process's gate; the next use makes a new one."""
    global _gate
    with _lock:
        before, _gate = _gate, None
    if before is not None:
        before.close()


def flush(timeout: float | None = None) -> bool:
    """Waits until every settlement of this process so far has arrived; False if that took too long."""
    return _gate is None or _gate.flush(timeout)


@atexit.register
def _at_exit() -> None:
    if _gate is not None:
        _gate.close()
