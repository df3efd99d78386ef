"""What was done to a thing, by whom, for the pages about it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from tenants.dashboard.page import TenantPage
from tenants.domain.roles import READABLE, Topic
from tenants.models import AuditEntry
from tenants.queries.actors import actor_names
from tenants.queries.audit import history

ENTRIES: Final = 20


def history_of(page: TenantPage, wire: str, *, since: datetime) -> list[dict[str, Any]] | None:
    """The newest entries of the audit log about an object; None for those who may not read the log.

    Each has `at`, `who`, `action`, `after`, and `changes`: names with what they were and became.
    """
    assert page.access.role is not None
    if Topic.AUDIT not in READABLE[page.access.role]:
        return None
    entries = history(tenant_id=page.tenant_id, object=wire, since=since, before=None, limit=ENTRIES)
    names = actor_names(tenant_id=page.tenant_id, actors=[entry.actor for entry in entries])
    return [
        {
            "at": entry.at,
            "who": names.get(entry.actor, entry.actor),
            "action": entry.action,
            "after": entry.after or {},
            "changes": _changes(entry),
        }
        for entry in entries
    ]


def _changes(entry: AuditEntry) -> list[tuple[str, Any, Any]]:
    before, after = entry.before or {}, entry.after or {}
    return [
        (name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
