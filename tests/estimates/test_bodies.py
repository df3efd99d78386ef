"""Bounds of whole requests against what the published rules and tiktoken count, over random requests."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noburn_sdk import InvalidRequestError, estimate
from noburn_sdk.estimate import media

from benchmarks import reference
from budgets.domain.tokenizers import CLAUDE_LATE, tokenizer_of
from tests.estimates.texts import anything, values

LONG = settings(max_examples=60, deadline=None)
PUBLISHED: tuple[tuple[str, reference.Ranks], ...] = (
    ("gpt-4o-mini", "o200k_base"),
    ("gpt-4.1", "o200k_base"),
    ("gpt-4-turbo", "cl100k_base"),
    ("gpt-3.5-turbo", "cl100k_base"),
)
IN_CHANNELS = ("gpt-5-mini", "o3", "gpt-5.6")

messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(("system", "user", "assistant")), "content": anything()},
        optional={"name": st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)},
    ),
    min_size=1,
    max_size=6,
)


def named(texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Functions as the cookbook's formula takes them: flat properties, each with a type and a description."""
    kinds = st.sampled_from(("string", "number", "integer", "boolean"))
    field = st.fixed_dictionaries(
        {"type": kinds, "description": texts},
        optional={"enum": st.lists(st.text("abcxyz _-", min_size=1, max_size=12), min_size=1, max_size=5)},
    )
    names = st.from_regex(r"[a-z][A-Za-z0-9_]{0,24}", fullmatch=True)
    shape = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(names, field, max_size=6)}
    )
    return st.fixed_dictionaries({"name": names, "description": texts, "parameters": shape})


class TestChat:
    @LONG
    @given(said=messages)
    def test_counts_texts_to_the_token_where_the_framing_is_published(self, said: list[Any]) -> None:
        for model, ranks in PUBLISHED:
            found = estimate.openai_chat({"model": model, "messages": said})
            assert found.input_tokens == reference.chat_tokens(said, ranks)
            assert found.how == "exact"

    @LONG
    @given(said=messages)
    def test_is_above_it_by_the_frames_of_channels_alone(self, said: list[Any]) -> None:
        exact = reference.chat_tokens(said)
        for model in IN_CHANNELS:
            found = estimate.openai_chat({"model": model, "messages": said})
            assert exact <= found.input_tokens <= exact + 16 + 12 * len(said)

    @LONG
    @given(said=messages)
    def test_is_never_below_it_for_a_model_that_is_not_known(self, said: list[Any]) -> None:
        found = estimate.openai_chat({"model": "somebody-elses-9b", "messages": said})
        assert found.input_tokens >= max(
            reference.chat_tokens(said), reference.chat_tokens(said, "cl100k_base")
        )

    @LONG
    @given(said=messages, model=st.sampled_from(("gpt-4o", "claude-haiku-4-5", "gpt-5", "llama-4")))
    def test_says_with_a_limit_what_it_says_without(self, said: list[Any], model: str) -> None:
        body = {"model": model, "messages": said}
        whole = estimate.openai_chat(body)
        for limit in (whole.input_tokens, whole.input_tokens // 2, 4 * whole.input_tokens + 64, 0):
            found = estimate.openai_chat(body, limit=limit)
            # Within the limit by tokens, or by bytes already; where it is exceeded, counting may end early.
            if found.exceeds_limit:
                assert found.input_tokens > limit
                assert whole.input_tokens > limit
            else:
                assert whole.input_tokens <= found.input_tokens <= limit

    @LONG
    @given(functions=st.lists(named(anything()), min_size=1, max_size=4), said=messages)
    def test_bounds_functions_by_the_cookbooks_formula(self, functions: list[Any], said: list[Any]) -> None:
        tools = [{"type": "function", "function": one} for one in functions]
        for model, ranks in (("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")):
            found = estimate.openai_chat({"model": model, "messages": said, "tools": tools})
            published = reference.chat_tokens(said, ranks) + reference.tool_tokens(functions, ranks)  # type: ignore[arg-type]
            assert found.input_tokens >= published

    @LONG
    @given(said=messages, parts=st.lists(anything(), min_size=1, max_size=4))
    def test_counts_texts_in_parts_no_lower_than_in_one(self, said: list[Any], parts: list[str]) -> None:
        split = [*said, {"role": "user", "content": [{"type": "text", "text": part} for part in parts]}]
        whole = [*said, {"role": "user", "content": "\n\n".join(parts)}]
        found = estimate.openai_chat({"model": "gpt-4o", "messages": split})
        assert found.input_tokens >= reference.chat_tokens(whole) - 2 * len(parts)
        assert found.input_tokens >= sum(reference.tokens(part) for part in parts)

    @LONG
    @given(schema=values())
    def test_bounds_a_schema_by_its_json(self, schema: Any) -> None:
        body = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "x"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        }
        shown = json.dumps({} if schema is None else schema, ensure_ascii=False, separators=(",", ":"))
        assert estimate.openai_chat(body).input_tokens >= reference.tokens(shown) + 8


