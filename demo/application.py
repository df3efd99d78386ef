"""The application whose calls noburn guards: the real OpenAI and Anthropic clients through `noburn_sdk`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import anthropic
import noburn_sdk
import openai
from anthropic.types import MessageParam
from noburn_sdk import estimate
from noburn_sdk import usage as usages
from noburn_sdk.results import Allowed, Settled
from openai.types.chat import ChatCompletionMessageParam

from demo.truth import Refusal, nano
from tests.doubles.provider import ProviderDouble

GPT = "gpt-4o-mini"
CLAUDE = "claude-haiku-4-5"
PROVIDER_SECONDS = 60.0
JOIN_SECONDS = 0.05


@dataclass(frozen=True)
class Unsettled:
    """A call that was made while noburn could not take its settle: it is told again later."""

    allowed: Allowed
    usage: Any


class Tally:
    """What the application saw, counted under a lock. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = 0
        self.allowed = 0
        self.answered_nano = 0
        self.refusals: list[Refusal] = []
        self.unavailable: list[str] = []
        self.allowed_by: dict[str | None, int] = {}
        self.spans: list[tuple[float, float]] = []
        """When each allowed call asked, and when it was allowed."""
        self.outbox: list[Unsettled] = []

    def ask(self) -> float:
        with self._lock:
            self.asked += 1
        return time.monotonic()

    def allow(self, asked_at: float, subject: str | None) -> None:
        with self._lock:
            self.allowed += 1
            self.allowed_by[subject] = self.allowed_by.get(subject, 0) + 1
            self.spans.append((asked_at, time.monotonic()))

    def refuse(self, error: noburn_sdk.NoburnError, subject: str | None) -> None:
        reason = getattr(error, "reason", "price_unknown")
        cost: Decimal | None = getattr(error, "estimate_usd", None)
        refusal = Refusal(
            reason,
            getattr(error, "budget_id", None),
            subject,
            None if cost is None else nano(cost),
            str(error),
        )
        with self._lock:
            self.refusals.append(refusal)

    def give_up(self, error: Exception) -> None:
        with self._lock:
            self.unavailable.append(str(error))

    def settle(self, settled: Settled) -> None:
        if settled.cost_usd is None:
            raise ValueError(f"a settle answered no cost: {settled}")
        with self._lock:
            self.answered_nano += nano(settled.cost_usd)

    def keep(self, unsettled: Unsettled) -> None:
        with self._lock:
            self.outbox.append(unsettled)


class Application:
    """An application with one label in the provider's ledger; safe to use from many threads."""

    def __init__(self, *, nb: noburn_sdk.Noburn, double: ProviderDouble, label: str) -> None:
        self._nb = nb
        self.tally = Tally()
        headers = {"x-double-label": label}
        # No hidden retries: each attempt of a call is a call of its own.
        self._openai = openai.OpenAI(
            base_url=double.openai_url,
            api_key="sk-demo",
            max_retries=0,
            timeout=PROVIDER_SECONDS,
            default_headers=headers,
        )
        self._anthropic = anthropic.Anthropic(
            base_url=double.anthropic_url,
            api_key="sk-demo",
            max_retries=0,
            timeout=PROVIDER_SECONDS,
            default_headers=headers,
        )

    def chat(self, text: str, *, cap: int | None = None, **who: Any) -> bool:
        """Asks OpenAI something. Returns whether the call was made; noburn's refusals are counted, not raised."""
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": text}]
        tokens = chat_tokens(text)

        def call_openai(call: noburn_sdk.Call) -> Any:
            return self._openai.chat.completions.create(
                model=call.model, messages=messages, max_completion_tokens=call.max_output_tokens
            )

        return self._guarded(call_openai, GPT, tokens, cap, who)

    def claude(self, text: str, *, cap: int, stream: bool, **who: Any) -> bool:
        """Asks Anthropic something, whole or as a stream; otherwise as `chat`."""
        messages: list[MessageParam] = [{"role": "user", "content": text}]
        tokens = claude_tokens(text)

        def call_anthropic(call: noburn_sdk.Call) -> Any:
            most = call.max_output_tokens or cap
            if not stream:
                return self._anthropic.messages.create(model=call.model, messages=messages, max_tokens=most)
            start: Any = None
            last: Any = None
            for event in self._anthropic.messages.create(
                model=call.model, messages=messages, max_tokens=most, stream=True
            ):
                if event.type == "message_start":
                    start = event.message
                elif event.type == "message_delta":
                    last = event.usage
            return usages.from_anthropic(start, delta=last)

        return self._guarded(call_anthropic, CLAUDE, tokens, cap, who)

    def _guarded(
        self,
        provider_call: Callable[[noburn_sdk.Call], Any],
        model: str,
        tokens: int,
        cap: int | None,
        who: dict[str, Any],
    ) -> bool:
        subject = who.get("customer")
        asked_at = self.tally.ask()
        try:
            with self._nb.call(model=model, input_tokens=tokens, max_output_tokens=cap, **who) as call:
                self.tally.allow(asked_at, subject)
                answer = provider_call(call)
                try:
                    self.tally.settle(call.settle(answer))
                except noburn_sdk.UnavailableError:
                    self.tally.keep(Unsettled(call.allowed, answer))
        except (noburn_sdk.BudgetExceededError, noburn_sdk.PriceUnknownError) as error:
            self.tally.refuse(error, subject)
            return False
        except noburn_sdk.UnavailableError as error:
            self.tally.give_up(error)
            return False
        return True

    def settle_late(self) -> int:
        """Settles what could not be settled when it happened; returns how many calls that were."""
        late, self.tally.outbox = self.tally.outbox, []
        for item in late:
            self.tally.settle(self._nb.settle(item.allowed, usage=item.usage))
        return len(late)

    def close(self) -> None:
        """Closes the providers' connections."""
        self._openai.close()
        self._anthropic.close()


def chat_tokens(text: str) -> int:
    """Returns the exact input tokens of `Application.chat`."""
    return estimate.count_chat([{"role": "user", "content": text}], GPT)


def claude_tokens(text: str) -> int:
    """Returns the bound of the input tokens of `Application.claude`."""
    return estimate.bound_anthropic([{"role": "user", "content": text}], CLAUDE)


def together(jobs: Sequence[Callable[[], object]], watch: Callable[[], None]) -> None:
    """Runs the jobs in threads that start at the same moment, and `watch` meanwhile. Raises the first error."""
    go, errors = threading.Event(), list[BaseException]()

    def run(job: Callable[[], object]) -> None:
        go.wait()
        try:
            job()
        except BaseException as error:
            errors.append(error)

    # Daemons: after a Ctrl-C nobody waits for them.
    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        while thread.is_alive():
            thread.join(JOIN_SECONDS)
            watch()
    watch()
    if errors:
        raise errors[0]
