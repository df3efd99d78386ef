"""The leases of one process: which calls they are for, how large the next is to be, and when one is given back."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

from noburn_sdk import _answers, _calls, _requests
from noburn_sdk._config import logger
from noburn_sdk._requests import Preflight
from noburn_sdk.client import Noburn
from noburn_sdk.errors import InvalidRequestError, NoburnError, UnavailableError
from noburn_sdk.estimate import UnpricedError, rates_from
from noburn_sdk.leases.bounds import Bounds
from noburn_sdk.leases.lease import Drawn, Lease, usd
from noburn_sdk.settling.settler import Resolution, Settler

CALLS_MIN = 3
"""So many calls of one kind within BURN_SECONDS are worth a lease."""

BURN_SECONDS = 5.0
CALLS_AHEAD = 8
"""A lease is for so many calls at least, and for twice what was drawn in the last BURN_SECONDS."""

REPORT_SECONDS = 2.0
"""An open lease is reported on so often, calls or none: an edit reaches its holder that soon."""

IDLE_SECONDS = 5.0
"""A lease that no call was drawn from for so long is given back."""

RENEW_SECONDS = 15.0
RENEW_PART = 4
"""A lease is renewed so long before its last draw, or when only this part of it is left."""

PAUSE_SECONDS = 0.25
REFUSED_SECONDS = 1.0
"""How long a kind of call is not leased after noburn refused to."""

KINDS_MAX = 2_000
LEASES_MAX = 200
MARGIN_SECONDS = 0.5
"""Draws end so much before the server's draw_until, which begins when the lease is placed, not when it is asked for."""

Key = tuple[Any, ...]


class _Kind:
    """Calls for one subject, tags and model: what they burn, and the lease that they draw from."""

    __slots__ = ("asked", "burnt", "calls", "lease", "least", "not_before", "since", "tokens", "wanted")

    def __init__(self, asked: Preflight, now: float) -> None:
        self.asked = asked
        self.lease: Lease | None = None
        self.since, self.calls, self.burnt, self.tokens = now, 0, 0, 0
        self.least: tuple[int, int] = (0, 1)
        self.wanted = False
        self.not_before = now

    def note(self, nano: int, tokens: int, now: float) -> None:
        """Counts a call; racing threads may lose one, which changes a size by a little."""
        if now - self.since > BURN_SECONDS:
            self.since, self.calls, self.burnt, self.tokens = (
                now,
                self.calls // 2,
                self.burnt // 2,
                self.tokens // 2,
            )
        self.calls += 1
        self.burnt += nano
        self.tokens += tokens
        self.least = nano, tokens


