"""Counts and bounds of a call's input."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from typing import Any

import pytest

from noburn_sdk import estimate

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
TEXTS = [
    "",
    "hello",
    "naïve café",
    "漢字かな交じり文",
    "🙂" * 50,
    '{"a":[1,2,3]}' * 20,
    "<|endoftext|>",
    "\ud800 x",
]


class TestCounting:
    def test_is_exact_for_openai(self) -> None:
        assert estimate.count_text("hello world", "gpt-4o-mini") == 2
        assert estimate.count_text("hello world", "text-embedding-3-small") == 2
        # What OpenAI bills for these: 3 a message, its role and text, 3 to prime; a name is 1 and its tokens.
        assert estimate.count_chat(HELLO, "gpt-4o-mini") == 8
        assert estimate.count_chat([HELLO[0] | {"name": "bob"}], "gpt-4") == 10

    def test_tells_the_ranks_of_a_model(self) -> None:
        text = "漢字かな交じり文" * 10
        newer, older = estimate.count_text(text, "gpt-4o"), estimate.count_text(text, "gpt-4-turbo")
        assert newer < older
        for model in (
            "gpt-5-mini",
            "gpt-4.1-nano",
            "o3-mini",
            "o1",
            "ft:gpt-4o-mini:acme::x",
            "chatgpt-4o-latest",
        ):
            assert estimate.count_text(text, model) == newer
        for model in ("gpt-4", "gpt-3.5-turbo", "gpt-4-0613", "text-embedding-ada-002"):
            assert estimate.count_text(text, model) == older

    @pytest.mark.parametrize("text", TEXTS)
    def test_counts_bytes_for_an_unknown_model(self, text: str) -> None:
        counted = estimate.count_text(text, "llama-9")
        assert counted == len(text.encode("utf-8", "surrogatepass"))
        assert counted >= estimate.count_text(text, "gpt-4o")

    def test_takes_long_texts(self) -> None:
        assert estimate.count_text("hello " * 300_000, "gpt-4o") >= 300_000

    def test_takes_a_schema_whose_kinds_are_lists_however_deep(self) -> None:
        schema: dict[str, Any] = {"type": "string"}
        # Shown again for every kind, forty levels would take for ever.
        for _ in range(40):
            schema = {"type": ["object", "null"], "properties": {"inner": schema}}
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        body = {"model": "gpt-4o-mini", "messages": HELLO, "tools": [tool]}
        found = estimate.estimate(body, api="openai.chat")
        assert 40 < found.input_tokens < 20_000

    @pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00", b"GIF89a\x01"])
    def test_bounds_an_image_that_is_cut_off_as_one_of_unknown_size(self, head: bytes) -> None:
        cut = f"data:image/png;base64,{b64encode(head).decode()}"
        far = "https://example.com/a.png"
        cut_off, unknown = (
            estimate.estimate(
                {
                    "model": "gpt-4o-mini",
                    "messages": [
                        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
                    ],
                },
                api="openai.chat",
            ).input_tokens
            for url in (cut, far)
        )
        assert cut_off == unknown

    def test_bounds_parts_and_tool_calls(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}, image]}]
        assert estimate.count_chat(parts, "gpt-4o") == 8 + 85 + 8 * 170
        called = [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": {"name": "f"}}]}
        ]
        assert estimate.count_chat(called, "gpt-4o") > 30

    def test_says_what_it_cannot_bound(self) -> None:
        with pytest.raises(ValueError, match="input_tokens"):
            estimate.count_chat([{"role": "user", "content": [{"type": "file", "file_id": "f"}]}], "gpt-4o")

    def test_counts_bytes_without_the_package(self) -> None:
        code = (
            "import sys; sys.modules['bpe_openai'] = None\n"
            "from noburn_sdk import estimate\n"
            "print(estimate.count_text('hello world', 'gpt-4o'))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "11"

    def test_loads_no_more_of_the_package_than_it_uses(self) -> None:
        code = (
            "import sys, warnings\n"
            "from noburn_sdk import estimate\n"
            "assert estimate.count_text('hello world', 'gpt-4o') == 2\n"
            "assert 'bpe_openai' not in sys.modules\n"
            "warnings.simplefilter('ignore')\n"
            "import bpe_openai\n"
            "print(bpe_openai.get_encoding('o200k_base').encode('hello world'))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[24912, 2375]"


class TestAnthropicBound:
    TEXT = "hello " * 99 + "hello"

    @pytest.mark.parametrize(
        ("model", "percent"),
        [
            ("claude-3-haiku-20240307", 135),
            ("claude-3-5-sonnet-20241022", 135),
            ("claude-haiku-4-5", 135),
            ("claude-sonnet-4-20250514", 135),
            ("claude-opus-4-6", 135),
            ("claude-2.1", 135),
            ("anthropic.claude-haiku-4-5-20251001-v1:0", 135),
            ("claude-opus-4-7", 185),
            ("claude-sonnet-5", 185),
            ("claude-next", 185),
        ],
    )
    def test_follows_the_generation(self, model: str, percent: int) -> None:
        messages = [{"role": "user", "content": self.TEXT}]
        assert estimate.bound_anthropic(messages, model) == 100 * percent // 100 + 12

    def test_adds_system_and_further_turns(self) -> None:
        one = estimate.bound_anthropic(HELLO, "claude-haiku-4-5")
        three = estimate.bound_anthropic(HELLO * 3, "claude-haiku-4-5", system="hello")
        assert (one, three) == (2 + 12, 6 + 12 + 10)