class TestOthers:
    @LONG
    @given(texts=st.lists(anything(), max_size=5))
    def test_counts_embeddings_to_the_token(self, texts: list[str]) -> None:
        exact = sum(reference.tokens(text, "cl100k_base") for text in texts)
        body: dict[str, Any] = {"model": "text-embedding-3-small", "input": texts}
        assert estimate.openai_embeddings(body).input_tokens == exact
        other = estimate.openai_embeddings(body | {"model": "bge-m3"})
        # A tokenizer of words begins and ends each text, and normalises it.
        assert other.input_tokens >= exact + 2 * len(texts)

    @LONG
    @given(said=messages, system=anything())
    def test_bounds_claude_by_the_measured_multiple(self, said: list[Any], system: str) -> None:
        turns = [{"role": "user", "content": one["content"]} for one in said]
        for model, percent in (("claude-sonnet-4-6", 135), ("claude-opus-4-8", 185)):
            body = {"model": model, "max_tokens": 9, "system": system, "messages": turns}
            found = estimate.anthropic_messages(body)
            counted = reference.tokens(system, "cl100k_base")
            counted += sum(reference.tokens(turn["content"], "cl100k_base") for turn in turns)
            assert found.input_tokens == -(-counted * percent // 100) + 12 + 5 * (len(turns) - 1)

    @LONG
    @given(said=messages, at=st.integers(0, 5))
    def test_bounds_what_a_mark_may_write_into_a_cache(self, said: list[Any], at: int) -> None:
        at = min(at, len(said) - 1)
        turns = [{"role": "user", "content": [{"type": "text", "text": one["content"]}]} for one in said]
        turns[at]["content"][0]["cache_control"] = {"type": "ephemeral"}  # type: ignore[index]
        schema = {
            "type": "json_schema",
            "schema": {"type": "object", "properties": {"a": {"type": "string"}}},
        }
        body = {"model": "claude-haiku-4-5", "messages": turns, "output_config": {"format": schema}}
        found = estimate.anthropic_messages(body)
        before = json.dumps(schema) + "".join(one["content"] for one in said[: at + 1])
        counted = reference.tokens(before, "cl100k_base")
        assert found.cached_input_tokens is not None
        # Texts that stand apart are a token or two more than in one piece.
        assert found.input_tokens >= found.cached_input_tokens >= counted * 135 // 100 - 2 * (at + 2)

    @LONG
    @given(said=messages)
    def test_bounds_gemini_by_its_own_four_letters_a_token(self, said: list[Any]) -> None:
        contents = [{"role": "user", "parts": [{"text": one["content"]}]} for one in said]
        found = estimate.gemini_generate_content({"contents": contents}, model="gemini-2.5-flash")
        size = sum(len(one["content"].encode("utf-8", "surrogatepass")) for one in said)
        assert found.input_tokens >= size >= sum(len(one["content"]) for one in said) // 4

    @LONG
    @given(body=values(), api=st.sampled_from(estimate.APIS))
    def test_takes_or_refuses_whatever_it_is_given(self, body: Any, api: Any) -> None:
        for given_body in (body, {"model": "gpt-4o", "messages": body, "input": body, "contents": body}):
            try:
                found = estimate.estimate(given_body, api=api)
            except InvalidRequestError:
                continue
            assert found.input_tokens >= 0


class TestNames:
    @pytest.mark.parametrize(
        "model",
        [
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-7-v1:0",
            "projects/p-1/locations/us-central1/publishers/anthropic/models/claude-opus-4-8",
            "team-2-claude-sonnet-5",
            "openrouter/anthropic/claude-opus-4.7",
        ],
    )
    def test_reads_a_claudes_generation_behind_whatever_stands_before_it(self, model: str) -> None:
        assert estimate.count_text("hello " * 99 + "hello", model) == 185
        assert tokenizer_of(model) == CLAUDE_LATE


class TestOptions:
    def test_refuses_more_answers_than_can_be_asked_for_without_a_cap(self) -> None:
        found = estimate.openai_chat({"model": "llama-4", "n": 500, "messages": []})
        with pytest.raises(InvalidRequestError, match="n"):
            found.options()
        assert (
            estimate.openai_chat(
                {"model": "llama-4", "n": 500, "messages": []}, max_output_tokens=3
            ).options()["max_output_tokens"]
            == 1500
        )

    def test_puts_the_allowed_cap_wherever_the_request_has_one(self) -> None:
        body = {"model": "llama-4", "messages": [], "max_tokens": 50, "max_completion_tokens": 70}
        found = estimate.openai_chat(body)
        assert found.max_output_tokens == 70
        made = estimate.prepare(found, body, max_output_tokens=40)
        assert (made["max_tokens"], made["max_completion_tokens"]) == (40, 40)

    def test_believes_a_price_list_about_a_context_only_where_nothing_is_known(self) -> None:
        # A list that is behind names 200,000 for a Claude whose longer context it prices.
        units = {"input_tokens": [(0, 3), (200_000, 6)], "output_tokens": [(0, 15)]}
        rates = estimate.Rates("m", units, context_window=200_000)
        text = {"role": "user", "content": "word " * 300_000}
        for model in ("claude-sonnet-4-5", "llama-4"):
            body = {"model": model, "max_tokens": 1, "messages": [text]}
            found = estimate.openai_chat(body, rates=rates)
            assert found.input_tokens > 300_000
        files = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]
        known = estimate.openai_chat({"model": "gpt-4.1", "max_tokens": 1, "messages": files}, rates=rates)
        other = estimate.openai_chat({"model": "llama-4", "max_tokens": 1, "messages": files}, rates=rates)
        assert (known.input_tokens, other.input_tokens) == (1_047_576, 200_000)