class Leases:
    """Decides about calls from leases, and keeps these: opens them, reports on them and closes them, by one thread.

    Whatever it cannot decide is to be asked about. It belongs to one process: a fork begins with none.
    """

    def __init__(
        self,
        client: Callable[[], Noburn],
        settler: Settler,
        *,
        ttl_seconds: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_client, self._settler, self._clock = client, settler, clock
        self._ttl_seconds = max(60, ttl_seconds)
        self._nonce = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._kinds: dict[Key, _Kind] = {}
        self._open: dict[str, Lease] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._client: Noburn | None = None
        self.closed_unheard = 0
        """Leases that were given up without a close: what is left of them is presumed spent."""
        settler.on_report = self._heard

    # Deciding

    def draw(self, asked: Preflight) -> Drawn | None:
        """Allows a call from a lease, or says nothing: it is then to be asked about. Sends nothing."""
        if asked.cost_usd is not None or asked.dry_run:
            return None
        tags = asked.tags
        key = (
            asked.model,
            asked.provider,
            asked.customer,
            asked.user,
            asked.project,
            asked.run,
            asked.plan,
            tuple(sorted(tags.items())) if tags else None,
        )
        kind = self._kinds.get(key)
        now = self._clock()
        if kind is None:
            self._remember(key, asked, now)
            return None
        lease = kind.lease
        if lease is None:
            if now - kind.since > BURN_SECONDS:
                kind.since, kind.calls = now, 0
            kind.calls += 1
            if kind.calls >= CALLS_MIN:
                self._want(kind, now)
            return None
        cap = asked.max_output_tokens or lease.cap
        try:
            nano = lease.bounds.nano(asked, cap)
        except UnpricedError:
            return None
        tokens = asked.input_tokens + asked.n * cap
        draw = lease.draw(nano, tokens, now, asked)
        kind.note(nano, tokens, now)
        if draw is None or lease._left * RENEW_PART < lease.nano or now > lease.until - RENEW_SECONDS:
            self._want(kind, now)
        if draw is None:
            return None
        return Drawn("leased", f"{lease.id}:{draw.sequence}", usd(nano), None, asked.model, cap, draw=draw)

    def _remember(self, key: Key, asked: Preflight, now: float) -> None:
        with self._lock:
            if len(self._kinds) >= KINDS_MAX:
                for old in [k for k, kind in self._kinds.items() if kind.lease is None][: KINDS_MAX // 2]:
                    del self._kinds[old]
            kind = self._kinds[key] = _Kind(asked, now)
            kind.calls = 1

    def _want(self, kind: _Kind, now: float) -> None:
        if kind.wanted or now < kind.not_before:
            return
        kind.wanted = True
        if self._thread is None:
            self._start()
        self._wake.set()

    # Keeping

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="noburn-leases", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        self._client = self._make_client()
        while not self._stop.is_set():
            self._wake.wait(PAUSE_SECONDS)
            self._wake.clear()
            try:
                self._round()
            except Exception:
                # Whatever it was: what is leased is bounded, and everything else is asked about.
                logger.exception("leases could not be kept")
                self._stop.wait(1.0)

    def _round(self) -> None:
        for kind in [kind for kind in list(self._kinds.values()) if kind.wanted]:
            if self._stop.is_set():
                return
            self._renew(kind)
        now = self._clock()
        current = {id(kind.lease) for kind in list(self._kinds.values())}
        for lease in list(self._open.values()):
            if self._stop.is_set():
                return
            idle = now - lease.drawn_at > IDLE_SECONDS
            drawable = id(lease) in current and lease.recalled is None and now < lease.until and not idle
            if not drawable and self._ended(lease):
                self._close(lease)
            elif now - max(lease.heard_at, lease.tries_at) >= REPORT_SECONDS:
                lease.tries_at = now
                self._report(lease)
        for kind in list(self._kinds.values()):
            if kind.lease is not None and (kind.lease.recalled or now >= kind.lease.until):
                kind.lease = None

    def _ended(self, lease: Lease) -> bool:
        return lease.standing()[1] and self._clock() - lease.tries_at >= 0

    def _renew(self, kind: _Kind) -> None:
        kind.wanted = False
        before, asked = kind.lease, kind.asked
        if len(self._open) >= LEASES_MAX:
            kind.not_before = self._clock() + REFUSED_SECONDS
            return
        nano, tokens = kind.least
        if before is None and not nano:
            nano, tokens = self._guess(asked)
        wanted = max(CALLS_AHEAD * nano, 2 * kind.burnt)
        body: dict[str, Any] = {
            "model": asked.model,
            "amount_usd": format(usd(min(wanted, 10**15)), "f"),
            "least_usd": format(usd(nano), "f"),
            "least_tokens": tokens,
            "tokens": min(10**9, max(CALLS_AHEAD * tokens, 2 * kind.tokens)),
            "requests": max(CALLS_AHEAD, 2 * kind.calls),
            "ttl_seconds": self._ttl_seconds,
        }
        if asked.provider is not None:
            body["provider"] = asked.provider
        names = ("project", "customer", "user", "run", "plan")
        if subject := {name: value for name in names if (value := getattr(asked, name)) is not None}:
            body["subject"] = subject
        if asked.tags:
            body["tags"] = dict(asked.tags)
        sent, key = self._clock(), uuid4().hex
        try:
            answer = self._ask("/v1/leases", body, key)
        except NoburnError as error:
            logger.debug("no lease: %s", error)
            kind.not_before = self._clock() + REFUSED_SECONDS
            lost = isinstance(error, UnavailableError)
            if lost and (error.__cause__ is None or not _calls.never_left(error.__cause__)):
                # It may have been placed, and would stand in others' way until it expires.
                self._settler.put(Resolution("unlease", key, {"ask": body, "nonce": self._nonce}))
            return
        lease = self._lease_of(answer, asked, sent)
        if lease is None:
            kind.not_before = self._clock() + REFUSED_SECONDS
            return
        self._open[lease.id] = lease
        kind.lease = lease

    def _guess(self, asked: Preflight) -> tuple[int, int]:
        """A first bound, before any price is known: noburn grants less if that is too much."""
        tokens = asked.input_tokens + asked.n * (asked.max_output_tokens or 4_096)
        return tokens * 10_000, tokens

    def _lease_of(self, answer: Mapping[str, Any], asked: Preflight, sent: float) -> Lease | None:
        if answer.get("decision") != "allow" or answer.get("guards"):
            # A guard that this version does not know needs the server: each call is asked about.
            if answer.get("decision") == "allow":
                self._give_back(answer)
            return None
        told = answer["lease"]
        try:
            rates = rates_from(answer, asked.model, provider=answer.get("provider"))
        except InvalidRequestError:
            self._give_back(answer)
            return None
        seconds = float(told["draw_seconds"]) - MARGIN_SECONDS
        return Lease(
            id=str(told["id"]),
            authorization=str(answer["authorization"]),
            nonce=self._nonce,
            nano=int(Decimal(told["amount_usd"]) * 10**9),
            tokens=told.get("tokens"),
            requests=told.get("requests"),
            until=sent + seconds,
            bounds=Bounds(rates),
            cap=int(answer["max_output_tokens"]),
            put=self._settler.put,
            now=self._clock(),
        )

    def _give_back(self, answer: Mapping[str, Any]) -> None:
        """Closes a lease that nothing is drawn from, as often as it takes: by the settler."""
        lease_id = str(answer["lease"]["id"])
        body = {"id": lease_id, "authorization": answer["authorization"], "nonce": self._nonce}
        self._settler.put(Resolution("unlease", lease_id, body))

    def _report(self, lease: Lease) -> None:
        """Asks whether a lease is to be given back. Its draws are told by the settler."""
        body = {"authorization": lease.authorization, "nonce": lease.nonce, "draws": []}
        try:
            answer = self._ask(f"/v1/leases/{lease.id}/report", body)
        except NoburnError as error:
            logger.debug("lease %s was not reported on: %s", lease.id, error)
            return
        lease.heard([], answer.get("recall"), self._clock())

    def _close(self, lease: Lease) -> bool:
        # Before the total is read: a thread may hold this lease as its kind's although another has replaced it.
        lease.retire("replaced")
        total, quiet = lease.standing()
        if not quiet:
            return False
        now = self._clock()
        body = {"authorization": lease.authorization, "nonce": lease.nonce, "total": total, "draws": []}
        try:
            answer = self._ask(f"/v1/leases/{lease.id}/close", body)
        except NoburnError as error:
            logger.debug("lease %s could not be closed: %s", lease.id, error)
            if now > lease.until + self._ttl_seconds:
                self._drop(lease)
            lease.tries_at = now + REPORT_SECONDS
            return False
        if answer.get("closed") is not True:
            # noburn has other draws of it than this process knows of: what is left is presumed spent.
            logger.warning(
                "lease %s has %s draws, not %d: it is not released", lease.id, answer.get("draws"), total
            )
            self._drop(lease)
            return False
        self._open.pop(lease.id, None)
        return True

    def _drop(self, lease: Lease) -> None:
        self.closed_unheard += 1
        self._open.pop(lease.id, None)

    def _heard(self, lease_id: str, results: list[tuple[int, int | None]], answer: Mapping[str, Any]) -> None:
        """Called by the settler with each answer to draws that it told."""
        lease = self._open.get(lease_id)
        if lease is not None:
            lease.heard(results, answer.get("recall"), self._clock())
            if lease.recalled is not None:
                self._wake.set()

    def _ask(self, path: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        assert self._client is not None
        return _answers.answer(self._client._ask(_requests.post(path, body, key)))

    def close(self, timeout: float) -> None:
        """Gives everything back that is not in use, once its draws are told. Then nothing is drawn any more."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is None:
            return
        thread.join(timeout)
        for lease in list(self._open.values()):
            lease.retire("closed")
        if thread.is_alive() or self._client is None:
            return
        for lease in list(self._open.values()):
            self._close(lease)
        self._client.close()
