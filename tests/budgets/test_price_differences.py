"""Two sources of prices beside each other: hand-made ones for every verdict, and the two that are pinned."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from budgets.domain.pricing_book import ModelEntry, PriceBook
from budgets.domain.pricing_differences import Comparison, Finding, Verdict, compare
from budgets.domain.pricing_litellm import parse_map
from budgets.services.price_sources import package_book, read_map
from noburn.kit.clock import utc_now
from tests.budgets.price_books import NOW, entry, model, provider

TOKEN = {"input_cost_per_token": 100e-12, "output_cost_per_token": 200e-12}


def found(*models: ModelEntry, entries: dict[str, Any], **options: Any) -> Comparison:
    book = PriceBook(1, [provider("openai", *models), provider("azure", model("own"), resells=("openai",))])
    raw = {name: {"litellm_provider": "openai", **fields} for name, fields in entries.items()}
    return compare(book, parse_map(json.dumps(raw).encode()), at=NOW, **options)


def verdicts(comparison: Comparison) -> dict[str, Verdict]:
    return {f"{f.variant}/{f.unit}/{f.tier_start}": f.verdict for f in comparison.findings}


class TestCompare:
    def test_agrees_up_to_the_tolerance_of_the_smaller_price(self) -> None:
        for price, verdict in (
            (101e-12, "agree"),
            (99.1e-12, "agree"),
            (102e-12, "disagree"),
            (98e-12, "disagree"),
        ):
            (finding,) = found(
                model("m", prices=(entry("input_tokens", 10_000),)),
                entries={"m": {"input_cost_per_token": price * 100}},
            ).findings
            assert (finding.verdict, finding.book_pico) == (verdict, 10_000), price

    def test_takes_another_tolerance(self) -> None:
        entries = {"m": {**TOKEN, "output_cost_per_token": 230e-12}}
        assert found(model("m"), entries=entries).having(Verdict.DISAGREE)
        assert not found(model("m"), entries=entries, tolerance=Decimal("0.15")).having(Verdict.DISAGREE)
        with pytest.raises(ValueError, match="from 0 to 1"):
            found(model("m"), entries=entries, tolerance=Decimal(2))

    def test_tells_zero_from_a_price_in_either_source(self) -> None:
        zero = found(model("m"), entries={"m": {**TOKEN, "input_cost_per_token": 0}})
        assert verdicts(zero)["/input_tokens/0"] == Verdict.ZERO
        free = found(model("m", read=0, written=0), entries={"m": TOKEN})
        assert set(verdicts(free).values()) == {Verdict.DISAGREE}
        both = found(model("m", read=0, written=0), entries={"m": {name: 0 for name in TOKEN}})
        assert set(verdicts(both).values()) == {Verdict.AGREE}

    def test_tells_a_missing_or_null_price_from_zero(self) -> None:
        comparison = found(model("m"), entries={"m": {**TOKEN, "output_cost_per_token": None}})
        assert verdicts(comparison) == {
            "/input_tokens/0": Verdict.AGREE,
            "/output_tokens/0": Verdict.BOOK_ONLY,
        }

    def test_takes_what_is_charged_anyway_for_agreement(self) -> None:
        comparison = found(
            model("m"),
            entries={
                "m": {
                    **TOKEN,
                    "output_cost_per_reasoning_token": 200e-12,
                    "input_cost_per_token_batches": 100e-12,
                    "cache_read_input_token_cost": 10e-12,
                }
            },
        )
        assert verdicts(comparison) == {
            "/input_tokens/0": Verdict.AGREE,
            "/output_tokens/0": Verdict.AGREE,
            "/output_reasoning_tokens/0": Verdict.IMPLIED,
            "batch/input_tokens/0": Verdict.IMPLIED,
            "/cache_read_tokens/0": Verdict.MAP_ONLY,
        }

    def test_compares_tiers_that_mean_the_same(self) -> None:
        prices = (entry("input_tokens", 100), entry("input_tokens", 200, 2, tier_start=131_072))
        comparison = found(
            model("m", prices=prices),
            entries={
                "m": {"input_cost_per_token": 100e-12, "input_cost_per_token_above_128k_tokens": 300e-12}
            },
        )
        assert verdicts(comparison)["/input_tokens/131072"] == Verdict.DISAGREE

    def test_prefers_the_exact_name_to_the_names_of_a_pattern(self) -> None:
        wide = model("m", pattern={"starts_with": "m"})
        dear = {**TOKEN, "input_cost_per_token": 1}
        assert not found(wide, entries={"m": TOKEN, "m-cyber": dear}).having(Verdict.DISAGREE)
        (finding,) = found(wide, entries={"m-2026": TOKEN, "m-cyber": dear}).having(Verdict.DISAGREE)
        assert (finding.map_pico, finding.entries) == (10**12, ("m-cyber",))

    def test_leaves_out_what_depends_on_the_time_of_day(self) -> None:
        by_day = model("m", prices=(entry("input_tokens", 100, daily_to=60),))
        for one in (
            found(by_day, entries={"m": TOKEN}),
            found(model("m"), entries={"m": {**TOKEN, "off_peak_pricing": {}}}),
        ):
            assert (one.findings, one.timed["openai"]) == ((), ("m",))

    def test_lists_what_only_one_of_them_has(self) -> None:
        comparison = found(
            model("m"),
            model("mine"),
            entries={"m": TOKEN, "theirs": TOKEN, "azure/m": {**TOKEN, "litellm_provider": "azure"}},
        )
        assert comparison.compared == {"azure": (), "openai": ("m",)}
        assert comparison.book_models == {"azure": ("own",), "openai": ("mine",)}
        assert comparison.map_entries == {"azure": (), "openai": ("theirs",)}
        assert comparison.resold == {"azure": ("azure/m",), "openai": ()}

    def test_keeps_to_the_providers_that_were_asked_for(self) -> None:
        assert found(model("m"), entries={"m": TOKEN}, providers=["azure"]).findings == ()


@pytest.fixture(scope="module")
def pinned() -> Comparison:
    # The day of the pins: a later one has other prices in force.
    return compare(package_book(), read_map().prices, at=NOW)


def plain(comparison: Comparison, seller: str) -> Counter[Verdict]:
    """Verdicts on standard prices of plain input, output and caches without tiers."""
    units = {
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
    }
    return Counter(
        f.verdict
        for f in comparison.findings
        if f.provider == seller and f.key in {("", unit, 0) for unit in units}
    )


class TestPinnedSources:
    def test_agree_on_all_of_anthropics_prices(self, pinned: Comparison) -> None:
        counts = pinned.counts()["anthropic"]
        assert counts[Verdict.DISAGREE] == counts[Verdict.ZERO] == 0
        assert counts[Verdict.AGREE] >= 120
        assert len(pinned.compared["anthropic"]) >= 12

    def test_agree_on_openais_text_models_caches_tiers_and_variants(self, pinned: Comparison) -> None:
        wrong = [f for f in pinned.having(Verdict.DISAGREE, Verdict.ZERO) if f.provider == "openai"]
        assert {f.model for f in wrong if f.unit not in ("web_searches", "input_audio_tokens")} <= {
            "gpt-4o-mini-tts"
        }
        assert pinned.counts()["openai"][Verdict.AGREE] >= 600
        assert plain(pinned, "openai")[Verdict.AGREE] >= 170

    def test_agree_on_the_prices_that_people_look_up_first(self, pinned: Comparison) -> None:
        by_key = {(f.model, f.key): f for f in pinned.findings}
        for name, unit, pico in (
            ("gpt-4o-mini", "input_tokens", 150_000),
            ("gpt-4o-mini", "cache_read_tokens", 75_000),
            ("gpt-5-mini", "output_tokens", 2_000_000),
            ("claude-haiku-4-5", "output_tokens", 5_000_000),
            ("claude-haiku-4-5", "cache_write_tokens", 1_250_000),
            ("gemini-2.5-flash", "input_tokens", 300_000),
        ):
            finding = by_key[name, ("", unit, 0)]
            assert (finding.verdict, finding.book_pico, finding.map_pico) == (Verdict.AGREE, pico, pico)

    def test_disagree_somewhere_and_say_where(self, pinned: Comparison) -> None:
        totals: Counter[Verdict] = sum(pinned.counts().values(), Counter())
        assert totals[Verdict.AGREE] > 2_000
        assert 100 < totals[Verdict.DISAGREE] < 300
        disagreement = next(
            f
            for f in pinned.having(Verdict.DISAGREE)
            if (f.model, f.unit) == ("grok-code-fast-1", "input_tokens")
        )
        assert disagreement == Finding(
            "x-ai", "grok-code-fast-1", "", "input_tokens", 0, Verdict.DISAGREE, 200_000, 1_000_000,
            ("xai/grok-code-fast-1",),
        )  # fmt: skip


class TestCommand:
    def diff(self, *arguments: str, code: int = 1) -> str:
        out = StringIO()
        if code:
            with pytest.raises(CommandError) as failed:
                call_command("prices", "diff", "--package", *arguments, stdout=out)
            assert failed.value.returncode == code
            return out.getvalue() + str(failed.value)
        call_command("prices", "diff", "--package", *arguments, stdout=out)
        return out.getvalue()

    def test_prints_counts_by_provider_and_each_disagreement(self) -> None:
        text = self.diff("--provider", "x-ai")
        assert text.startswith("genai-prices 0.2.3 and litellm 1.106.2; a difference is more than 1")
        assert (
            "disagree   x-ai/grok-code-fast-1 standard input_tokens: genai-prices 0.2.3 $0.2 a million, "
            "litellm 1.106.2 $1 a million (xai/grok-code-fast-1)"
        ) in text
        assert text.endswith("3 prices disagree")

    def test_succeeds_where_all_agree(self) -> None:
        assert "disagree " not in self.diff("--provider", "anthropic", code=0).split("\n", 2)[2]

    def test_is_json_on_demand(self, tmp_path: Path) -> None:
        file = tmp_path / "map.json"
        file.write_text(
            json.dumps({"gpt-4o-mini": {"litellm_provider": "openai", "input_cost_per_token": 1}})
        )
        text = self.diff("--json", "--file", str(file))
        answer = json.loads(text[: text.rindex("}") + 1])
        assert answer["sources"] == ["genai-prices 0.2.3", "map.json"]
        finding = next(f for f in answer["findings"] if f["verdict"] == "disagree")
        assert finding == {
            "verdict": "disagree",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "variant": "standard",
            "unit": "input_tokens",
            "tier_start": 0,
            "here_usd": "0.00000015",
            "there_usd": "1",
            "entries": ["gpt-4o-mini"],
        }
        assert answer["at"] <= utc_now().isoformat()

    def test_says_by_its_exit_code_that_it_could_not_compare(self, tmp_path: Path) -> None:
        assert "cannot be read" in self.diff("--file", str(tmp_path / "none"), code=2)
        assert "--tolerance" in self.diff("--tolerance", "lots")
        assert "--tolerance" in self.diff("--tolerance", "1.5")
