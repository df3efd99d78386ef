"""The installation's secrets: from the environment, else made once and kept in NOBURN_HOME/secrets.json."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from typing import Any

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.locks import exclusive

KEY_BYTES_MIN = 32


@dataclass(frozen=True)
class Secrets:
    """Django's secret key, the pepper of API keys, and the keys that sign authorizations, by key id."""

    secret_key: str
    pepper: bytes
    signing_keys: dict[str, bytes]
    signing_kid: str

    def environment(self) -> dict[str, str]:
        """Returns the variables by which a child process gets the same secrets."""
        return {
            "SECRET_KEY": self.secret_key,
            "NOBURN_PEPPER": self.pepper.hex(),
            "NOBURN_SIGNING_KEYS": json.dumps({kid: key.hex() for kid, key in self.signing_keys.items()}),
            "NOBURN_SIGNING_KID": self.signing_kid,
        }


def load_secrets(
    home: Home, *, secret_key: str, pepper_hex: str, signing_keys_json: str, signing_kid: str
) -> Secrets:
    """Returns the secrets; an empty argument is taken from the home's file, which is made when missing.

    Pepper and signing keys are hexadecimal, at least 32 bytes each; `signing_kid` is the last key's id when
    empty. Raises RuntimeProblem with every fault at once.
    """
    stored: dict[str, Any] = {}
    if not (secret_key and pepper_hex and signing_keys_json):
        stored = _stored(home)
    faults: list[str] = []
    try:
        keys_hex = json.loads(signing_keys_json) if signing_keys_json else stored["signing_keys"]
    except ValueError:
        keys_hex = None
    if not isinstance(keys_hex, dict) or not keys_hex:
        faults.append('NOBURN_SIGNING_KEYS must be JSON such as {"k1": "64 hexadecimal digits"}')
        keys_hex = {}
    pepper = _key("NOBURN_PEPPER", pepper_hex or str(stored.get("pepper", "")), faults)
    keys = {str(kid): _key(f"NOBURN_SIGNING_KEYS[{kid}]", str(key), faults) for kid, key in keys_hex.items()}
    kid = signing_kid or (list(keys)[-1] if keys else "")
    if keys and kid not in keys:
        faults.append(f"NOBURN_SIGNING_KID names {kid!r}, which NOBURN_SIGNING_KEYS does not hold")
    if faults:
        raise RuntimeProblem("noburn's secrets are not usable: " + "; ".join(faults) + ".")
    return Secrets(secret_key or str(stored["secret_key"]), pepper, keys, kid)


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


def _stored(home: Home) -> dict[str, Any]:
    if not home.secrets.exists():
        home.create()
        with exclusive(home.path / "secrets.lock"):
            if not home.secrets.exists():
                _write_new(home)
    try:
        stored = json.loads(home.secrets.read_text())
        if {"secret_key", "pepper", "signing_keys"} <= stored.keys():
            return dict(stored)
    except (OSError, ValueError, AttributeError):
        pass
    # Never replaced by itself: with another pepper every API key of the database would stop working.
    raise RuntimeProblem(
        f"{home.secrets} cannot be read. Restore it from a backup; without it API keys are lost."
    )


def _write_new(home: Home) -> None:
    fresh = {
        "secret_key": secrets.token_urlsafe(48),
        "pepper": secrets.token_hex(KEY_BYTES_MIN),
        "signing_keys": {"k1": secrets.token_hex(KEY_BYTES_MIN)},
    }
    partial = home.secrets.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(fresh, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(home.secrets)
