"""Integrations in a process alone: switching on and off, the clients of clouds, streams as bytes."""

from __future__ import annotations

import base64
import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic import AnthropicBedrock, AnthropicVertex

import noburn_sdk
import noburn_sdk.anthropic
import noburn_sdk.openai
from noburn_sdk import (
    AuthenticationError,
    BudgetExceededError,
    Gate,
    InvalidRequestError,
    StreamCutError,
    UnboundedError,
)
from noburn_sdk.integrations.anthropic.meters import MessagesMeter
from noburn_sdk.integrations.openai.meters import ChatMeter, ResponsesMeter
from noburn_sdk.testing import MemoryGate, MemoryPlane
from noburn_sdk.testing.plugin import noburn_plane as noburn_plane

MESSAGES: Any = [{"role": "user", "content": "hi"}]
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 8, "output_tokens": 2},
}


class Wire:
    """A transport that answers every request with one body and remembers them."""

    def __init__(self, body: Any, kind: str = "application/json", *, whole: bool = False) -> None:
        self.requests: list[httpx2.Request] = []
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        # Parts, so that nothing is read before somebody reads it, as from a socket.
        self._content: Any = content
        self._kind, self._whole = kind, whole

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        content = self._content if self._whole else iter([self._content])
        return httpx2.Response(200, headers={"content-type": self._kind}, content=content)

    def client(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(self))

    @property
    def sent(self) -> dict[str, Any]:
        """The last body."""
        value: dict[str, Any] = json.loads(self.requests[-1].content)
        return value


def openai_client(wire: Wire, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", max_retries=0, http_client=wire.client(), **options)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chunk(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    } | more


class TestSwitching:
    def test_is_idempotent_and_puts_back_exactly_what_was_there(self, noburn_plane: MemoryPlane) -> None:
        from anthropic import _base_client

        kinds = (openai.OpenAI, openai.AsyncOpenAI, _base_client.SyncAPIClient, _base_client.AsyncAPIClient)
        before = [dict(vars(kind)) for kind in kinds]
        assert noburn_sdk.instrument() == ("openai", "anthropic")
        once = [dict(vars(kind)) for kind in kinds]
        assert once != before
        assert noburn_sdk.instrument("openai") == ("openai", "anthropic")
        assert [dict(vars(kind)) for kind in kinds] == once
        noburn_sdk.uninstrument("openai")
        assert dict(vars(openai.OpenAI)) == before[0]
        assert dict(vars(_base_client.SyncAPIClient)) == once[2]
        noburn_sdk.uninstrument()
        noburn_sdk.uninstrument()
        assert [dict(vars(kind)) for kind in kinds] == before

    def test_leaves_alone_what_somebody_replaced_since(
        self, noburn_plane: MemoryPlane, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openai.OpenAI, "_send_request", openai.OpenAI._send_request)
        noburn_sdk.instrument("openai")
        mine = lambda self, request, **options: None  # noqa: E731
        monkeypatch.setattr(openai.OpenAI, "_send_request", mine)
        noburn_sdk.uninstrument()
        assert vars(openai.OpenAI)["_send_request"] is mine
        assert "replaced by somebody else" in caplog.text

    def test_names_what_it_does_not_know(self, noburn_plane: MemoryPlane) -> None:
        with pytest.raises(InvalidRequestError, match="no_such"):
            noburn_sdk.instrument("no_such")
        with pytest.raises(InvalidRequestError, match="can be wrapped"):
            noburn_sdk.wrap(object())

    def test_gates_once_where_several_gates_meet(self, noburn_plane: MemoryPlane) -> None:
        noburn_sdk.instrument("openai", "anthropic")
        wire, other = Wire(CHAT), Wire(MESSAGE)
        dropped = noburn_sdk.openai.OpenAI(api_key="k", http_client=wire.client())
        noburn_sdk.wrap(dropped).chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        claude = noburn_sdk.anthropic.Anthropic(api_key="k", http_client=other.client())
        wrapped = noburn_sdk.wrap(claude.with_options(timeout=5), customer="acme")
        wrapped.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES)
        assert len(noburn_plane.decisions) == 2
        assert noburn_plane.decisions[1].subject == {"customer": "acme"}

    def test_survives_with_options(self, noburn_plane: MemoryPlane) -> None:
        wire = Wire(CHAT)
        for client in (
            noburn_sdk.openai.OpenAI(api_key="k", http_client=wire.client()),
            noburn_sdk.wrap(openai_client(wire)),
        ):
            client.with_options(timeout=5).chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        assert len(noburn_plane.decisions) == 2

    def test_lets_pass_what_is_ungated(self, noburn_plane: MemoryPlane) -> None:
        wire = Wire(CHAT)
        client = noburn_sdk.wrap(openai_client(wire))
        with noburn_sdk.ungated():
            client.chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES, extra_headers={"x-noburn-customer": "acme"}
            )
        assert noburn_plane.decisions == []
        assert [name for name in wire.requests[0].headers if name.startswith("x-noburn")] == []


