"""The estimator in TypeScript and the one in Python say the same of every request, errors and words included."""

from __future__ import annotations

import importlib
import json
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from noburn_sdk import InvalidRequestError, _ranks, estimate
from noburn_sdk.estimate.shape import shape_of

from tests.estimates.texts import anything
from tests.support.node import built, node
from tests.typescript.altered import altered, vectors
from tests.typescript.bodies import MODELS, as_read, cases

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

PROGRAM = Path(__file__).with_name("estimator.mjs")
BODIES, BODIES_SOAK = 350, 6_000
ALTERED, ALTERED_SOAK = 4_000, 40_000
KINDS = ("text", "tools", "calls", "schema", "frame", "images", "files", "audio", "unknown")
DRAWN = ("text", "tools", "schema", "frame", "unknown")
"""Kinds of parts: of vectors, and of what is drawn, which is small and seldom holds the others."""
RANKS = ("o200k_base", "cl100k_base")
SLOW = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)


class Estimator:
    """A Node process that estimates line by line."""

    def __init__(self, dist: Path) -> None:
        command = [str(node(20)), str(PROGRAM), str(dist)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, asked: dict[str, Any]) -> Any:
        """Returns what it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


@pytest.fixture(scope="module")
def estimator() -> Iterator[Estimator]:
    made = Estimator(built())
    yield made
    made.close()


def camel(name: str) -> str:
    """Returns a name as TypeScript has it."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def camels(value: dict[str, Any]) -> dict[str, Any]:
    """Returns the same under TypeScript's names."""
    return {camel(name): one for name, one in value.items()}


def plain(value: Any) -> Any:
    """Returns a value of Python's as the other language prints it."""
    if is_dataclass(value):
        return {camel(one.name): plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, str):
        # Half a letter can be in no note; the options have each language's names.
        mended = re.sub(r"[\ud800-\udfff]", "\ufffd", value)
        return mended.replace("pass max_input_tokens where", "pass maxInputTokens where")
    return value


def rates_of(wire: dict[str, Any] | None) -> estimate.Rates | None:
    """Returns prices as Python takes them."""
    if wire is None:
        return None
    return estimate.Rates(wire["model"], wire["units"], wire["variants"], wire["context_window"])


def said_in_python(case: dict[str, Any]) -> Any:
    """Returns what Python says, under TypeScript's names."""
    options = dict(case["options"], api=case["api"], rates=rates_of(case["options"].get("rates")))
    body = case["body"]
    with pytest.MonkeyPatch.context() as patch:
        if not case["ranks"]:
            patch.setattr(_ranks, "_loaded", dict.fromkeys(RANKS))
        try:
            found = estimate.estimate(body, **options)
        except InvalidRequestError as error:
            return {"error": "InvalidRequestError", "fields": list(error.errors)}
        except estimate.UnpricedError:
            return {"error": "UnpricedError", "fields": []}
        try:
            asked: Any = camels(found.options())
        except InvalidRequestError as error:
            asked = list(error.errors)
        more = {name: getattr(found, name) for name in ("output_tokens", "complete", "how")}
        return {
            "found": {**plain(found), **camels(more)},
            "options": asked,
            "counts": camels(found.counts()),
            "prepared": estimate.prepare(found, body),
            "allowed": estimate.prepare(found, body, **case["allowed"]),
            "explained": plain(estimate.explain(found)),
            "shape": shape_of(case["api"], body),
        }


def said_in_typescript(estimator: Estimator, case: dict[str, Any]) -> Any:
    """Returns what TypeScript says."""
    options = camels({**case["options"], "api": case["api"]})
    if "rates" in options:
        options["rates"] = camels(options["rates"])
    return estimator.ask({**case, "options": options, "allowed": camels(case["allowed"])})


