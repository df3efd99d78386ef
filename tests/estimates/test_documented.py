"""docs/estimates.md says what the programs say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from noburn_sdk import _ranks, estimate
from noburn_sdk.estimate import APIS, openai, report, schemas

from benchmarks import estimates_ratio
from benchmarks.reference import chat_tokens

PAGE = (Path(__file__).parents[2] / "docs" / "estimates.md").read_text(encoding="utf-8")


class TestThePage:
    def test_shows_the_ratios_that_are_measured(self) -> None:
        assert estimates_ratio.texts_table() in PAGE
        assert estimates_ratio.functions_table() in PAGE

    @pytest.mark.parametrize("kind", [*estimates_ratio.contents(), "mixed chat"])
    def test_divides_by_what_no_bound_is_below(self, kind: str) -> None:
        for said in estimates_ratio.chats(kind):
            assert all(ratio(said) >= 1 for ratio in estimates_ratio.RATIOS.values())
            assert estimate.openai_chat({"model": "gpt-4o", "messages": said}).input_tokens == chat_tokens(
                said
            )

    def test_names_every_number_that_is_assumed(self) -> None:
        rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d,]+) \|", PAGE, re.MULTILINE)
        assert len(rows) >= 19
        for name, number in rows:
            (owner,) = [module for module in (openai, schemas, _ranks) if hasattr(module, name)]
            assert getattr(owner, name) == int(number.replace(",", "")), name
        named = {name for name, _ in rows}
        assumed = {name for name in vars(openai) if name.endswith("_FRAME")}
        assert assumed - named <= {"MESSAGE_FRAME", "NAME_FRAME", "CHAT_FRAME", "AUDIO_FRAME"} | {
            name for name in assumed if name.startswith(("GEMINI", "JSON"))
        }

    def test_explains_every_api_and_every_way_of_knowing(self) -> None:
        for word in (*APIS, *report.HOW):
            assert f"| `{word}` |" in PAGE
