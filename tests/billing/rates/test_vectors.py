from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from billing.domain.charging import Stretch, Use, charge
from billing.domain.rate_card_reading import read_terms
from billing.domain.rate_cards import Unit
from tests.billing.rates.cards import version

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "rate-cards.json").read_text())


def uses(stretch: dict[str, dict[str, int]]) -> dict[tuple[str, str], Use]:
    found = {}
    for model, counts in stretch.items():
        provider, _, name = model.partition("/")
        units = {Unit(word): count for word, count in counts.items() if word != "cost"}
        found[provider, name] = Use(cost_nano=counts.get("cost", 0), units=units)
    return found


class TestRateCardVectors:
    @pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
    def test_are_charged(self, case: dict[str, Any]) -> None:
        versions = [
            None if terms is None else version(read_terms(terms), number)
            for number, terms in enumerate(case["terms"], 1)
        ]
        found = charge(
            [
                Stretch(version=held, uses=uses(used))
                for held, used in zip(versions, case["use"], strict=True)
            ],
            final=versions[-1] if case.get("whole_period") else None,
        )
        assert found.total_nano == case["total"]
        assert sum(line.charge_nano for line in found.lines) == case["total"]
