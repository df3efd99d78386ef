"""The gate: asks about a call before it is made, says what to send, and sees to it that its hold ends.

Every integration stands on `Gate.admit` and `Gate.admit_async`; both follow the same steps, which neither send
nor sleep by themselves.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn
from uuid import uuid4

from noburn_sdk import _answers, _calls, attribution, estimate, telemetry
from noburn_sdk._config import logger, read_config
from noburn_sdk._exchange import Outcome, Patience, Step
from noburn_sdk._requests import WAIT_MS_MAX, Preflight
from noburn_sdk.async_client import AsyncNoburn
from noburn_sdk.attribution import Attribution
from noburn_sdk.client import _AROUND, Noburn
from noburn_sdk.errors import InvalidRequestError, NoburnError, UnavailableError, UnboundedError
from noburn_sdk.estimate.shape import shape_of
from noburn_sdk.gate import watch
from noburn_sdk.gate.allowance import Allowance
from noburn_sdk.gate.authority import Authority, ServerAuthority
from noburn_sdk.gate.background import Background
from noburn_sdk.gate.breaker import Breaker
from noburn_sdk.gate.endpoints import Asked
from noburn_sdk.gate.fingerprints import fingerprint
from noburn_sdk.gate.held import HeldCall
from noburn_sdk.gate.prices import PriceCache, bound_nano_of, tokens_within
from noburn_sdk.gate.settings import Settings
from noburn_sdk.leases import Drawn, Leases
from noburn_sdk.results import Allowed, Denied, Settled
from noburn_sdk.settling import Outbox, Resolution, Settler, default_directory
from noburn_sdk.usage import Usage

COUNTED_MAX = 3
"""How often one call is counted anew because it is to use another model."""
CAP_UNASKED = 4_096
"""The cap of a call that names none while noburn cannot say the tenant's default."""

_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


