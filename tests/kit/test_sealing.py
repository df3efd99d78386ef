"""What is sealed can be opened by the keys of the installation, and by nothing else."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from noburn.kit.sealing import Sealer, Unreadable

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


class TestSealer:
    def test_opens_what_it_sealed(self) -> None:
        sealed = Sealer([OLD]).seal("whsec_x")
        assert "whsec" not in sealed
        assert Sealer([OLD]).open(sealed) == "whsec_x"

    def test_opens_what_an_earlier_key_sealed(self) -> None:
        sealed = Sealer([OLD]).seal("whsec_x")
        assert Sealer([NEW, OLD]).open(sealed) == "whsec_x"

    def test_seals_again_with_the_first_key(self) -> None:
        again = Sealer([NEW, OLD]).reseal(Sealer([OLD]).seal("whsec_x"))
        assert Sealer([NEW]).open(again) == "whsec_x"

    def test_opens_nothing_of_another_installation(self) -> None:
        sealed = Sealer([OLD]).seal("whsec_x")
        for attempt in (Sealer([NEW]).open, Sealer([NEW]).reseal):
            with pytest.raises(Unreadable):
                attempt(sealed)
        with pytest.raises(Unreadable):
            Sealer([OLD]).open(sealed[:-4] + "AAAA")
