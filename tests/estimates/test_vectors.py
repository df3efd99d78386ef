"""The shared vectors of estimates: worked out by hand from published rules, for every language to hold to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from noburn_sdk import InvalidRequestError, _ranks, estimate

VECTORS = Path(__file__).parents[1] / "vectors"
FILES = sorted(VECTORS.glob("estimates-*.json"))
CASES = [
    pytest.param(case, id=f"{file.stem.removeprefix('estimates-')}: {case['name']}")
    for file in FILES
    for case in json.loads(file.read_text(encoding="utf-8"))["cases"]
]


def expanded(value: Any) -> Any:
    """Returns a body with its repeated texts written out."""
    if isinstance(value, list):
        return [expanded(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$repeat" in value:
        text, times = value["$repeat"]
        return value.get("before", "") + text * times
    return {name: expanded(one) for name, one in value.items()}


def asked(case: dict[str, Any]) -> dict[str, Any]:
    """Returns the options as this language takes them."""
    options = dict(case.get("options", {}))
    if "rates" in options:
        options["rates"] = estimate.Rates(
            "m", options["rates"]["units"], options["rates"].get("variants", {})
        )
    return options


def told(found: estimate.Estimate) -> dict[str, Any]:
    """Returns what an estimate says, under the names of the vectors."""
    said = {name: getattr(found, name) for name in vars(found)} | {
        name: getattr(found, name) for name in ("output_tokens", "complete", "how")
    }
    said["tools"] = dict(found.tools)
    said["parts"] = {}
    for part in found.parts:
        said["parts"][part.kind] = said["parts"].get(part.kind, 0) + part.tokens
    return said


def differences(said: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    for name, wanted in expected.items():
        field, _, edge = name.rpartition("_")
        if edge not in ("min", "max"):
            field, edge = name, ""
        values = said[field]
        pairs = (
            [(f"{name}.{kind}", values.get(kind, 0), one) for kind, one in wanted.items()]
            if field == "parts"
            else [(name, values, wanted)]
        )
        for label, value, one in pairs:
            holds = value >= one if edge == "min" else value <= one if edge == "max" else value == one
            if not holds or (edge == "" and type(value) is not type(one)):
                yield f"{label}: {value}, not {one}"


@pytest.fixture
def _no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ranks, "_loaded", dict.fromkeys(("o200k_base", "cl100k_base")))


class TestVectors:
    @pytest.mark.parametrize("case", CASES)
    def test_hold(self, case: dict[str, Any], request: pytest.FixtureRequest) -> None:
        if case.get("ranks") is False:
            request.getfixturevalue("_no_ranks")
        body, expected = expanded(case["body"]), dict(case["expected"])
        if "error" in expected:
            with pytest.raises(InvalidRequestError) as refused:
                estimate.estimate(body, api=case["api"], **asked(case))
            assert sorted(refused.value.errors) == sorted(expected["error"])
            return
        if expected.pop("unpriced", False):
            with pytest.raises(estimate.UnpricedError):
                estimate.estimate(body, api=case["api"], **asked(case))
            return
        found = estimate.estimate(body, api=case["api"], **asked(case))
        if (prepared := expected.pop("prepared", None)) is not None:
            made = estimate.prepare(found, body)
            assert {name: made.get(name) for name in prepared} == prepared
        assert list(differences(told(found), expected)) == []

    def test_are_many_and_name_their_sources(self) -> None:
        cases = [param.values[0] for param in CASES]
        assert len(cases) >= 300
        assert all(case["source"] and case["expected"] for case in cases)  # type: ignore[index]
        assert {case["api"] for case in cases} == set(estimate.APIS)  # type: ignore[index]
        for file in FILES:
            names = [case["name"] for case in json.loads(file.read_text(encoding="utf-8"))["cases"]]
            assert len(names) == len(set(names))

    def test_say_nothing_that_the_readme_does_not_explain(self) -> None:
        readme = (VECTORS / "README.md").read_text(encoding="utf-8")
        used: set[str] = set()
        for param in CASES:
            case: Any = param.values[0]
            used |= {*case, *case["expected"], *case.get("options", {})}
        bare = {name.removesuffix("_min").removesuffix("_max") for name in used}
        assert {name for name in bare if f"`{name}`" not in readme} == set()
        assert {file.name for file in VECTORS.glob("*.json")} <= set(readme.replace("`", " ").split())