def differing(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two values differ, each as a line. True is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from differing(one.get(name, "missing"), other.get(name, "missing"), f"{path}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from differing(*pair, f"{path}.{place}")
    elif type(one) is not type(other) or one != other:
        yield f"{path}: Python {one!r}, TypeScript {other!r}"


class Compared:
    """What has been compared, so that a comparison of nothing is seen."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self.seen: Counter[Any] = Counter()

    def compare(self, case: dict[str, Any]) -> None:
        """Compares what both say of a request. Raises AssertionError where they differ."""
        python, typescript = said_in_python(case), said_in_typescript(self._estimator, case)
        assert list(differing(python, typescript)) == []
        if "error" in python:
            self.seen[python["error"]] += 1
            return
        self.seen["estimated"] += 1
        self.seen[case["api"]] += 1
        self.seen["priced"] += python["found"]["costNano"] is not None
        self.seen["exceeded"] += python["found"]["exceedsLimit"]
        for part in python["found"]["parts"]:
            self.seen[part["kind"], part["how"]] += 1

    def check(self, least: int, kinds: tuple[str, ...]) -> None:
        """Raises AssertionError where too little was compared, or nothing of some kind."""
        assert self.seen["estimated"] >= least, self.seen
        assert self.seen["InvalidRequestError"] >= 5
        assert self.seen["priced"] >= 5
        assert self.seen["exceeded"] >= 3
        assert all(self.seen[api] >= 10 for api in estimate.APIS), self.seen
        for kind in kinds:
            assert sum(count for key, count in self.seen.items() if key[0] == kind) >= 2, (kind, self.seen)
        for how in ("exact", "bytes", "measured", "maximum", "unknown"):
            assert sum(count for key, count in self.seen.items() if key[1] == how) >= 10, (how, self.seen)


def compare_many(compared: Compared, examples: int) -> None:
    """Compares so many requests, the same ones in every run."""

    @seed(20261130)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=SLOW)
    @given(case=cases())
    def agree(case: dict[str, Any]) -> None:
        compared.compare(case)

    agree()


def compare_altered(compared: Compared, cases: int, chance: random.Random) -> None:
    """Compares so many cases that are made of the shared vectors."""
    known = vectors()
    for _ in range(cases):
        compared.compare(altered(chance, known))


class TestTheSameBounds:
    def test_are_found_of_altered_vectors(self, estimator: Estimator) -> None:
        compared = Compared(estimator)
        compare_altered(compared, ALTERED, random.Random(20261130))
        compared.check(ALTERED // 2, KINDS)

    @pytest.mark.parametrize(
        ("module", "constant"),
        [
            ("anthropic", "TOOL_FRAME"),
            ("gemini", "PART_FRAME"),
            ("images", "CLAUDE_PATCH"),
            ("openai", "CALL_FRAME"),
            ("openai", "PAGE_TEXT_TOKENS"),
        ],
    )
    def test_are_missed_where_a_constant_is_one_more(
        self, estimator: Estimator, monkeypatch: pytest.MonkeyPatch, module: str, constant: str
    ) -> None:
        changed = importlib.import_module(f"noburn_sdk.estimate.{module}")
        monkeypatch.setattr(changed, constant, getattr(changed, constant) + 1)
        with pytest.raises(AssertionError, match="Python"):
            compare_altered(Compared(estimator), ALTERED_SOAK, random.Random(1))

    @pytest.mark.soak
    def test_are_found_of_thousands_of_altered_vectors(self, estimator: Estimator) -> None:
        compared = Compared(estimator)
        compare_altered(compared, ALTERED_SOAK, random.Random(1))
        compared.check(ALTERED_SOAK // 2, KINDS)

    @pytest.mark.soak
    def test_are_found_in_both_languages(self, estimator: Estimator) -> None:
        compared = Compared(estimator)
        compare_many(compared, BODIES)
        compared.check(BODIES // 2, DRAWN)

    def test_are_found_of_texts_alone(self, estimator: Estimator) -> None:
        counted = 0

        @seed(20261130)
        @settings(max_examples=400, deadline=None, database=None, suppress_health_check=SLOW)
        @given(text=anything())
        def agree(text: str) -> None:
            nonlocal counted
            read = as_read(text)
            models = ["gpt-4o", "gpt-4", "claude-opus-4-8", "gemini-2.5-pro", "llama-4"]
            found = estimator.ask({"text": read, "models": models})
            assert found == [estimate.count_text(read, model) for model in models]
            counted += 1

        agree()
        assert counted >= 400

    @pytest.mark.parametrize(
        "unit", ["All human beings are born. ", "漢字かな交じり文。", "a", "٣٧٩", "🙂é ", "7 "]
    )
    def test_are_found_of_long_texts(self, estimator: Estimator, unit: str) -> None:
        text = unit * (150_000 // len(unit))
        for model in ("gpt-4o", "gpt-4"):
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
            case = {"api": "openai.chat", "body": body, "options": {}, "ranks": True, "allowed": {}}
            for limit in (None, 10_000):
                case["options"] = {} if limit is None else {"limit": limit}
                assert list(differing(said_in_python(case), said_in_typescript(estimator, case))) == []

    @pytest.mark.soak
    def test_are_found_of_thousands_of_requests(self, estimator: Estimator) -> None:
        compared = Compared(estimator)
        compare_many(compared, BODIES_SOAK)
        compared.check(BODIES_SOAK // 2, DRAWN)

    @pytest.mark.soak
    def test_are_found_of_thousands_of_texts(self, estimator: Estimator) -> None:
        @settings(max_examples=20_000, deadline=None, database=None, suppress_health_check=SLOW)
        @given(text=anything(), model=st.sampled_from(MODELS))
        def agree(text: str, model: str) -> None:
            read = as_read(text)
            assert estimator.ask({"text": read, "models": [model]}) == [estimate.count_text(read, model)]

        agree()
