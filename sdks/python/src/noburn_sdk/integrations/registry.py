"""Which integrations there are, and switching them on and off."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from noburn_sdk import _default
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.gate import Gate

INTEGRATIONS: Mapping[str, str] = {
    "openai": "noburn_sdk.integrations.openai",
    "anthropic": "noburn_sdk.integrations.anthropic",
    "litellm": "noburn_sdk.integrations.litellm",
    "langchain": "noburn_sdk.integrations.langchain",
    "langgraph": "noburn_sdk.integrations.langgraph",
}
"""By the name of the package that each gates."""
_FOUND_BY = {"langchain": "langchain_core"}
"""What is installed where the package itself need not be: models without agents."""


class Integration(Protocol):
    """What an integration's module offers. Both are idempotent."""

    def instrument(self) -> None:
        """Gates every client of the library, made already or later."""
        ...

    def uninstrument(self) -> None:
        """Puts the library back as it was."""
        ...


_lock = threading.RLock()
_on: dict[str, Any] = {}


def instrument(*integrations: str, gate: Gate | None = None, **settings: Any) -> tuple[str, ...]:
    """Gates every client of these libraries, or of all that are installed; returns which.

    Settings are those of `configure`, which is called with them. Calling it again changes nothing but that.
    Raises InvalidRequestError for a name that is unknown or not installed, and as `Gate` does.
    """
    unknown = [name for name in integrations if name not in INTEGRATIONS]
    missing = [name for name in integrations if name not in unknown and not _installed(name)]
    if unknown or missing:
        errors = {name: f"unknown; known are {', '.join(INTEGRATIONS)}" for name in unknown}
        errors |= {name: "is not installed" for name in missing}
        raise InvalidRequestError("Cannot instrument", errors=errors)
    with _lock:
        if gate is not None or settings:
            _default.configure(gate=gate, **settings)
        else:
            # A missing key is told here, not at the first call.
            _default.gate()
        chosen = integrations or tuple(name for name in INTEGRATIONS if _installed(name))
        for name in chosen:
            if name not in _on:
                module: Any = importlib.import_module(INTEGRATIONS[name])
                module.instrument()
                _on[name] = module
        return tuple(_on)


def uninstrument(*integrations: str) -> None:
    """Puts these libraries back as they were, or all of them; then the process's gate is flushed and closed."""
    with _lock:
        for name in list(_chosen(integrations)):
            _on.pop(name).uninstrument()
        if not _on:
            _default.release()


def _chosen(integrations: Iterable[str]) -> list[str]:
    wanted = list(integrations) or list(_on)
    return [name for name in wanted if name in _on]


def wrap(client: Any, **said: Any) -> Any:
    """Returns a client like this one whose calls are gated; the given one stays as it is.

    `said` is whom its calls are for, as in `context`, where nothing more specific says so.
    Raises InvalidRequestError for a client that no integration knows.
    """
    for kind in type(client).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in INTEGRATIONS:
            module: Any = importlib.import_module(INTEGRATIONS[package])
            return module.wrap(client, **said)
    known = ", ".join(INTEGRATIONS)
    message = f"is a {type(client).__module__}.{type(client).__qualname__}; clients of {known} can be wrapped"
    raise InvalidRequestError("Cannot wrap", errors={"client": message})


def _installed(name: str) -> bool:
    return importlib.util.find_spec(_FOUND_BY.get(name, name)) is not None