class TestWithoutAKey:
    def test_says_so_once_and_sends_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOBURN_API_KEY", raising=False)
        wire, other = Wire(CHAT), Wire(MESSAGE)
        with pytest.raises(AuthenticationError) as found:
            noburn_sdk.wrap(openai.OpenAI(api_key="k", http_client=wire.client())).embeddings.create(
                model="text-embedding-3-small", input="hi"
            )
        assert isinstance(found.value, openai.OpenAIError)
        with pytest.raises(AuthenticationError):
            noburn_sdk.anthropic.Anthropic(api_key="k", http_client=other.client()).messages.create(
                model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES
            )
        assert wire.requests == other.requests == []


class TestOpenAI:
    def test_takes_attribution_from_headers_and_keeps_it_to_itself(self, noburn_plane: MemoryPlane) -> None:
        wire = Wire(CHAT)
        client = noburn_sdk.wrap(openai_client(wire, default_headers={"x-noburn-user": "u1"}), run="r1")
        client.chat.completions.create(
            model="gpt-4o-mini",
            messages=MESSAGES,
            extra_headers={"x-noburn-customer": "acme", "x-noburn-tags": "feature=chat"},
        )
        (decision,) = noburn_plane.decisions
        assert decision.subject == {"customer": "acme", "user": "u1", "run": "r1"}
        assert decision.tags == {"feature": "chat"}
        assert [name for name in wire.requests[0].headers if name.startswith("x-noburn")] == []
        assert wire.sent == {"model": "gpt-4o-mini", "messages": MESSAGES, "max_completion_tokens": 4096}

    @pytest.mark.parametrize(
        "call",
        [
            lambda c: c.images.generate(model="gpt-image-1", prompt="a cat"),
            lambda c: c.audio.speech.create(model="tts-1", voice="alloy", input="hi"),
            lambda c: c.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF" * 9)),
            lambda c: c.batches.create(
                input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h"
            ),
            lambda c: c.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="f"),
            lambda c: c.realtime.client_secrets.create(),
        ],
        ids=["images", "speech", "transcription", "batches", "fine-tuning", "realtime"],
    )
    def test_refuses_what_it_cannot_bound_until_somebody_does(
        self, noburn_plane: MemoryPlane, call: Any
    ) -> None:
        wire = Wire({"usage": {"input_tokens": 5, "output_tokens": 7}})
        client = noburn_sdk.wrap(openai_client(wire))
        with pytest.raises(UnboundedError, match="cost_usd") as refusal:
            call(client)
        assert isinstance(refusal.value, openai.OpenAIError)
        assert wire.requests == []
        with noburn_sdk.context(cost_usd="0.5"):
            call(client)
        assert len(wire.requests) == 1
        assert noburn_plane.decisions[0].asked["cost_usd"] == "0.5"
        assert noburn_sdk.flush(60)
        assert len(noburn_plane.settlements) == 1

    def test_settles_images_and_transcriptions_by_their_own_usage(self, noburn_plane: MemoryPlane) -> None:
        image = {"input_tokens": 50, "output_tokens": 272, "input_tokens_details": {"image_tokens": 40}}
        heard = {"type": "duration", "seconds": 12.2}
        calls: tuple[tuple[Any, Any], ...] = (
            (image, lambda c: c.images.generate(model="gpt-image-1", prompt="a cat")),
            (heard, lambda c: c.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF"))),
        )
        for used, call in calls:
            with noburn_sdk.context(cost_usd="0.5"):
                call(noburn_sdk.wrap(openai_client(Wire({"created": 1, "text": "", "usage": used}))))
        assert noburn_sdk.flush(60)
        assert [one.decision.model for one in noburn_plane.settlements] == ["gpt-image-1", "whisper-1"]
        assert [(one.usage or {})["units"] for one in noburn_plane.settlements] == [
            {"input_image_tokens": 40},
            {"audio_seconds": 13},
        ]

    def test_bars_sockets(self, noburn_plane: MemoryPlane) -> None:
        noburn_sdk.instrument("openai")
        with pytest.raises(UnboundedError, match="socket"):
            openai_client(Wire({})).realtime.connect(model="gpt-realtime")

    def test_lets_pass_what_is_free(self, noburn_plane: MemoryPlane) -> None:
        wire = Wire({"data": [], "object": "list"})
        client = noburn_sdk.wrap(openai_client(wire))
        client.models.list()
        client.moderations.create(input="hi")
        client.responses.cancel("resp_1")
        assert len(wire.requests) == 3
        assert noburn_plane.decisions == []

    def test_reads_raw_and_streaming_responses(self, noburn_plane: MemoryPlane) -> None:
        client = noburn_sdk.wrap(openai_client(Wire(CHAT)))
        create = client.chat.completions
        raw = create.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES)
        assert raw.parse().usage == openai.types.CompletionUsage(
            prompt_tokens=8, completion_tokens=2, total_tokens=10
        )
        with create.with_streaming_response.create(model="gpt-4o-mini", messages=MESSAGES) as streamed:
            assert json.loads(b"".join(streamed.iter_bytes())) == CHAT
            assert streamed.http_response.elapsed is not None
        assert noburn_sdk.flush(60)
        assert [(one.usage or {})["output_tokens"] for one in noburn_plane.settlements] == [2, 2]

    @pytest.mark.parametrize("whole", [False, True])
    def test_takes_usage_out_of_a_stream_that_did_not_ask(
        self, noburn_plane: MemoryPlane, whole: bool
    ) -> None:
        last = chunk("", choices=[], usage=CHAT["usage"])
        body = sse(chunk("o", usage=None), chunk("k", usage=None), last) + b"data: [DONE]\n\n"
        wire = Wire(body, "text/event-stream", whole=whole)
        client = noburn_sdk.wrap(openai_client(wire))
        quiet = list(client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True))
        assert [one.choices[0].delta.content for one in quiet] == ["o", "k"]
        assert wire.sent["stream_options"] == {"include_usage": True}
        told = list(
            client.chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        )
        assert told[-1].usage is not None
        assert noburn_sdk.flush(60)
        assert [(one.usage or {})["output_tokens"] for one in noburn_plane.settlements] == [2, 2]

    def test_reads_the_helpers(self, noburn_plane: MemoryPlane) -> None:
        last = chunk("", choices=[], usage=CHAT["usage"])
        client = noburn_sdk.wrap(
            openai_client(Wire(sse(chunk("ok"), last) + b"data: [DONE]\n\n", "text/event-stream"))
        )
        with client.chat.completions.stream(model="gpt-4o-mini", messages=MESSAGES) as stream:
            assert [event.delta for event in stream if event.type == "content.delta"] == ["ok"]
        parsed = noburn_sdk.wrap(openai_client(Wire(CHAT))).chat.completions.parse(
            model="gpt-4o-mini", messages=MESSAGES
        )
        assert parsed.choices[0].message.content == "ok"
        assert noburn_sdk.flush(60)
        assert [one.state for one in noburn_plane.settlements] == ["settled", "settled"]

    def test_presumes_what_runs_in_the_background(self, noburn_plane: MemoryPlane) -> None:
        queued: dict[str, Any] = {
            "id": "resp_1",
            "object": "response",
            "status": "queued",
            "output": [],
            "usage": None,
        }
        client = noburn_sdk.wrap(openai_client(Wire(queued)))
        client.responses.create(model="gpt-4o-mini", input="hi", background=True)
        assert noburn_sdk.flush(60)
        assert [one.state for one in noburn_plane.settlements] == ["presumed"]

    def test_reads_azures_addresses(self, noburn_plane: MemoryPlane) -> None:
        wire = Wire(CHAT)
        azure = openai.AzureOpenAI(
            api_key="k",
            api_version="2024-10-21",
            azure_endpoint="https://acme.openai.azure.com",
            http_client=wire.client(),
        )
        noburn_sdk.wrap(azure).chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        assert noburn_plane.decisions[0].asked["provider"] == "azure"
        assert wire.requests[0].url.path.endswith("/deployments/gpt-4o-mini/chat/completions")

    def test_cuts_a_stream_at_its_hold(self, noburn_plane: MemoryPlane) -> None:
        gate: Gate = noburn_sdk.configure(gate=MemoryGate(noburn_plane))
        wire = Wire(sse(*(chunk(" ok") for _ in range(50))), "text/event-stream")
        client = noburn_sdk.wrap(openai_client(wire))
        admit = gate.admit

        def limited(asked: Any) -> Any:
            held = admit(asked)
            held.tokens_max = 10
            return held

        gate.admit = limited  # type: ignore[method-assign]
        stream = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        with pytest.raises(StreamCutError) as cut:
            list(stream)
        assert isinstance(cut.value, openai.OpenAIError)
        assert isinstance(cut.value, BudgetExceededError)
        assert noburn_sdk.flush(60)
        (settled,) = noburn_plane.settlements
        assert (settled.state, settled.outcome) == ("settled", "cut")


