"""Who an actor of the audit log is, in words that people know."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from noburn.kit import ids
from tenants.models import ApiKey, Member

KINDS = {"user": ids.MEMBER, "key": ids.API_KEY}


def actor_names(*, tenant_id: UUID, actors: Iterable[str]) -> dict[str, str]:
    """Returns e-mail addresses of members and names of keys, by actor; who is neither, or gone, is left out.

    `actors` are those of one page: each kind takes one query.
    """
    wanted: dict[str, dict[UUID, str]] = {kind: {} for kind in KINDS}
    for actor in set(actors):
        kind, _, text = actor.partition(":")
        if kind in KINDS:
            try:
                wanted[kind][ids.decode(KINDS[kind], text)] = actor
            except ids.BadId:
                continue
    names: dict[str, str] = {}
    if members := wanted["user"]:
        found = Member.objects.filter(tenant_id=tenant_id, pk__in=members).values_list("pk", "user__email")
        names |= {members[pk]: email for pk, email in found}
    if keys := wanted["key"]:
        issued = ApiKey.objects.filter(tenant_id=tenant_id, pk__in=keys).values_list("pk", "name")
        names |= {keys[pk]: f"key “{name}”" for pk, name in issued}
    return names
