"""Secrets are renewed step by step, and at no step is anything lost that is still needed."""

from __future__ import annotations

import json

import pytest

from noburn.runtime import rotation
from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.secrets import Secrets, load_secrets


def load(home: Home) -> Secrets:
    return load_secrets(
        home, secret_key="", pepper_hex="", signing_keys_json="", signing_kid="", encryption_keys_csv=""
    )


class TestSigningKeys:
    def test_verify_before_they_sign_and_are_dropped_last(self, home: Home) -> None:
        first = load(home)
        kid = rotation.add_signing_key(home)
        added = load(home)
        assert (added.signing_kid, set(added.signing_keys)) == ("k1", {"k1", kid})
        with pytest.raises(RuntimeProblem, match="is the key that signs"):
            rotation.drop_signing_key(home, "k1")
        rotation.use_signing_key(home, kid)
        used = load(home)
        assert used.signing_kid == kid
        assert used.signing_keys["k1"] == first.signing_keys["k1"]
        with pytest.raises(RuntimeProblem, match="is the key that signs"):
            rotation.drop_signing_key(home, kid)
        rotation.drop_signing_key(home, "k1")
        assert set(load(home).signing_keys) == {kid}
        for step in (rotation.use_signing_key, rotation.drop_signing_key):
            with pytest.raises(RuntimeProblem, match="There is no signing key 'k9'"):
                step(home, "k9")

    def test_never_share_an_id(self, home: Home) -> None:
        load(home)
        seen = {"k1"}
        for _ in range(4):
            kid = rotation.add_signing_key(home)
            assert kid not in seen
            seen.add(kid)
            before = load(home).signing_kid
            rotation.use_signing_key(home, kid)
            rotation.drop_signing_key(home, before)


class TestPeppers:
    def test_are_two_for_a_while(self, home: Home) -> None:
        first = load(home)
        assert (first.pepper_previous, first.id_key) == (None, first.pepper)
        rotation.add_pepper(home)
        second = load(home)
        assert second.pepper_previous == first.pepper != second.pepper
        # Ids are derived as before, then and for ever.
        assert second.id_key == first.pepper
        with pytest.raises(RuntimeProblem, match="drop it before"):
            rotation.add_pepper(home)
        rotation.drop_pepper(home)
        third = load(home)
        assert (third.pepper, third.pepper_previous, third.id_key) == (second.pepper, None, first.pepper)
        rotation.add_pepper(home)
        assert load(home).id_key == first.pepper
        with_nothing_to_drop = load(home).environment()
        assert with_nothing_to_drop["NOBURN_ID_KEY"] == first.pepper.hex()

    def test_pass_to_children_whole(self, home: Home) -> None:
        load(home)
        rotation.add_pepper(home)
        told = load(home).environment()
        again = load_secrets(
            Home.at(home.path / "other"),
            secret_key=told["SECRET_KEY"],
            pepper_hex=told["NOBURN_PEPPER"],
            signing_keys_json=told["NOBURN_SIGNING_KEYS"],
            signing_kid=told["NOBURN_SIGNING_KID"],
            encryption_keys_csv=told["NOBURN_ENCRYPTION_KEYS"],
            pepper_previous_hex=told["NOBURN_PEPPER_PREVIOUS"],
            id_key_hex=told["NOBURN_ID_KEY"],
        )
        assert again == load(home)


class TestEncryptionKeys:
    def test_come_first_and_leave_the_others(self, home: Home) -> None:
        first = load(home).encryption_keys
        rotation.add_encryption_key(home)
        second = load(home).encryption_keys
        assert second[1:] == first
        assert second[0] not in first
        rotation.drop_encryption_keys(home)
        assert load(home).encryption_keys == second[:1]


class TestEnvironment:
    def test_is_not_behind_the_file_s_back(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        load(home)
        before = json.loads(home.secrets.read_text())
        for variable, step in (
            ("NOBURN_SIGNING_KEYS", rotation.add_signing_key),
            ("NOBURN_PEPPER", rotation.add_pepper),
            ("NOBURN_ENCRYPTION_KEYS", rotation.add_encryption_key),
        ):
            monkeypatch.setenv(variable, "x")
            with pytest.raises(RuntimeProblem, match=f"{variable} comes from the environment"):
                step(home)
        assert json.loads(home.secrets.read_text()) == before
        assert home.secrets.stat().st_mode & 0o777 == 0o600