class TestAnthropic:
    def client(self, wire: Wire) -> anthropic.Anthropic:
        return noburn_sdk.wrap(  # type: ignore[no-any-return]
            anthropic.Anthropic(api_key="k", max_retries=0, http_client=wire.client())
        )

    def test_takes_attribution_from_headers_and_keeps_it_to_itself(self, noburn_plane: MemoryPlane) -> None:
        wire = Wire(MESSAGE)
        self.client(wire).messages.create(
            model="claude-haiku-4-5",
            max_tokens=5,
            messages=MESSAGES,
            extra_headers={"x-noburn-customer": "acme"},
        )
        (decision,) = noburn_plane.decisions
        assert decision.subject == {"customer": "acme"}
        assert decision.asked["provider"] == "anthropic"
        assert [name for name in wire.requests[0].headers if name.startswith("x-noburn")] == []

    def test_refuses_batches_and_lets_counting_pass(self, noburn_plane: MemoryPlane) -> None:
        wire = Wire({"input_tokens": 8})
        client = self.client(wire)
        client.messages.count_tokens(model="claude-haiku-4-5", messages=MESSAGES)
        assert noburn_plane.decisions == []
        params: Any = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": MESSAGES}
        with pytest.raises(UnboundedError, match="batch") as refusal:
            client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
        assert isinstance(refusal.value, anthropic.AnthropicError)
        assert len(wire.requests) == 1

    def test_gates_the_clients_of_clouds(self, noburn_plane: MemoryPlane) -> None:
        noburn_sdk.instrument("anthropic")
        wire = Wire(MESSAGE)
        bedrock = AnthropicBedrock(api_key="k", aws_region="us-east-1", http_client=wire.client())
        vertex = AnthropicVertex(
            region="us-east5", project_id="p", access_token="t", http_client=wire.client()
        )
        for client, model in (
            (bedrock, "anthropic.claude-haiku-4-5-20251001-v1:0"),
            (vertex, "claude-haiku-4-5@20251001"),
        ):
            client.messages.create(model=model, max_tokens=5, messages=MESSAGES)
        assert [one.asked["provider"] for one in noburn_plane.decisions] == ["aws", "google"]
        assert "/model/anthropic.claude-haiku" in wire.requests[0].url.path
        assert noburn_sdk.flush(60)
        assert [one.state for one in noburn_plane.settlements] == ["settled", "settled"]

    def test_lets_clients_be_once_it_is_switched_off(self, noburn_plane: MemoryPlane) -> None:
        noburn_sdk.instrument("anthropic")
        client = anthropic.Anthropic(api_key="k", http_client=Wire(MESSAGE).client())
        noburn_sdk.uninstrument("anthropic")
        client.messages.create(model="claude-haiku-4-5", max_tokens=5, messages=MESSAGES)
        assert noburn_plane.decisions == []