class TestFiles:
    @staticmethod
    def _pdf(*objects: bytes) -> media.Blob:
        return media.Blob(base64.b64encode(b"%PDF-1.7\n" + b"\n".join(objects) + b"\n%%EOF").decode())

    def test_sees_pages_whose_name_is_written_by_numbers(self) -> None:
        pages = (b"<< /Type /Page >>", b"<< /#54ype /P#61ge >>", b"<< /Type/Pages /Count 2 >>")
        assert media.pdf_pages(self._pdf(*pages)) == 2

    def test_counts_pages_in_compressed_objects_unless_they_are_predicted(self) -> None:
        packed = zlib.compress(b"1 0 2 20 << /Type /Page >> << /Type /Page >>")
        head = b"5 0 obj << /Type /ObjStm /N 2 /First 9 /Filter /FlateDecode %s/Length 9 >> stream\n%s\nendstream"
        assert media.pdf_pages(self._pdf(head % (b"", packed))) == 2
        predicted = b"/DecodeParms << /Predictor 12 >> "
        assert media.pdf_pages(self._pdf(head % (predicted, packed))) is None

    def test_takes_the_longer_of_two_lengths_that_a_wav_tells(self) -> None:
        def wav(told: int) -> media.Blob:
            form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8_000, told, 1, 8)
            return media.Blob(b"RIFF\0\0\0\0WAVE" + form + b"data\0\0\0\0" + bytes(16_000))

        assert media.audio_ms(wav(8_000), "wav") == media.audio_ms(wav(80_000), "wav") == 2_006
        assert media.audio_ms(wav(4_000), "wav") == 4_011
