"""What a gateway needs to know at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class GatewayConfig:
    """Where PostgreSQL (gateway role) and Redis are, the secrets, and the public address for problem types."""

    database_url: str
    redis_url: str
    pepper: bytes
    signing_keys: Mapping[str, bytes]
    signing_kid: str
    base_url: str
