"""What a gateway needs to know at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GatewayConfig:
    """Where PostgreSQL (gateway role) and Redis are, the secrets, and the public address for problem types."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    pepper: bytes = field(repr=False)
    signing_keys: Mapping[str, bytes] = field(repr=False)
    signing_kid: str
    base_url: str
    pepper_previous: bytes | None = field(default=None, repr=False)
    """A second pepper by which keys are found: the last one, or the next."""
    id_key: bytes = field(default=b"", repr=False)
    """What ids of holds and runs are derived with; the pepper where it is empty."""
    calls_per_second: int = 10_000
    """Of a tenant that has no rate of its own; each process counts for itself."""
    key_calls_per_second: int = 10_000
    wrong_keys_per_minute: int = 600
    """How many keys that nobody knows may come from one address."""
    trusted_proxies: int = 0
    """How many proxies in front add to X-Forwarded-For."""

    @property
    def derives_ids(self) -> bytes:
        """What ids of holds and runs are derived with."""
        return self.id_key or self.pepper
