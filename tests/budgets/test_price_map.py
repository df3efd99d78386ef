"""LiteLLM's map as data: what is read, and that whatever is malformed is left out, counted, and stops nothing."""

from __future__ import annotations

import json
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets.domain import pricing_litellm
from budgets.domain.pricing_litellm import BadMap, MapEntry, PriceMap, parse_map
from budgets.services.price_sources import MAP_IN_WHEEL, MapNotFound, read_map


def read(**entries: Any) -> PriceMap:
    return parse_map(json.dumps(entries).encode())


def one(name: str = "gpt-9", **fields: Any) -> MapEntry:
    (entry,) = read(**{name: {"litellm_provider": "openai", **fields}}).entries
    return entry


class TestParse:
    def test_reads_numbers_as_they_are_written(self) -> None:
        raw = b'{"m": {"litellm_provider": "openai", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 3E-12}}'
        (entry,) = parse_map(raw).entries
        assert entry.prices == {("", "input_tokens", 0): 150_000, ("", "output_tokens", 0): 3}

    def test_knows_units_variants_and_tiers_by_their_names(self) -> None:
        entry = one(
            cache_read_input_token_cost=1e-6,
            cache_creation_input_token_cost=2e-6,
            cache_creation_input_token_cost_above_1hr=3e-6,
            cache_creation_input_token_cost_above_1hr_above_200k_tokens=4e-6,
            input_cost_per_token_above_272k_tokens_priority=5e-6,
            output_cost_per_token_batches=6e-6,
            cache_read_input_token_cost_flex=7e-6,
            input_cost_per_audio_token=8e-6,
            output_cost_per_image_token=9e-6,
            search_context_cost_per_query={
                "search_context_size_low": 0.01,
                "search_context_size_high": 0.01,
            },
        )
        assert entry.prices == {
            ("", "cache_read_tokens", 0): 1_000_000,
            ("", "cache_write_tokens", 0): 2_000_000,
            ("", "cache_write_1h_tokens", 0): 3_000_000,
            ("", "cache_write_1h_tokens", 200_000): 4_000_000,
            ("priority", "input_tokens", 272_000): 5_000_000,
            ("batch", "output_tokens", 0): 6_000_000,
            ("flex", "cache_read_tokens", 0): 7_000_000,
            ("", "input_audio_tokens", 0): 8_000_000,
            ("", "output_image_tokens", 0): 9_000_000,
            ("", "web_searches", 0): 10_000_000_000,
        }

    def test_counts_what_it_has_no_unit_for(self) -> None:
        found = read(
            m={
                "litellm_provider": "openai",
                "input_cost_per_token": 1,
                "input_cost_per_token_ultrafast": 2,
                "output_cost_per_second_720p": 3,
                "search_context_cost_per_query": {
                    "search_context_size_low": 1,
                    "search_context_size_high": 2,
                },
            }
        )
        assert found.ignored == {"price that the price book has no unit for": 2}
        assert found.entries[0].prices == {("", "input_tokens", 0): 10**12}

    @pytest.mark.parametrize(
        ("price", "reason"),
        [
            (None, "price is null"),
            ("0.1", "price is not a number"),
            (True, "price is not a number"),
            ([1], "price is not a number"),
            (float("nan"), "price is not a number"),
            (float("inf"), "price is not a number"),
            (-1e-6, "price is negative"),
            (1_000_001, "price is above a million USD"),
            (10**300, "price is above a million USD"),
            (1e-13, "price is below a millionth of a millionth USD"),
            (1e-300, "price is below a millionth of a millionth USD"),
        ],
    )
    def test_leaves_out_a_price_that_is_none(self, price: Any, reason: str) -> None:
        found = read(
            m={"litellm_provider": "openai", "input_cost_per_token": price, "output_cost_per_token": 1e-6}
        )
        assert found.ignored == {reason: 1}
        assert found.entries[0].prices == {("", "output_tokens", 0): 1_000_000}
        assert found.entries[0].zeros == frozenset()

    def test_keeps_a_zero_apart_from_prices(self) -> None:
        entry = one(input_cost_per_token=0, output_cost_per_token=0.0, cache_read_input_token_cost=1e-6)
        assert entry.prices == {("", "cache_read_tokens", 0): 1_000_000}
        assert entry.zeros == {("", "input_tokens", 0), ("", "output_tokens", 0)}

    def test_leaves_out_entries_with_a_reason(self) -> None:
        price = {"litellm_provider": "azure", "input_cost_per_token": 1e-6}
        found = read(
            **{
                "text": "x",
                "": price,
                "x" * 201: price,
                "azure/us/gpt-9": price,
                "nobody/m": {**price, "litellm_provider": "nobody"},
                "no-seller": {"input_cost_per_token": 1},
                "paints": {"litellm_provider": "openai", "output_cost_per_image": 1},
                "azure/gpt-9": price,
            }
        )
        assert [entry.name for entry in found.entries] == ["gpt-9"]
        assert found.ignored == {
            "not an object": 1,
            "name is not 1 to 200 printable characters": 2,
            "regional price": 1,
            "seller is not in the price book": 2,
            "price that the price book has no unit for": 1,
            "no price that the price book has a unit for": 1,
        }
        assert found.examples["regional price"] == ["azure/us/gpt-9"]

    @pytest.mark.parametrize(
        ("key", "seller", "provider", "name"),
        [
            ("gpt-9", "openai", "openai", "gpt-9"),
            ("gemini/gemini-9", "gemini", "google", "gemini-9"),
            ("vertex_ai/claude-9@20260101", "vertex_ai-anthropic_models", "google", "claude-9@20260101"),
            ("groq/openai/gpt-oss-9b", "groq", "groq", "openai/gpt-oss-9b"),
            ("anthropic.claude-9-v1:0", "bedrock_converse", "aws", "anthropic.claude-9-v1:0"),
            ("openrouter/x/y", "openrouter", "openrouter", "x/y"),
            ("xai/grok-9", "xai", "x-ai", "grok-9"),
        ],
    )
    def test_finds_the_seller_and_the_name_that_a_call_gives(
        self, key: str, seller: str, provider: str, name: str
    ) -> None:
        entry = one(key, litellm_provider=seller, input_cost_per_token=1)
        assert (entry.provider, entry.name, entry.key) == (provider, name, key)

    def test_reads_when_a_model_was_retired_and_when_prices_hold_for_hours(self) -> None:
        assert one(input_cost_per_token=1, deprecation_date="2026-10-01").retired_on == date(2026, 10, 1)
        assert one(input_cost_per_token=1, deprecation_date="soon").retired_on is None
        assert one(input_cost_per_token=1, off_peak_pricing={}).timed

    @pytest.mark.parametrize(
        "raw",
        [b"", b"[]", b'"x"', b"\xff\xfe", b"{", b'{"a": 1' + b"0" * 5000 + b"x}", b"[" * 200_000],
    )
    def test_refuses_what_is_no_map(self, raw: bytes) -> None:
        with pytest.raises(BadMap):
            parse_map(raw)

    def test_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pricing_litellm, "ENTRIES_MAX", 1)
        assert parse_map(b'{"a":1}').entries == []
        with pytest.raises(BadMap, match="more than 1 models"):
            parse_map(b'{"a":1,"b":1}')
        monkeypatch.setattr(pricing_litellm, "MAP_BYTES_MAX", 10)
        with pytest.raises(BadMap, match="more than 10 bytes"):
            parse_map(b"{}" + b" " * 10)

    @settings(deadline=None, max_examples=100)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "litellm_provider",
                            "input_cost_per_token",
                            "output_cost_per_token_above_128k_tokens",
                            "search_context_cost_per_query",
                            "max_input_tokens",
                            "deprecation_date",
                        ]
                    ),
                    inner | st.just("openai"),
                )
            ),
            max_leaves=12,
        )
    )
    def test_never_fails_half_way(self, value: Any) -> None:
        found = read(m=value, good={"litellm_provider": "openai", "input_cost_per_token": 1})
        assert found.entries[-1].name == "good"
        assert all(pico > 0 for entry in found.entries for pico in entry.prices.values())


