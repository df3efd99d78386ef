"""Second factors: who has one, and how their secrets lie in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings

from noburn.kit.sealing import Sealer
from tenants.models import User

FERNET_START = "gAAAA"
"""How every sealed text begins: Fernet's version and the first bytes of a time of this century."""


def has_second_factor(user: User) -> bool:
    """Whether signing in asks this person for a second factor."""
    return bool(Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.TOTP).exists())


class SealedAuthenticators(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """Keeps what second factors are checked by as every other secret is kept: sealed."""

    def encrypt(self, text: str) -> str:
        """Seals it."""
        return _sealer().seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """Opens it; what was stored before secrets of second factors were sealed is itself. Raises Unreadable."""
        if not encrypted_text.startswith(FERNET_START):
            return encrypted_text
        return _sealer().open(encrypted_text)


def over_secrets(data: Any, seal: Callable[[str], str]) -> Any:
    """What a second factor is checked by, with every secret in it sealed by `seal`: also one that was never sealed."""

    def anew(kept: str) -> str:
        return seal(kept if kept.startswith(FERNET_START) else _sealer().seal(kept))

    return {
        name: anew(value)
        if name in ("secret", "seed")
        else [anew(code) for code in value]
        if name == "migrated_codes"
        else value
        for name, value in data.items()
    }


def _sealer() -> Sealer:
    return Sealer(settings.NOBURN_ENCRYPTION_KEYS)
