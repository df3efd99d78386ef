"""What tenancy tells the apps above it, without knowing them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.dispatch import Signal

policy_changed = Signal()
"""Sent inside the transaction of a change that gateways must know: `tenant_id` (UUID), `now` (aware).

An exception of a receiver undoes the change: a revoked key that no gateway hears of would be no revocation.
"""


time_zone_changed = Signal()
"""Sent inside the transaction of a tenant's move to another time zone: `tenant_id` (UUID), `now` (aware).

Windows begin and end elsewhere from then on. An exception of a receiver undoes the change.
"""

key_leaked = Signal()
"""Sent inside the transaction in which a reported key is revoked: `tenant_id` (UUID), `key` (its wire id), `where` (one
line, the reporter's words), `now` (aware).
"""


def tell_policy_changed(*, tenant_id: UUID, now: datetime) -> None:
    """Sends `policy_changed`; called last in a transaction, when every row is written."""
    policy_changed.send(sender=None, tenant_id=tenant_id, now=now)