class Gate:
    """Asks noburn about calls and settles them in the background; one for a process, safe for its threads.

    `api_key` and `base_url` default to NOBURN_API_KEY and NOBURN_BASE_URL; `settings` are those of `Settings`.
    `defaults` says whom calls are for where nothing more specific does. `authority` decides instead of the
    server, where given. Raises AuthenticationError without a key, InvalidRequestError for bad settings.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        defaults: Attribution | None = None,
        authority: Authority | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings(**settings)
        self.defaults = defaults or Attribution()
        self._config = read_config(
            api_key=api_key,
            base_url=base_url,
            timeout=self.settings.timeout,
            wait_ms=self.settings.wait_ms,
            busy_timeout=self.settings.busy_timeout,
            max_retries=self.settings.max_retries,
            retry_timeout=self.settings.retry_timeout,
        )
        self._key = self._config.headers["Authorization"].removeprefix("Bearer ")
        patience = Patience(
            self.settings.max_retries,
            self.settings.retry_timeout,
            self.settings.wait_ms,
            self.settings.busy_timeout,
        )
        self.authority: Authority = authority or ServerAuthority(patience, _AROUND)
        self.breaker = Breaker(_AROUND.clock)
        self.allowance: Allowance | None = None
        if self.settings.on_unavailable == "allow":
            most = Decimal(self.settings.allow_usd_max or 0)
            self.allowance = Allowance(most, lambda: datetime.now(timezone.utc).date())
        self.observed: Callable[[Asked, Denied], None] | None = None
        """Called with each call that would have been refused, in mode observe."""
        self._telemetry = telemetry.load()
        self._closed = False
        self._begin()
        if self.settings.outbox is not False:
            # What an earlier process left is delivered now, not only when this one settles something.
            self.settler.start()
        _gates.add(self)

    def _begin(self) -> None:
        """Makes what belongs to this process alone: connections, threads, the outbox's file."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._client: Noburn | None = None
        self._async_client: AsyncNoburn | None = None
        self._background = self._asker()
        self.settler = Settler(self._patient_client, self._outbox(), told=self._told)
        self.leases: Leases | None = None
        if self.settings.leases and self.settings.mode == "enforce":
            self.leases = Leases(
                self._patient_client, self.settler, ttl_seconds=self.settings.ttl_seconds, clock=_AROUND.clock
            )
        wants = self.settings.cut_streams or self.allowance is not None
        self.prices = PriceCache(self._patient_client) if wants else None

    def _asker(self) -> Background:
        return Background()

    def _outbox(self) -> Outbox | None:
        if self.settings.outbox is False:
            return None
        usual = default_directory(self._config.base_url, self._key)
        named = self.settings.outbox
        return Outbox(usual if named is None else type(usual)(named) / usual.name)

    @property
    def base_url(self) -> str:
        """Where noburn is."""
        return self._config.base_url

    def want_prices(self) -> PriceCache:
        """Returns the prices held here; the first call begins to fetch them."""
        if self.prices is None:
            self.prices = PriceCache(self._patient_client)
        return self.prices

    def _options(self) -> dict[str, Any]:
        chosen = self.settings
        return {
            "timeout": chosen.timeout,
            "wait_ms": chosen.wait_ms,
            "busy_timeout": chosen.busy_timeout,
            "max_retries": chosen.max_retries,
            "retry_timeout": chosen.retry_timeout,
        }

    def _patient_client(self) -> Noburn:
        """A client for the background, where nobody waits."""
        return self._new_client(timeout=10.0, max_retries=2, retry_timeout=10.0)

    def _new_client(self, **options: Any) -> Noburn:
        return Noburn(self._key, self._config.base_url, **options)

    def _new_async_client(self, **options: Any) -> AsyncNoburn:
        return AsyncNoburn(self._key, self._config.base_url, **options)

    def client(self) -> Noburn:
        """The client that callers in threads are asked through."""
        with self._lock:
            if self._client is None:
                self._client = self._new_client(**self._options())
            return self._client

    # Admission

    def admit(self, asked: Asked) -> HeldCall:
        """Asks about an attempt and returns it held. Raises NoburnError for whatever forbids it."""
        return self._admit(asked, lambda steps: self._drive(steps))

    def _drive(self, steps: Generator[Step, Outcome, Allowed | Denied]) -> Allowed | Denied:
        return self.client()._run(steps)

    def _admit(
        self,
        asked: Asked,
        drive: Callable[[Generator[Step, Outcome, Allowed | Denied]], Allowed | Denied],
    ) -> HeldCall:
        asking = Asking(self, asked)
        try:
            if (drawn := asking.drawn()) is not None:
                return asking.decided(drawn)
            if asking.question is None or not asking.may_ask():
                return asking.without()
            while True:
                try:
                    decision = drive(self.authority.decide(asking.question))
                except NoburnError as error:
                    return asking.undecided(error)
                except BaseException:
                    asking.reclaim()
                    raise
                if not asking.counts_anew(decision):
                    return asking.decided(decision)
        except NoburnError as error:
            asking.refused(error)
            raise

    async def admit_async(self, asked: Asked) -> HeldCall:
        """Does what `admit` does, awaited. A caller that is cancelled while it waits leaves no hold behind."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            # Another event loop than asyncio's: its callers wait for a thread.
            import anyio.to_thread

            return await anyio.to_thread.run_sync(self.admit, asked)
        asking = await self._bounded(asked)
        try:
            if (drawn := asking.drawn()) is not None:
                return asking.decided(drawn)
            while asking.question is not None:
                try:
                    done = await self._turn(asking)
                except UnavailableError as error:
                    return asking.without(error)
                if not asking.may_ask():
                    done()
                    break
                work = partial(self._drive_async, self.authority.decide(asking.question), done)
                try:
                    decision = await self._background.ask(work, asking.abandoned)
                except NoburnError as error:
                    return asking.undecided(error)
                if not asking.counts_anew(decision):
                    return asking.decided(decision)
            return asking.without()
        except NoburnError as error:
            asking.refused(error)
            raise

    async def _turn(self, asking: Asking) -> Callable[[], None]:
        """Waits until this call may ask; what it returns is called once it has asked. Raises UnavailableError."""
        del asking
        return lambda: None

    async def _bounded(self, asked: Asked) -> Asking:
        return Asking(self, asked)

    async def _drive_async(
        self, steps: Generator[Step, Outcome, Allowed | Denied], done: Callable[[], None]
    ) -> Allowed | Denied:
        try:
            if self._async_client is None:
                self._async_client = self._new_async_client(**self._options())
            return await self._async_client._run(steps)
        finally:
            done()

    def _told(self, resolution: Resolution, result: Settled) -> None:
        if self._telemetry is not None:
            model = resolution.body.get("draw", resolution.body).get("model")
            self._telemetry.settled(model if isinstance(model, str) else "", result)
        if result.overrun_usd:
            logger.info("%s cost %s USD more than it held", resolution.key, result.overrun_usd)

    # The end

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until every settlement so far has arrived; False if that took too long."""
        return self.settler.flush(self.settings.flush_timeout if timeout is None else timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Flushes and closes everything. False if settlements are left in the outbox."""
        if self._closed:
            return True
        self._closed = True
        seconds = self.settings.flush_timeout if timeout is None else timeout
        if self._pid != os.getpid():
            return True
        self._background.close(self._aclose, seconds)
        if self.leases is not None:
            # A lease is given back once what was drawn of it is told.
            self.settler.flush(seconds)
            self.leases.close(seconds)
        done = self.settler.close(seconds)
        if self._client is not None:
            self._client.close()
        if self.prices is not None:
            self.prices.close()
        if not done:
            logger.warning("settlements are left in the outbox, for the next process")
        return done

    async def _aclose(self) -> None:
        if self._async_client is not None:
            await self._async_client.aclose()

    def _forked(self) -> None:
        """A child starts afresh: connections, threads and the outbox's file are the parent's."""
        self.settler.leave()
        if not self._closed:
            self._begin()


class Asking:
    """The steps of one admission, without the asking itself."""

    def __init__(self, gate: Gate, asked: Asked) -> None:
        self._gate = gate
        self._settings = gate.settings
        said = asked.said.over(attribution.current()).over(asked.framework)
        self.said = said.over(attribution.framework()).over(gate.defaults)
        self.asked = replace(asked, provider=self.said.provider or asked.provider)
        self.estimate: estimate.Estimate | None = None
        self._span = gate._telemetry.begin(self.asked) if gate._telemetry is not None else None
        self.question: Preflight | None = None
        self._counted = 0
        self._may_ask = False
        try:
            self.question = self._question()
        except NoburnError as error:
            if not self.observes:
                self.refused(error)
                raise
            logger.warning("observed: %s would be refused: %s", self.asked.endpoint.name, error)

    @property
    def observes(self) -> bool:
        """Whether nothing is refused."""
        return self._settings.mode == "observe"

    def _question(self) -> Preflight:
        endpoint, said = self.asked.endpoint, self.said
        options: dict[str, Any]
        if endpoint.api is not None:
            self.estimate = estimate.estimate(
                self.asked.body,
                api=endpoint.api,
                model=self.asked.model,
                max_output_tokens=said.max_output_tokens or self._settings.max_output_tokens,
                max_input_tokens=said.max_input_tokens,
            )
            options = {**self.estimate.options(), **shape_of(endpoint.api, self.asked.body)}
        else:
            found = endpoint.bound(self.asked.body) if endpoint.bound is not None else None
            if found is None and said.cost_usd is None:
                raise UnboundedError(
                    f"noburn cannot bound this call of {endpoint.name}: {endpoint.why}. Say what it costs at most: "
                    'with noburn_sdk.context(cost_usd="0.25"), or the header x-noburn-cost-usd',
                    model=self.asked.model,
                    provider=self.asked.provider,
                )
            options = {"input_tokens": 0, "max_output_tokens": 1, **(found or {}), "model": self.asked.model}
        waits = self._settings.wait_ms if self.asked.wait_ms is None else self.asked.wait_ms
        waits = 0 if self.observes else waits
        options |= said.options()
        if self.asked.provider:
            options["provider"] = self.asked.provider
        return Preflight(
            **options,
            fit=self.asked.fit,
            ttl_seconds=self._settings.ttl_seconds,
            wait_ms=min(waits, WAIT_MS_MAX, int(self._settings.busy_timeout * 1000)),
            fingerprint=fingerprint(
                self.asked.model, self.asked.body, key=self._gate._key, size=self.asked.size
            ),
            idempotency_key=uuid4().hex,
        )

    def drawn(self) -> Drawn | None:
        """The call allowed by a lease of this process, if there is one that it fits into."""
        leases, question = self._gate.leases, self.question
        return leases.draw(question) if leases is not None and question is not None else None

    def may_ask(self) -> bool:
        """Whether the breaker lets this one ask, which it is asked once."""
        self._may_ask = self._may_ask or self._gate.breaker.admits()
        return self._may_ask

    def waited(self, seconds: float) -> None:
        """Takes time that was spent here, waiting for the holds of others, from what is left for that."""
        if self.question is not None:
            most = max(0, int((self._settings.busy_timeout - seconds) * 1000))
            wait_ms = min(self.question.wait_ms or 0, most)
            self.question = replace(self.question, wait_ms=wait_ms, waited=seconds)

    def counts_anew(self, decision: Allowed | Denied) -> bool:
        """Whether to ask again: another model was chosen, by whose tokens the call is larger than what is held for it."""
        found, asked = self.estimate, self.asked
        if not isinstance(decision, Allowed) or self.question is None or found is None or self.observes:
            return False
        if not decision.model or decision.model == asked.model:
            return False
        other = estimate.estimate(
            asked.body,
            api=found.api,
            model=decision.model,
            max_output_tokens=found.max_output_tokens,
            max_input_tokens=self.said.max_input_tokens,
        )
        if other.input_tokens <= self.question.input_tokens:
            return False
        self._free(decision)
        self._counted += 1
        if self._counted > COUNTED_MAX:
            raise UnboundedError(
                f"policies chose another model for each count of this call, {decision.model} at last",
                model=asked.model,
                provider=asked.provider,
            )
        self.question = replace(self.question, input_tokens=other.input_tokens, idempotency_key=uuid4().hex)
        return True

    def decided(self, decision: Allowed | Denied) -> HeldCall:
        """Turns an answer into a held call, or into the refusal that it is."""
        if not isinstance(decision, Drawn):
            self._gate.breaker.answered()
        if self._span is not None:
            self._span.decided(decision, observed=self.observes)
        if isinstance(decision, Denied):
            if not self.observes:
                raise _answers.refusal(decision, model=self.asked.model, provider=self.asked.provider)
            logger.warning("observed: %s", decision.explain())
            if self._gate.observed is not None:
                self._gate.observed(self.asked, decision)
            return self._held(self.asked.body, denied=decision)
        body = self.asked.body
        if not self.observes:
            body = self._prepared(decision)
        return self._held(body, allowed=decision, tokens_max=self._tokens_max(decision))

    def _prepared(self, allowed: Allowed) -> Any:
        found, asked = self.estimate, self.asked
        if found is None:
            return asked.body
        other = bool(allowed.model) and allowed.model != asked.model
        changes = other or (found.has_output and found.inject_cap)
        if changes and (asked.signed or (other and asked.model_fixed)):
            self._free(allowed)
            what = f"call {allowed.model} instead" if other else "name an output cap in the call itself"
            why = "its request is signed already" if asked.signed else "its model stands in its address"
            raise InvalidRequestError("The call cannot be changed", errors={"body": f"{why}; {what}"})
        if other:
            logger.info("%s is called instead of %s: %s", allowed.model, asked.model, allowed.rerouted)
        if not changes and allowed.max_output_tokens in (None, found.max_output_tokens):
            return asked.body
        return estimate.prepare(
            found,
            asked.body,
            model=allowed.model if other else None,
            max_output_tokens=allowed.max_output_tokens,
        )

    def _tokens_max(self, allowed: Allowed) -> int | None:
        prices = self._gate.prices
        cuts = self._settings.cut_streams if self.asked.cut is None else self.asked.cut
        if not (cuts and self.asked.stream and not self.observes):
            return None
        if prices is None or self.estimate is None or allowed.amount_usd is None:
            return None
        return tokens_within(prices.book(), self.estimate, allowed, self.asked.provider)

    def _held(self, body: Any, **options: Any) -> HeldCall:
        watch.note(None)
        allowed = options.get("allowed")
        put = allowed.draw.put if isinstance(allowed, Drawn) else self._gate.settler.put
        return HeldCall(self.asked, body, put=put, estimate=self.estimate, span=self._span, **options)

    def undecided(self, error: NoburnError) -> HeldCall:
        """What becomes of a call about which noburn gave no answer, or none that is a decision."""
        if not isinstance(error, UnavailableError):
            self._gate.breaker.answered()
            if not self.observes:
                raise error
            logger.warning("observed: noburn did not decide: %s", error)
            return self._unasked()
        self._gate.breaker.failed()
        if error.__cause__ is None or not _calls.never_left(error.__cause__):
            self.reclaim()
        return self.without(error)

    def without(self, error: UnavailableError | None = None) -> HeldCall:
        """What becomes of a call without an answer: refused, or let through softly."""
        if self.observes:
            return self._unasked()
        if self._gate.allowance is None or self.estimate is None:
            self._deny(error)
        cost = bound_nano_of(self._gate.prices, self.estimate, self.asked.provider, CAP_UNASKED)
        if cost is None or not self._gate.allowance.take(cost):
            self._deny(error)
        logger.warning(
            "noburn does not answer: %s goes through unasked, softly (on_unavailable=allow), for at most %d nano-USD",
            self.asked.endpoint.name,
            cost,
        )
        cap = self.estimate.max_output_tokens or CAP_UNASKED
        body = estimate.prepare(self.estimate, self.asked.body, max_output_tokens=cap)
        return self._unasked(body, after=self._giving_back(cost))

    def _giving_back(self, cost: int) -> Callable[[Usage | None], None]:
        allowance, day, model = self._gate.allowance, datetime.now(timezone.utc).date(), self.asked.model
        prices, provider = self._gate.prices, self.asked.provider
        assert allowance is not None

        def after(usage: Usage | None) -> None:
            if usage is None or prices is None:
                return
            spent = prices.cost_nano(usage, model, provider)
            if spent is not None and spent < cost:
                allowance.give_back(cost - spent, day)

        return after

    def _unasked(self, body: Any = None, **options: Any) -> HeldCall:
        if self._span is not None:
            self._span.decided(None, observed=self.observes)
        return self._held(self.asked.body if body is None else body, **options)

    def _deny(self, error: UnavailableError | None) -> NoReturn:
        if error is not None:
            raise error
        raise UnavailableError("noburn does not answer, and is given time before it is asked again")

    def refused(self, error: BaseException) -> None:
        """Ends the span of a call that is not made, and tells whoever watches."""
        if isinstance(error, NoburnError):
            watch.note(error)
        if self._span is not None:
            self._span.refused(error)
            self._span = None

    def reclaim(self) -> None:
        """Frees the hold that a pre-flight without an answer may have placed."""
        if self.question is None or self.question.idempotency_key is None:
            return
        request = self.question.to_wire(wait_ms=self.question.wait_ms or 0)
        self._gate.settler.put(Resolution("reclaim", self.question.idempotency_key, request))

    def _free(self, allowed: Allowed) -> None:
        if allowed.authorization:
            body = {"authorization": allowed.authorization}
            put = allowed.draw.put if isinstance(allowed, Drawn) else self._gate.settler.put
            put(Resolution("void", allowed.hold_id or allowed.authorization, body))

    def abandoned(self, done: Future[Allowed | Denied]) -> None:
        """Frees what was placed for a caller that was cancelled meanwhile."""
        if done.cancelled() or done.exception() is not None:
            self.reclaim()
            return
        decision = done.result()
        if isinstance(decision, Allowed):
            self._free(decision)


def _after_fork_in_child() -> None:
    for gate in list(_gates):
        gate._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
