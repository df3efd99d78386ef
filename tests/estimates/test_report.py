"""What a person is shown of an estimate."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from noburn_sdk import estimate
from noburn_sdk.estimate.__main__ import main
from noburn_sdk.estimate.report import usd

CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hello world"}],
    "max_completion_tokens": 500,
    "n": 2,
}
PRICES = {
    "prices": [
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "variant": "standard",
            "prices": {
                "input_tokens": {"usd_per_million_tokens": "0.15"},
                "output_tokens": {"usd_per_million_tokens": "0.6"},
            },
        }
    ]
}


class TestExplain:
    def test_shows_each_part_and_how_it_is_known(self) -> None:
        assert estimate.explain(estimate.openai_chat(CHAT)).splitlines() == [
            "openai.chat  gpt-4o-mini",
            "",
            "input      tokens  how",
            "frame (2)       7  exact  counted, or by a published formula",
            "text            2  exact  counted, or by a published formula",
            "at most         9  exact",
            "",
            "output: at most 2 x 500 = 1,000 tokens",
            "cache: any of the input may be written",
        ]

    def test_says_what_had_to_be_assumed(self) -> None:
        body = {"model": "gpt-4.1", "input": "x", "conversation": "c", "tools": [{"type": "web_search"}]}
        shown = estimate.explain(estimate.openai_responses(body))
        for word in (
            "partly assumed",
            "a stored conversation",
            "fees: web_search x 10",
            "no cap",
            "note: only",
        ):
            assert word in shown

    @pytest.mark.parametrize(
        ("nano", "shown"), [(0, "0"), (1, "0.000000001"), (601_350, "0.00060135"), (2 * 10**9, "2")]
    )
    def test_writes_amounts_as_decimal_strings(self, nano: int, shown: str) -> None:
        assert usd(nano) == shown


class TestCommand:
    def test_estimates_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        body, prices = tmp_path / "body.json", tmp_path / "prices.json"
        body.write_text(json.dumps(CHAT))
        prices.write_text(json.dumps(PRICES))
        assert main([str(body), "--api", "openai.chat", "--prices", str(prices)]) == 0
        assert "cost: at most 0.00060135 USD" in capsys.readouterr().out

    def test_reads_standard_input_and_tells_a_limit_by_its_status(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CHAT).encode())))
        assert main(["-", "--api", "openai.chat", "--limit", "5"]) == 1
        assert "limit: exceeded" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("content", "told"),
        [("{", "Cannot estimate"), ("{}", "model"), ('{"model": "gpt-4o", "messages": 7}', "body")],
    )
    def test_says_what_is_wrong(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, told: str
    ) -> None:
        file = tmp_path / "body.json"
        file.write_text(content)
        assert main([str(file), "--api", "openai.chat"]) == 2
        assert told in capsys.readouterr().err
