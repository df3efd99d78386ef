"""Secrets are made once, kept private, and never replaced behind anybody's back."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.secrets import Secrets, load_secrets


def load(home: Home, **given: str) -> Secrets:
    empty = {"secret_key": "", "pepper_hex": "", "signing_keys_json": "", "signing_kid": ""}
    empty["encryption_keys_csv"] = ""
    return load_secrets(home, **{**empty, **given})


class TestLoadSecrets:
    def test_makes_them_once(self, home: Home) -> None:
        first = load(home)
        assert load(home) == first
        assert home.secrets.stat().st_mode & 0o777 == 0o600

    def test_prefers_the_environment(self, home: Home) -> None:
        keys = {"a": "11" * 32, "b": "22" * 32}
        sealing = f"{Fernet.generate_key().decode()},{Fernet.generate_key().decode()}"
        found = load(
            home,
            secret_key="s",
            pepper_hex="33" * 32,
            signing_keys_json=json.dumps(keys),
            encryption_keys_csv=sealing,
        )
        signing = {"a": b"\x11" * 32, "b": b"\x22" * 32}
        assert found == Secrets(
            "s", b"\x33" * 32, signing, "b", tuple(sealing.split(",")), None, b"\x33" * 32
        )
        assert not home.secrets.exists()

    def test_are_not_shown(self, home: Home) -> None:
        found = load(home)
        for secret in (found.secret_key, found.pepper, *found.signing_keys.values(), *found.encryption_keys):
            assert str(secret) not in repr(found)

    def test_gives_children_the_same(self, home: Home) -> None:
        given = load(home).environment()
        again = load_secrets(
            Home.at(home.path / "other"),
            secret_key=given["SECRET_KEY"],
            pepper_hex=given["NOBURN_PEPPER"],
            signing_keys_json=given["NOBURN_SIGNING_KEYS"],
            signing_kid=given["NOBURN_SIGNING_KID"],
            encryption_keys_csv=given["NOBURN_ENCRYPTION_KEYS"],
        )
        assert again == load(home)

    def test_names_every_fault_at_once(self, home: Home) -> None:
        with pytest.raises(RuntimeProblem) as raised:
            load(
                home,
                secret_key="s",
                pepper_hex="short",
                signing_keys_json='{"a": "11"}',
                signing_kid="z",
                encryption_keys_csv="x",
            )
        names = ("NOBURN_PEPPER", "NOBURN_SIGNING_KEYS[a]", "NOBURN_SIGNING_KID", "NOBURN_ENCRYPTION_KEYS[0]")
        for name in names:
            assert name in str(raised.value)

    def test_adds_what_an_earlier_version_did_not_make(self, home: Home) -> None:
        first = load(home)
        stored = json.loads(home.secrets.read_text())
        del stored["encryption_keys"]
        home.secrets.write_text(json.dumps(stored))
        second = load(home)
        assert (second.pepper, second.signing_keys) == (first.pepper, first.signing_keys)
        assert second == load(home) != first

    def test_refuses_a_damaged_file_instead_of_replacing_it(self, home: Home) -> None:
        load(home)
        home.secrets.write_text("{")
        with pytest.raises(RuntimeProblem, match="Restore it from a backup"):
            load(home)
        assert home.secrets.read_text() == "{"
