"""Secrets that must be stored and read again: sealed with keys that live outside the database."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class Unreadable(Exception):
    """A sealed text that none of the keys opens: the keys are not those of the installation that sealed it."""


class Sealer:
    """Seals with the first key, opens with any: put a new key first, and seal again what is stored.

    Keys are Fernet's: 32 bytes in URL-safe base64. Raises ValueError for another form.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        fernets = [Fernet(key) for key in keys]
        self._newest, self._fernet = fernets[0], MultiFernet(fernets)

    def seal(self, text: str) -> str:
        """Returns the text encrypted and authenticated; the same text looks different every time."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Returns the text. Raises Unreadable."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise Unreadable("no key of NOBURN_ENCRYPTION_KEYS opens this") from None

    def is_newest(self, sealed: str) -> bool:
        """Whether the first key opens a text."""
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            return False
        return True

    def reseal(self, sealed: str) -> str:
        """Returns the same text sealed with the first key. Raises Unreadable."""
        try:
            return self._fernet.rotate(sealed).decode()
        except InvalidToken:
            raise Unreadable("no key of NOBURN_ENCRYPTION_KEYS opens this") from None
