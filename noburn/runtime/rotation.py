"""New secrets beside the old ones, in NOBURN_HOME/secrets.json; docs/operations.md says when each step is taken.

What comes from the environment is changed there: each step then raises RuntimeProblem, with what to set.
"""

from __future__ import annotations

import json
import os
import secrets as random
from collections.abc import Callable
from typing import Any

from cryptography.fernet import Fernet

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.locks import exclusive
from noburn.runtime.secrets import KEY_BYTES_MIN, write_secrets

Stored = dict[str, Any]


def add_signing_key(home: Home) -> str:
    """Makes a key that verifies and does not sign yet; returns its id."""
    fresh = random.token_hex(KEY_BYTES_MIN)

    def add(stored: Stored) -> str:
        keys: dict[str, str] = stored["signing_keys"]
        stored.setdefault("signing_kid", list(keys)[-1])
        # Never an id that was given before: an old authorization must not meet another key under its own.
        number = int(stored.get("signing_keys_made", len(keys))) + 1
        while (kid := f"k{number}") in keys:
            number += 1
        keys[kid], stored["signing_keys_made"] = fresh, number
        return kid

    return str(_changed(home, "NOBURN_SIGNING_KEYS", f'add another key to it, such as "{fresh}"', add))


def use_signing_key(home: Home, kid: str) -> None:
    """Has a key sign from the next start on. Raises RuntimeProblem for one that there is not."""

    def use(stored: Stored) -> None:
        if kid not in stored["signing_keys"]:
            raise RuntimeProblem(
                f"There is no signing key {kid!r}; there are {', '.join(stored['signing_keys'])}."
            )
        stored["signing_kid"] = kid

    _changed(home, "NOBURN_SIGNING_KEYS", f"set NOBURN_SIGNING_KID={kid}", use)


def drop_signing_key(home: Home, kid: str) -> None:
    """Forgets a key: what it signed can be neither settled nor voided. Raises RuntimeProblem for the one used."""

    def drop(stored: Stored) -> None:
        keys: dict[str, str] = stored["signing_keys"]
        if kid not in keys:
            raise RuntimeProblem(f"There is no signing key {kid!r}; there are {', '.join(keys)}.")
        if kid == stored.get("signing_kid", list(keys)[-1]):
            raise RuntimeProblem(f"{kid!r} is the key that signs; let another one sign first.")
        del keys[kid]

    _changed(home, "NOBURN_SIGNING_KEYS", f"take {kid} out of it", drop)


def add_pepper(home: Home) -> None:
    """Makes the pepper of new API keys; the present one's go on working. Raises RuntimeProblem during a rotation."""
    fresh = random.token_hex(KEY_BYTES_MIN)

    def add(stored: Stored) -> None:
        if stored.get("pepper_previous"):
            raise RuntimeProblem("There is a previous pepper already: drop it before the next one.")
        stored.setdefault("id_key", stored["pepper"])
        stored["pepper_previous"], stored["pepper"] = stored["pepper"], fresh

    say = (
        "set NOBURN_ID_KEY (unless it is set) and NOBURN_PEPPER_PREVIOUS to the present pepper, "
        f"and NOBURN_PEPPER={fresh}"
    )
    _changed(home, "NOBURN_PEPPER", say, add)


def drop_pepper(home: Home) -> None:
    """Forgets the previous pepper: API keys under it end."""

    def drop(stored: Stored) -> None:
        if not stored.pop("pepper_previous", None):
            raise RuntimeProblem("There is no previous pepper.")

    _changed(home, "NOBURN_PEPPER", "unset NOBURN_PEPPER_PREVIOUS", drop)


def add_encryption_key(home: Home) -> None:
    """Makes the key that seals from the next start on; the others go on opening."""
    fresh = Fernet.generate_key().decode()

    def add(stored: Stored) -> None:
        stored["encryption_keys"].insert(0, fresh)

    _changed(home, "NOBURN_ENCRYPTION_KEYS", f"put {fresh} first", add)


def drop_encryption_keys(home: Home) -> None:
    """Forgets every key but the one that seals."""

    def drop(stored: Stored) -> None:
        del stored["encryption_keys"][1:]

    _changed(home, "NOBURN_ENCRYPTION_KEYS", "leave only its first key", drop)


def _changed(home: Home, variable: str, instead: str, change: Callable[[Stored], Any]) -> Any:
    if os.environ.get(variable):
        raise RuntimeProblem(f"{variable} comes from the environment: {instead}, on every machine.")
    with exclusive(home.path / "secrets.lock"):
        stored: Stored = json.loads(home.secrets.read_text())
        result = change(stored)
        write_secrets(home, stored)
    return result
