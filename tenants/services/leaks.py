"""Keys that somebody found where no key should be: revoked at once, and the tenant's owners are told."""

from __future__ import annotations

import logging
from datetime import datetime

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string

from noburn.kit import ids
from noburn.kit.tenancy import across_tenants
from tenants.domain import api_keys
from tenants.models import ApiKey, Member, Role
from tenants.services.access import digests_of
from tenants.services.keys import revoke_key
from tenants.services.signals import key_leaked

log = logging.getLogger(__name__)

ACTOR = "system:leak-report"
OWNERS_TOLD_MAX = 20
WHERE_CHARS_MAX = 500


@across_tenants()
def report_leak(*, text: str, where: str, now: datetime) -> None:
    """Revokes the key that `text` shows in whole, if there is one; tells nobody who reports whether there was.

    `where` is what the reporter says of where it was found; owners are told it, in one line.
    """
    try:
        digests = digests_of(text)
    except api_keys.BadKey:
        return
    found = ApiKey.objects.select_related("tenant").filter(digest__in=digests).first()
    if found is None or found.revoked_at is not None:
        return
    where = " ".join(where.split())[:WHERE_CHARS_MAX]
    with transaction.atomic():
        revoke_key(tenant_id=found.tenant_id, key_id=found.pk, actor=ACTOR, now=now)
        key_leaked.send(
            sender=None,
            tenant_id=found.tenant_id,
            key=ids.encode(ids.API_KEY, found.pk),
            where=where,
            now=now,
        )
        transaction.on_commit(lambda: _tell_owners(found, where), robust=True)


def _tell_owners(key: ApiKey, where: str) -> None:
    owners = Member.objects.filter(tenant_id=key.tenant_id, role=Role.OWNER).select_related("user")
    addresses = [owner.user.email for owner in owners.order_by("created_at", "pk")[:OWNERS_TOLD_MAX]]
    context = {"key": key, "where": where, "url": f"{settings.BASE_URL}/t/{key.tenant.slug}/keys"}
    text = render_to_string("tenants/leaked_key.txt", context)
    for address in addresses:
        try:
            send_mail(f"An API key of {key.tenant.name} was revoked: it leaked", text, None, [address])
        except OSError:
            # It is revoked all the same, in the audit log, and an alert.
            log.warning("an owner of tenant %s could not be told of a leak", key.tenant_id, exc_info=True)
