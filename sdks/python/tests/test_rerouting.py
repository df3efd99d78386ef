"""Another model than was asked for: sent, said, and counted anew where it counts the same text as more."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from decimal import Decimal
from typing import Any

import pytest

from noburn_sdk import estimate
from noburn_sdk._exchange import Outcome, Step
from noburn_sdk._requests import Preflight
from noburn_sdk.errors import UnboundedError
from noburn_sdk.estimate.shape import shape_of
from noburn_sdk.gate import Asked, Gate, HeldCall
from noburn_sdk.integrations.anthropic.endpoints import asked_for
from noburn_sdk.results import Allowed

EARLY, LATE = "claude-haiku-4-5", "claude-opus-4-7"
"""Of the later one the same text is more tokens."""
BODY = {"model": EARLY, "max_tokens": 100, "messages": [{"role": "user", "content": "Count me. " * 500}]}


class Choosing:
    """Answers each question with the next model of its list."""

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        self.questions: list[Preflight] = []

    def decide(self, question: Preflight) -> Generator[Step, Outcome, Allowed]:
        self.questions.append(question)
        model = self.models.pop(0) if len(self.models) > 1 else self.models[0]
        return Allowed(
            authorization=f"nba1.{len(self.questions)}",
            hold_id=None,
            amount_usd=Decimal("0.01"),
            expires_at=None,
            model=model,
            max_output_tokens=100,
            rerouted="policy pol_1: by task",
        )
        yield


def admitted(authority: Choosing, asynchronous: bool) -> tuple[HeldCall, list[Any]]:
    """The call held, and what was put aside for the settler."""
    gate = Gate("nb_live_x", "http://127.0.0.1:1", authority=authority, outbox=False)
    put: list[Any] = []
    gate.settler.put = put.append  # type: ignore[method-assign, assignment]
    asked: Asked | None = asked_for("/v1/messages", BODY)
    assert asked is not None
    try:
        if asynchronous:
            return asyncio.run(gate.admit_async(asked)), put
        return gate.admit(asked), put
    finally:
        gate.close(1.0)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
class TestAnotherModel:
    def test_is_sent(self, asynchronous: bool) -> None:
        authority = Choosing("claude-sonnet-4-5")
        held, put = admitted(authority, asynchronous)
        assert held.body["model"] == "claude-sonnet-4-5"
        assert len(authority.questions) == 1
        assert put == []

    def test_that_counts_more_is_asked_about_again_with_its_count(self, asynchronous: bool) -> None:
        authority = Choosing(LATE)
        held, put = admitted(authority, asynchronous)
        first, second = authority.questions
        more = estimate.estimate(BODY, api="anthropic.messages", model=LATE).input_tokens
        assert first.input_tokens < second.input_tokens == more
        assert first.idempotency_key != second.idempotency_key
        # The hold that was too small is freed.
        assert [(one.op, one.body) for one in put] == [("void", {"authorization": "nba1.1"})]
        assert held.body["model"] == LATE
        assert held.allowed is not None
        assert held.allowed.authorization == "nba1.2"


class TestAnswers:
    def test_that_never_come_to_rest_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, counted = estimate.estimate, [0]

        def more_each_time(*args: Any, **options: Any) -> Any:
            from dataclasses import replace

            counted[0] += 1
            return replace(real(*args, **options), input_tokens=1_000 * counted[0])

        monkeypatch.setattr(estimate, "estimate", more_each_time)
        authority = Choosing(LATE)
        with pytest.raises(UnboundedError):
            admitted(authority, False)
        assert len(authority.questions) == 4


class TestShape:
    @pytest.mark.parametrize(
        ("api", "body", "found"),
        [
            ("openai.chat", {"messages": [{}, {}]}, {"output": "text", "steps": 2}),
            (
                "openai.chat",
                {"messages": [], "response_format": {"type": "json_schema"}},
                {"output": "schema", "steps": 0},
            ),
            ("openai.chat", {"response_format": {"type": "json_object"}}, {"output": "json"}),
            ("openai.chat", {"response_format": {"type": "odd"}}, {}),
            (
                "openai.responses",
                {"input": "x", "text": {"format": {"type": "json_schema"}}},
                {"output": "schema"},
            ),
            ("openai.responses", {"input": [{}]}, {"output": "text", "steps": 1}),
            (
                "anthropic.messages",
                {"messages": [{}], "output_config": {"format": {"type": "json_schema"}}},
                {"output": "schema", "steps": 1},
            ),
            ("openai.embeddings", {"input": "x"}, {}),
        ],
    )
    def test_is_what_the_request_says_and_no_content(self, api: Any, body: Any, found: Any) -> None:
        assert shape_of(api, body) == found
