"""What an API key looks like: `nb_live_`, 32 random characters, and 6 that check the others.

A misspelled or made-up key is told by its checksum, before anything is looked up. Only a keyed digest of a
key is ever stored: HMAC-SHA256 is enough, since 190 random bits need no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

PREFIX: Final = "nb_live_"
SECRET_LENGTH: Final = 32
CHECKSUM_LENGTH: Final = 6
LENGTH: Final = len(PREFIX) + SECRET_LENGTH + CHECKSUM_LENGTH
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LETTERS: Final = frozenset(_ALPHABET)


class BadKey(ValueError):
    """The text is not an API key: wrong start, length, letters or checksum."""


class Shown(NamedTuple):
    """The parts of a key that may be stored and shown, so that a person can tell keys apart."""

    prefix: str
    last4: str


def _checksum(head: str) -> str:
    number = zlib.crc32(head.encode("ascii"))
    letters = []
    for _ in range(CHECKSUM_LENGTH):
        number, letter = divmod(number, 62)
        letters.append(_ALPHABET[letter])
    return "".join(reversed(letters))


def generate(rng: random.Random) -> str:
    """Makes a key; `rng` must be `random.SystemRandom()` outside tests."""
    head = PREFIX + "".join(rng.choice(_ALPHABET) for _ in range(SECRET_LENGTH))
    return head + _checksum(head)


def parse(text: str) -> str:
    """Returns `text` when it is spelled like a key. Raises BadKey, without a look at any other data."""
    if len(text) != LENGTH or not text.startswith(PREFIX) or not _LETTERS.issuperset(text[len(PREFIX) :]):
        raise BadKey(f"an API key is {PREFIX} and {SECRET_LENGTH + CHECKSUM_LENGTH} letters or digits")
    head = text[:-CHECKSUM_LENGTH]
    if _checksum(head) != text[-CHECKSUM_LENGTH:]:
        raise BadKey("the API key is misspelled: its checksum does not match")
    return text


def digest(pepper: bytes, key: str) -> bytes:
    """Returns the 32 bytes by which a key is found. Raises BadKey for text that no key can be."""
    try:
        return hmac.digest(pepper, key.encode("ascii"), "sha256")
    except UnicodeEncodeError:
        raise BadKey("an API key is plain ASCII") from None


def digests(peppers: Sequence[bytes], text: str) -> tuple[bytes, ...]:
    """Returns the digests by which a key may be stored, one a pepper. Raises BadKey."""
    key = parse(text)
    return tuple(digest(pepper, key) for pepper in peppers)


def pepper_id(pepper: bytes) -> str:
    """Returns the name by which a pepper is told from others, and which says nothing of it."""
    return hashlib.sha256(b"noburn pepper|" + pepper).hexdigest()[:8]


def shown(key: str) -> Shown:
    """Returns the first characters after the fixed start, and the last four."""
    return Shown(key[: len(PREFIX) + 4], key[-4:])
