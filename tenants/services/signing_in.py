"""How people sign up and in: what django-allauth asks of us."""

from __future__ import annotations

from typing import Any, cast

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.http import HttpRequest, HttpResponse

from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.models import User
from tenants.services.founding import signup_open


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Strangers sign up where the installation is open to them; the invited have an account already."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Whether strangers may sign up."""
        return signup_open()

    def new_user(self, request: HttpRequest) -> User:
        """A person who is not saved yet, with an id of the time."""
        now = utc_now()
        return User(id=ids.new_uuid(now), created_at=now)

    def pre_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse | None:
        """Takes an operator's address for confirmed: who made the operator, on the machine itself, vouched for it.

        One who signed up like everybody has an address of record, and confirms it like everybody.
        """
        if user.is_staff and not EmailAddress.objects.filter(user=user).exists():
            EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        return cast("HttpResponse | None", super().pre_login(request, user, **kwargs))

    def clean_email(self, email: str) -> str:
        """Addresses are kept in lower case."""
        return cast(str, super().clean_email(email)).strip().lower()


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Signing up through somebody else follows the same rule."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Whether strangers may sign up."""
        return signup_open()
