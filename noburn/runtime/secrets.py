"""The installation's secrets: from the environment, else made once and kept in NOBURN_HOME/secrets.json."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import Fernet

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.locks import exclusive

KEY_BYTES_MIN = 32


@dataclass(frozen=True)
class Secrets:
    """Django's secret key, the pepper of API keys, the keys that sign authorizations by key id, and those that seal.

    `encryption_keys` are Fernet's; the first seals what is stored, all of them open it. Keys are also found by
    `pepper_previous`, while there is one. Ids of holds and runs are derived with `id_key`, which never changes: a
    repeated request must find what the first one made.
    """

    secret_key: str = field(repr=False)
    pepper: bytes = field(repr=False)
    signing_keys: dict[str, bytes] = field(repr=False)
    signing_kid: str
    encryption_keys: tuple[str, ...] = field(repr=False)
    pepper_previous: bytes | None = field(default=None, repr=False)
    id_key: bytes = field(default=b"", repr=False)

    def environment(self) -> dict[str, str]:
        """Returns the variables by which a child process gets the same secrets."""
        return {
            "SECRET_KEY": self.secret_key,
            "NOBURN_PEPPER": self.pepper.hex(),
            "NOBURN_SIGNING_KEYS": json.dumps({kid: key.hex() for kid, key in self.signing_keys.items()}),
            "NOBURN_SIGNING_KID": self.signing_kid,
            "NOBURN_ENCRYPTION_KEYS": ",".join(self.encryption_keys),
            "NOBURN_PEPPER_PREVIOUS": self.pepper_previous.hex() if self.pepper_previous else "",
            "NOBURN_ID_KEY": (self.id_key or self.pepper).hex(),
        }


def load_secrets(
    home: Home,
    *,
    secret_key: str,
    pepper_hex: str,
    signing_keys_json: str,
    signing_kid: str,
    encryption_keys_csv: str,
    pepper_previous_hex: str = "",
    id_key_hex: str = "",
) -> Secrets:
    """Returns the secrets; an empty argument is taken from the home's file, which is made when missing.

    Peppers and signing keys are hexadecimal, at least 32 bytes each; `signing_kid` is the file's, or the last key's id,
    when empty; encryption keys are separated by commas. Without an id key it is the older of the two peppers. Raises
    RuntimeProblem with every fault at once.
    """
    stored: dict[str, Any] = {}
    faults: list[str] = []
    if not (secret_key and pepper_hex and signing_keys_json):
        stored = _stored(home)
    elif not encryption_keys_csv:
        # Made here, it would differ on the next machine, which could then not open what this one sealed.
        faults.append("NOBURN_ENCRYPTION_KEYS must come from the environment, as the other secrets do")
    try:
        keys_hex = json.loads(signing_keys_json) if signing_keys_json else stored["signing_keys"]
    except ValueError:
        keys_hex = None
    if not isinstance(keys_hex, dict) or not keys_hex:
        faults.append('NOBURN_SIGNING_KEYS must be JSON such as {"k1": "64 hexadecimal digits"}')
        keys_hex = {}
    pepper = _key("NOBURN_PEPPER", pepper_hex or str(stored.get("pepper", "")), faults)
    keys = {str(kid): _key(f"NOBURN_SIGNING_KEYS[{kid}]", str(key), faults) for kid, key in keys_hex.items()}
    if not signing_kid and not signing_keys_json:
        signing_kid = str(stored.get("signing_kid", ""))
    kid = signing_kid or (list(keys)[-1] if keys else "")
    # What belongs to a pepper comes from where the pepper does.
    beside = {} if pepper_hex else stored
    previous_hex = pepper_previous_hex or str(beside.get("pepper_previous", ""))
    previous = _key("NOBURN_PEPPER_PREVIOUS", previous_hex, faults) if previous_hex else None
    id_key_hex = id_key_hex or str(beside.get("id_key", ""))
    id_key = _key("NOBURN_ID_KEY", id_key_hex, faults) if id_key_hex else previous or pepper
    if keys and kid not in keys:
        faults.append(f"NOBURN_SIGNING_KID names {kid!r}, which NOBURN_SIGNING_KEYS does not hold")
    sealing = tuple(filter(None, encryption_keys_csv.split(","))) or tuple(stored.get("encryption_keys", ()))
    for number, key in enumerate(sealing):
        _check_fernet(f"NOBURN_ENCRYPTION_KEYS[{number}]", key, faults)
    if faults:
        raise RuntimeProblem("noburn's secrets are not usable: " + "; ".join(faults) + ".")
    return Secrets(secret_key or str(stored["secret_key"]), pepper, keys, kid, sealing, previous, id_key)


def _key(name: str, digits: str, faults: list[str]) -> bytes:
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES_MIN:
        faults.append(
            f"{name} must be at least {2 * KEY_BYTES_MIN} hexadecimal digits (openssl rand -hex 32)"
        )
    return key


def _check_fernet(name: str, key: object, faults: list[str]) -> None:
    try:
        Fernet(str(key))
    except ValueError:
        faults.append(f"{name} must be 32 bytes in URL-safe base64 (openssl rand -base64 32 | tr '+/' '-_')")


def _stored(home: Home) -> dict[str, Any]:
    if not home.secrets.exists():
        home.create()
        with exclusive(home.path / "secrets.lock"):
            if not home.secrets.exists():
                _write_new(home)
    try:
        stored = json.loads(home.secrets.read_text())
        if {"secret_key", "pepper", "signing_keys"} <= stored.keys():
            return stored if stored.get("encryption_keys") else _with_encryption_keys(home)
    except (OSError, ValueError, AttributeError):
        pass
    # Never replaced by itself: with another pepper every API key of the database would stop working.
    raise RuntimeProblem(
        f"{home.secrets} cannot be read. Restore it from a backup; without it API keys are lost."
    )


def _with_encryption_keys(home: Home) -> dict[str, Any]:
    """Adds what a home of an earlier version lacks: nothing can have been sealed there yet."""
    with exclusive(home.path / "secrets.lock"):
        stored: dict[str, Any] = json.loads(home.secrets.read_text())
        if not stored.get("encryption_keys"):
            stored["encryption_keys"] = [Fernet.generate_key().decode()]
            write_secrets(home, stored)
    return stored


def _write_new(home: Home) -> None:
    fresh: dict[str, Any] = {
        "secret_key": secrets.token_urlsafe(48),
        "pepper": secrets.token_hex(KEY_BYTES_MIN),
        "signing_keys": {"k1": secrets.token_hex(KEY_BYTES_MIN)},
        "encryption_keys": [Fernet.generate_key().decode()],
    }
    write_secrets(home, fresh)


def write_secrets(home: Home, content: dict[str, Any]) -> None:
    partial = home.secrets.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(home.secrets)
