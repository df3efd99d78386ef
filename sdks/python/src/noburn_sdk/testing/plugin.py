"""The pytest plugin `noburn`: fixtures that let a program be tested without a noburn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from noburn_sdk import _default
from noburn_sdk.integrations.registry import uninstrument
from noburn_sdk.testing.plane import MemoryGate, MemoryPlane


@pytest.fixture
def noburn_plane() -> Iterator[MemoryPlane]:
    """A noburn in memory onto which this process's gate leads; `instrument()` whatever the test calls.

    Settlements have arrived once `noburn_sdk.flush()` returned.
    """
    plane = MemoryPlane()
    _default.configure(gate=MemoryGate(plane))
    yield plane
    uninstrument()
    _default.release()
