"""Has a tenant's destinations told of a key that leaked and was revoked."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from alerts.services.alerts import NewAlert, raise_and_list


def on_key_leaked(*, tenant_id: UUID, key: str, where: str, now: datetime, **_: Any) -> None:
    """Receives tenancy's `key_leaked`."""
    raise_and_list(
        alerts=[
            NewAlert(
                tenant_id=tenant_id,
                kind="api_key_leaked",
                dedupe_key=f"api_key_leaked:{key}",
                subject=key,
                details={"key": key, "found": where or None},
            )
        ],
        now=now,
    )
