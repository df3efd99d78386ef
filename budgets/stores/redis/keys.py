"""Names of the money path's Redis keys. All keys of a tenant lie in one hash slot; docs/escrow.md, section 4."""

from __future__ import annotations

import zlib
from uuid import UUID

from budgets.domain.escrow import SHARDS


def shard_of(tenant_id: UUID) -> int:
    """The virtual shard of a tenant, 0 to 63."""
    return zlib.crc32(tenant_id.bytes) % SHARDS


def epoch_key(shard: int) -> str:
    """The key that carries a shard's epoch id and `until`."""
    return f"{{nb{shard:02d}}}:epoch"


class Keys:
    """The key names of one epoch of one shard. They carry the epoch, so that stale keys never match."""

    __slots__ = ("_prefix", "epoch", "expiries")

    def __init__(self, *, shard: int, epoch_id: UUID) -> None:
        self._prefix = f"{{nb{shard:02d}}}:{epoch_id.hex[:12]}"
        self.epoch = epoch_key(shard)
        self.expiries = f"{self._prefix}:x"

    def policy(self, tenant_id: UUID) -> str:
        """The tenant's policy version."""
        return f"{self._prefix}:p:{tenant_id.hex}"

    def hold(self, hold_id: UUID) -> str:
        """One hold. The first ten bytes of its id say where it lives, the last six tell its lives apart."""
        return f"{self._prefix}:h:{hold_id.hex[:20]}"

    def counter(self, counter_id: UUID) -> str:
        """One escrow counter."""
        return self.counter_named(counter_id.hex)

    def counter_named(self, name: str) -> str:
        """One escrow counter, by its id in hexadecimal."""
        return f"{self._prefix}:c:{name}"

    def rate(self, counter_id: UUID) -> str:
        """One rate counter (a window of a minute), kept in Redis alone."""
        return f"{self._prefix}:r:{counter_id.hex}"

    def run(self, name: str) -> str:
        """What gateways know of one run, in Redis alone for moments; PostgreSQL has it."""
        return f"{self._prefix}:n:{name}"

    def guard(self, name: str) -> str:
        """What one guard saw of one subject lately: soft, with a TTL."""
        return f"{self._prefix}:g:{name}"

    def pattern(self) -> str:
        """A SCAN pattern for everything of this epoch but the epoch key."""
        return f"{self._prefix}:*".replace("{", "[{]").replace("}", "[}]")


def open_checks_key(tenant_id: UUID, group: str, bucket: int) -> str:
    """The checks of the original client that wait for their event: of one group, placed in one span of time.

    This key and the next carry no epoch: what a planned close of one leaves open is still to be settled.
    """
    return f"{{nb{shard_of(tenant_id):02d}}}:o:{tenant_id.hex}:{group}:{bucket}"


def event_key(tenant_id: UUID, event: str) -> str:
    """What became of one event of the original client."""
    return f"{{nb{shard_of(tenant_id):02d}}}:v:{tenant_id.hex}:{event}"