class TestMeters:
    START = {
        "type": "message_start",
        "message": {"model": "claude-haiku-4-5", "usage": {"input_tokens": 9, "output_tokens": 1}},
    }
    TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " ok" * 40}}
    END = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 41},
    }

    @staticmethod
    def frame(event: dict[str, Any]) -> bytes:
        payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
        headers = b"\x0b:event-type\x07\x00\x05chunk"
        total = 16 + len(headers) + len(payload)
        return (
            total.to_bytes(4, "big") + len(headers).to_bytes(4, "big") + b"crc1" + headers + payload + b"crc2"
        )

    @pytest.mark.parametrize("step", [1, 7, 10_000])
    def test_read_aws_frames(self, step: int) -> None:
        meter = MessagesMeter("claude-haiku-4-5")
        content = b"".join(self.frame(event) for event in (self.START, self.TEXT, self.END))
        passed = b"".join(meter.feed(content[at : at + step]) for at in range(0, len(content), step))
        assert passed == content
        assert meter.finished
        assert meter.usage() == noburn_sdk.Usage(9, 41)

    @pytest.mark.parametrize("step", [1, 13, 10_000])
    def test_read_events_however_they_are_cut(self, step: int) -> None:
        meter = MessagesMeter("claude-haiku-4-5")
        content = sse(self.START, self.TEXT, self.END)
        assert b"".join(meter.feed(content[at : at + step]) for at in range(0, len(content), step)) == content
        assert meter.usage() == noburn_sdk.Usage(9, 41)

    def test_know_nothing_of_what_was_thought(self) -> None:
        meter = MessagesMeter("claude-haiku-4-5")
        thought = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}}
        meter.feed(sse(self.START, thought, self.TEXT))
        assert meter.seen(None) is None

    @pytest.mark.parametrize("step", [1, 9, 10_000])
    def test_withhold_one_event_whole(self, step: int) -> None:
        meter = ChatMeter("gpt-4o-mini", strips=True)
        kept = sse(chunk("a"), chunk("b"))
        content = kept + sse(chunk("", choices=[], usage=CHAT["usage"])) + b"data: [DONE]\n\n"
        passed = b"".join(meter.feed(content[at : at + step]) for at in range(0, len(content), step))
        assert passed + meter.end() == kept + b"data: [DONE]\n\n"
        assert meter.usage() == noburn_sdk.Usage(8, 2)

    def test_note_failures_inside(self) -> None:
        chat, responses = ChatMeter("gpt-4o-mini"), ResponsesMeter("gpt-4o-mini")
        chat.feed(sse({"error": {"message": "x"}}))
        responses.feed(sse({"type": "error", "message": "x"}))
        assert (chat.failed, responses.failed) == (True, True)
