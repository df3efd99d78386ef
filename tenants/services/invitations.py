"""Tells a new member by e-mail that they are one, and lets a new person choose a password."""

from __future__ import annotations

import logging

from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse

from tenants.models import Member

log = logging.getLogger(__name__)


def send_invitation(*, member: Member, by: str) -> bool:
    """Sends it, after the change was committed; returns whether the mail server took it.

    Who has a password is led to the tenant. A new person is led to where they choose one, by the same kind of link
    as for a forgotten one: it works once and for three days, and after that "forgotten password" does.
    """
    user, tenant = member.user, member.tenant
    if user.has_usable_password():
        path = reverse("dashboard:landing", kwargs={"tenant": tenant.slug})
    else:
        key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
        path = reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})
        path = path.replace("UID-KEY", key)
    text = render_to_string(
        "tenants/invitation.txt",
        {
            "tenant": tenant,
            "by": by,
            "role": member.role,
            "is_new": not user.has_usable_password(),
            "url": f"{settings.BASE_URL}{path}",
        },
    )
    try:
        send_mail(f"You are invited to {tenant.name} on noburn", text, None, [user.email])
    except OSError:
        # The membership holds all the same, and the person gets in by "forgotten password".
        log.warning("an invitation of tenant %s could not be sent", tenant.pk, exc_info=True)
        return False
    return True
