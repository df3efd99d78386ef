"""The SDK's gates of this process, one for each of noburn's keys in use."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from noburn_sdk.errors import AuthenticationError
from noburn_sdk.gate.serving import ServingGate

from proxy.answers import Refusal
from proxy.config import Config
from proxy.keys import hash_of

REFUSED_SECONDS = 5.0
REFUSED_MAX = 10_000
UNPROVEN_MAX = 8
"""Keys of which nobody knows yet whether noburn takes them: so many at once, and they push no others out."""


@dataclass
class _Kept:
    gate: ServingGate
    calls: int = 0
    proven: bool = False


class Gates:
    """Makes gates as keys come, and closes those not used for the longest time. For one event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._closing: set[asyncio.Task[bool]] = set()

    @asynccontextmanager
    async def using(self, key: str) -> AsyncIterator[ServingGate]:
        """Gives the gate of a key, which stays open meanwhile. Raises Refusal for a key not to be asked with."""
        name = hash_of(key)
        until = self._refused.get(name)
        if until is not None and time.monotonic() < until:
            raise Refusal(401, "noburn_key", "noburn does not take this key.", retry=False)
        found = self._kept.get(name) or self._make(name, key)
        self._kept.move_to_end(name)
        found.calls += 1
        try:
            yield found.gate
            found.proven = True
        except AuthenticationError:
            self._drop(name)
            raise
        finally:
            found.calls -= 1
            if self._kept.get(name) is not found and not found.calls:
                self._close(found)

    def _make(self, name: str, key: str) -> _Kept:
        own = key == self._config.noburn_key
        unproven = [one for one, kept in self._kept.items() if not kept.proven]
        room = self._config.limits.tenants_max
        pushed = (
            unproven if len(unproven) >= UNPROVEN_MAX else list(self._kept) if len(self._kept) >= room else []
        )
        if pushed and not own:
            idle = next((one for one in pushed if not self._kept[one].calls), None)
            if idle is None:
                raise Refusal(503, "too_many_tenants", "Too many tenants call at once.", retry_after=1.0)
            self._close(self._kept.pop(idle))
        gate = ServingGate(key, self._config.noburn_url, **self._config.gate)
        made = self._kept[name] = _Kept(gate, proven=own)
        return made

    def _drop(self, name: str) -> None:
        self._kept.pop(name, None)
        self._refused[name] = time.monotonic() + REFUSED_SECONDS
        self._refused.move_to_end(name)
        while len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)

    def _close(self, kept: _Kept) -> None:
        task = asyncio.ensure_future(kept.gate.aclose(self._config.limits.flush_seconds))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @property
    def waiting(self) -> int:
        """About how many settlements have not gone out yet."""
        return sum(kept.gate.settler.waiting for kept in self._kept.values())

    @property
    def is_cut_off(self) -> bool:
        """Whether noburn has not answered for a while."""
        return any(kept.gate.breaker.is_open for kept in self._kept.values())

    async def aclose(self) -> bool:
        """Delivers settlements and closes everything. False if some are left in outboxes."""
        for kept in self._kept.values():
            self._close(kept)
        self._kept.clear()
        done = await asyncio.gather(*self._closing)
        return all(done)