class TestReadMap:
    def test_takes_it_out_of_a_wheel_and_names_the_release(self, tmp_path: Path) -> None:
        wheel = tmp_path / "litellm-9.8.7-cp310-abi3-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(MAP_IN_WHEEL, '{"m": {"litellm_provider": "openai", "input_cost_per_token": 1}}')
        found = read_map(wheel)
        assert (found.name, len(found.prices.entries)) == ("litellm 9.8.7", 1)

    def test_reads_a_copy_of_the_map(self, tmp_path: Path) -> None:
        file = tmp_path / "newer.json"
        file.write_text('{"m": {"litellm_provider": "openai", "input_cost_per_token": 1}}')
        assert read_map(file).name == "newer.json"

    def test_says_what_cannot_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(BadMap, match="cannot be read"):
            read_map(tmp_path / "none.json")
        other = tmp_path / "other.whl"
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("x", "y")
        with pytest.raises(BadMap, match="has no litellm/"):
            read_map(other)
        broken = tmp_path / "broken.json"
        broken.write_bytes(b"{")
        with pytest.raises(BadMap, match=r"broken\.json is not JSON"):
            read_map(broken)
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        with pytest.raises(MapNotFound, match="make setup"):
            read_map()

    def test_finds_the_pinned_one_beside_the_environment(self) -> None:
        found = read_map()
        pinned = next(
            line for line in Path("requirements-prices.in").read_text().splitlines() if line.startswith("lit")
        )
        assert found.name.replace(" ", "==") == pinned
        assert len(found.prices.entries) > 2_000
        # What it has of prices is read: nothing is malformed in it.
        assert not {reason for reason in found.prices.ignored if reason.startswith(("price is", "not an"))}
