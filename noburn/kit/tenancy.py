"""Whose rows a piece of work sees: nobody's, one tenant's, or everybody's.

PostgreSQL's row-level policies decide it, by what each statement says of itself (noburn.runtime.postgres). Whoever says
nothing sees nothing. Work for one tenant runs in `for_tenant`; a request becomes one tenant's by `act_for` once it is
known who asks. Work that spans tenants says so by `across_tenants`, or, where a whole process does nothing else, by
`span_in_this_process`: search for these two names to find all of it. docs/adr/0053.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final
from uuid import UUID


@dataclass(frozen=True)
class Scope:
    """Whose rows are seen and written: `tenant`'s, everybody's (`across`), or, with neither, nobody's."""

    tenant: UUID | None = None
    across: bool = False


NOBODY: Final = Scope()
ACROSS: Final = Scope(across=True)

_scope: ContextVar[Scope | None] = ContextVar("noburn_tenancy", default=None)
_default = NOBODY


def current() -> Scope:
    """Whose rows are seen now."""
    return _scope.get() or _default


@contextmanager
def _scoped(scope: Scope) -> Iterator[None]:
    before = _scope.get()
    _scope.set(scope)
    try:
        yield
    finally:
        # Not by token: an adapted view may end in another copy of the context than it began in.
        _scope.set(before)


@contextmanager
def for_tenant(tenant_id: UUID) -> Iterator[None]:
    """What is inside, or a function under it, sees and writes one tenant's rows alone."""
    with _scoped(Scope(tenant=tenant_id)):
        yield


@contextmanager
def across_tenants() -> Iterator[None]:
    """What is inside, or a function under it, sees and writes the rows of all tenants, on purpose."""
    with _scoped(ACROSS):
        yield


@contextmanager
def for_nobody() -> Iterator[None]:
    """What is inside sees no tenant's rows until it says whose: where a request begins."""
    with _scoped(NOBODY):
        yield


def act_for(tenant_id: UUID) -> None:
    """From here to the end of the request (`for_nobody`), one tenant's rows alone. Raises RuntimeError outside of one."""
    if _scope.get() is None:
        raise RuntimeError("act_for is for requests, which begin in for_nobody; use for_tenant")
    _scope.set(Scope(tenant=tenant_id))


def span_in_this_process() -> None:
    """What says nothing in this process spans tenants: for programs that serve no requests."""
    global _default
    _default = ACROSS
