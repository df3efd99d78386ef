"""The README's examples of the frameworks, run as they stand there."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import noburn_sdk
import pytest

from tests.doubles.provider import ProviderDouble
from tests.sdk.frameworks.plane import Customer, cost

README = Path(__file__).parents[3] / "sdks/python/README.md"
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", README.read_text(), re.M | re.S))
LINES_MAX = 10


@pytest.mark.parametrize("section", ["LiteLLM", "LangChain", "LangGraph"])
def test_example_is_short_and_gated(
    settled: Callable[[Customer], list[dict[str, Any]]],
    acme: Customer,
    poor: Customer,
    double: ProviderDouble,
    monkeypatch: pytest.MonkeyPatch,
    section: str,
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S)
    assert len(code.strip().splitlines()) <= LINES_MAX
    for name, value in {"KEY": "k", "BASE": double.openai_url}.items():
        monkeypatch.setenv(f"OPENAI_API_{name}", value)
    monkeypatch.setenv("OPENAI_BASE_URL", double.openai_url)
    exec(compile(code.replace("acme", acme.name), section, "exec"), {})
    (billed,) = double.ledger()
    assert [Decimal(one["cost_usd"]) for one in settled(acme)] == [cost(billed)]
    with pytest.raises(noburn_sdk.BudgetExceededError):
        exec(compile(code.replace("acme", poor.name), section, "exec"), {})
    assert len(double.ledger()) == 1
