"""Sends settlements from a thread of its own, in batches, and keeps at it while noburn does not answer."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from noburn_sdk import _answers, _requests
from noburn_sdk._config import logger
from noburn_sdk.client import _AROUND, Noburn
from noburn_sdk.errors import ConflictError, InvalidRequestError, NoburnError, UnavailableError
from noburn_sdk.results import Allowed, Settled
from noburn_sdk.settling import draws
from noburn_sdk.settling.outbox import Outbox

MEMORY_MAX = 10_000
"""Resolutions waiting in memory; more wait on disk alone."""
BATCH_BYTES_MAX = 1024 * 1024
LINGER_SECONDS = 0.02
"""How long the first of a batch waits for others."""
LOOK_SECONDS = 60.0
"""How often files of processes that ended are looked for."""
ASIDE_SECONDS = 10.0
"""How long settlements may keep reclaims waiting."""
BACKOFF_SECONDS = 0.25
BACKOFF_SECONDS_MAX = 30.0

Op = Literal["settle", "void", "reclaim", "unlease", "draw"]
ASIDE = ("reclaim", "unlease")
"""What may have to wait at the gateway, and so stands behind all else."""


@dataclass(frozen=True)
class Resolution:
    """What becomes of a hold, as it is sent.

    `draw` tells of one call of a lease, which its body names. `reclaim` frees a hold whose pre-flight got no
    answer: its body is the pre-flight's, asked again with the same key, and what that returns is voided. `unlease`
    does the same for a lease that nobody drew from: it is asked for again, unless its body names it, and closed.
    """

    op: Op
    key: str
    """The hold's id, or the key of the pre-flight or of the lease: one resolution each."""
    body: dict[str, Any]

    def to_disk(self) -> dict[str, Any]:
        """Returns the line that the outbox keeps."""
        return {"op": self.op, "body": self.body}


def _from_disk(item: dict[str, Any]) -> Resolution | None:
    if item.get("op") not in get_args(Op) or not isinstance(item.get("body"), dict):
        return None
    return Resolution(item["op"], item["key"], item["body"])


class _Mark:
    """Passes through the queue behind everything that was put before it."""

    def __init__(self) -> None:
        self.reached = threading.Event()


class Settler:
    """Takes resolutions from any thread, task or finalizer and sends them. `put` never blocks and never raises.

    `told` is called with each answer, on the settler's thread.
    """

    def __init__(
        self,
        client: Callable[[], Noburn],
        outbox: Outbox | None,
        *,
        told: Callable[[Resolution, Settled], None] | None = None,
    ) -> None:
        self._make_client = client
        self._outbox = outbox
        self._told = told
        # Its put may run inside a finalizer that interrupted another put; a Queue's lock would not survive that.
        self._queue: queue.SimpleQueue[Resolution | _Mark] = queue.SimpleQueue()
        # Reclaims, and the marks behind them. Each may wait at the gateway for others' holds, and what frees those are
        # settlements: so they go first, and a reclaim when none waits, or every few seconds.
        self._aside: deque[Resolution | _Mark] = deque()
        self._aside_from = self._aside_sent = time.monotonic()
        self._aside_pause = BACKOFF_SECONDS
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._spilled = False
        self._dropped = 0
        self._client: Noburn | None = None
        self.on_report: Callable[[str, list[tuple[int, int | None]], Mapping[str, Any]], None] | None = None
        """Called with the lease, its draws' numbers and costs, and the answer to each report of them."""

    def put(self, resolution: Resolution) -> None:
        """Takes a resolution. It is on disk when this returns, where there is an outbox."""
        try:
            kept = self._outbox is not None and self._outbox.append(resolution.key, resolution.to_disk())
            if self.waiting >= MEMORY_MAX:
                self._overflow(kept)
            else:
                self._queue.put(resolution)
            if self._thread is None:
                self.start()
        except Exception:
            logger.exception("a settlement could not be queued: %s", resolution.key)

    def _overflow(self, kept: bool) -> None:
        if kept:
            self._spilled = True
            return
        self._dropped += 1
        if self._dropped.bit_count() == 1:
            logger.error("%d settlements were dropped: more than %d wait", self._dropped, MEMORY_MAX)

    def start(self) -> None:
        """Starts the thread, if it does not run."""
        # Never waits: a finalizer may have interrupted the very thread that holds the lock.
        if not self._start_lock.acquire(blocking=False):
            return
        try:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="noburn-settler", daemon=True)
                self._thread.start()
        finally:
            self._start_lock.release()

    @property
    def waiting(self) -> int:
        """About how many resolutions wait in memory."""
        return self._queue.qsize() + len(self._aside)

    def flush(self, timeout: float) -> bool:
        """Waits until everything put so far was delivered; False if that took too long."""
        thread = self._thread
        if thread is None:
            return True
        mark = _Mark()
        self._queue.put(mark)
        return mark.reached.wait(timeout)

    def close(self, timeout: float) -> bool:
        """Delivers what it can within the time and ends. What remains lies in the outbox."""
        done = self.flush(timeout)
        self._stop.set()
        self._queue.put(_Mark())
        if self._thread is not None and done:
            self._thread.join(timeout)
        if self._outbox is not None:
            self._outbox.sync()
            self._outbox.close()
        if self._client is not None and done:
            self._client.close()
        return done

    def leave(self) -> None:
        """Forgets everything: after a fork it is the parent's to deliver."""
        if self._outbox is not None:
            self._outbox.leave()
        self._stop.set()

    def _run(self) -> None:
        self._client = self._make_client()
        looked: float | None = None
        while not self._stop.is_set():
            if looked is None or time.monotonic() - looked > LOOK_SECONDS:
                self._take_over()
                looked = time.monotonic()
            batch, marks = self._collect()
            try:
                self._send(batch)
                self._reload()
            except Exception:
                # Whatever it was, those after it must still be sent.
                logger.exception("a batch of settlements failed")
            self._aside += marks
            try:
                self._send_aside()
            except Exception:
                logger.exception("a reclaim failed")

    def _collect(self) -> tuple[list[Resolution], list[_Mark]]:
        """Waits for the first and then, for a moment, for those that come with it."""
        batch: list[Resolution] = []
        marks: list[_Mark] = []
        now = time.monotonic()
        until = max(now, self._aside_from) if self._aside else now + LOOK_SECONDS
        while len(batch) < _requests.BATCH_MAX:
            try:
                found = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(found, _Mark):
                marks.append(found)
                break
            if not batch:
                until = time.monotonic() + LINGER_SECONDS
            batch.append(found)
        return batch, marks

    def _take_over(self) -> None:
        if self._outbox is None:
            return
        for path, items in self._outbox.claim():
            if not all(self._outbox.append(item["key"], {**item}) for item in items):
                # No room; the file stays where it is.
                break
            if items:
                logger.info("%d settlements of an ended process are taken over from %s", len(items), path)
                self._spilled = True
        self._reload()

    def _reload(self) -> None:
        """Sends what lies on disk alone, once memory is empty."""
        while self._spilled and self._outbox is not None and not self._stop.is_set():
            if self.waiting:
                return
            read = map(_from_disk, self._outbox.held())
            # What a later version of this package wrote stays, for a process that knows what it means.
            found = [one for one in read if one is not None][: _requests.BATCH_MAX]
            if not found:
                self._spilled = False
                return
            self._send(found)

    def _send(self, batch: list[Resolution]) -> None:
        """Delivers what can be sent at once, and puts aside what may have to wait at the gateway."""
        self._aside += [item for item in batch if item.op in ASIDE]
        self._deliver_all([item for item in batch if item.op not in ASIDE])

    def _send_aside(self) -> None:
        """Sends the first reclaim if it is time to, and passes the marks that nothing is before."""
        if self._aside and isinstance(item := self._aside[0], Resolution):
            now = time.monotonic()
            starved = now - self._aside_sent > ASIDE_SECONDS
            if now < self._aside_from or self._stop.is_set() or (self._queue.qsize() and not starved):
                return
            self._aside_sent = now
            self._aside.popleft()
            if self._one(item):
                self._aside.appendleft(item)
                self._aside_from = time.monotonic() + self._aside_pause
                self._aside_pause = min(self._aside_pause * 2, BACKOFF_SECONDS_MAX)
                return
            self._aside_pause = BACKOFF_SECONDS
        while self._aside and isinstance(mark := self._aside[0], _Mark):
            self._aside.popleft()
            mark.reached.set()

    def _deliver_all(self, batch: list[Resolution]) -> None:
        """Sends until noburn has them all, or until this process ends."""
        if not batch:
            return
        if self._outbox is not None:
            self._outbox.sync()
        left, pause = batch, BACKOFF_SECONDS
        while left and not self._stop.is_set():
            left = self._deliver(left)
            if left:
                logger.warning("%d settlements wait: noburn does not answer", len(left))
                self._stop.wait(pause * (0.5 + _AROUND.chance() / 2))
                pause = min(pause * 2, BACKOFF_SECONDS_MAX)

    def _deliver(self, batch: list[Resolution]) -> list[Resolution]:
        """Sends once; returns what is to be sent again."""
        again: list[Resolution] = []
        settles = [item for item in batch if item.op == "settle"]
        for part in _parts(settles):
            again += self._settle(part)
        for part in draws.parts_of([item for item in batch if item.op == "draw"]):
            again += self._report(part) if not again else part
        for item in batch:
            if item.op in ("settle", "draw"):
                continue
            if again:
                # It does not answer: not to be asked about each of the others as well.
                again.append(item)
            else:
                again += self._one(item)
        return again

    def _settle(self, part: list[Resolution]) -> list[Resolution]:
        assert self._client is not None
        body = {"settlements": [item.body for item in part]}
        try:
            reply = self._client._ask(_requests.post("/v1/settle/batch", body, None))
            results = _answers.settled_batch(reply, len(part))
        except InvalidRequestError as error:
            if len(part) == 1:
                return self._failed(part[0], error)
            middle = len(part) // 2
            return self._settle(part[:middle]) + self._settle(part[middle:])
        except NoburnError as error:
            return self._put_off(part, error)
        again: list[Resolution] = []
        done: list[Resolution] = []
        for item, result in zip(part, results, strict=True):
            if isinstance(result, NoburnError):
                again += self._failed(item, result)
            else:
                done.append(item)
                self._tell(item, result)
        self._done(done)
        return again

    def _report(self, part: list[Resolution]) -> list[Resolution]:
        """Tells of draws of one lease; returns what is to be told again."""
        assert self._client is not None
        try:
            errors, costs, answer = draws.report(self._client, part)
        except InvalidRequestError as error:
            if len(part) == 1:
                return self._failed(part[0], error)
            middle = len(part) // 2
            return self._report(part[:middle]) + self._report(part[middle:])
        except NoburnError as error:
            return self._put_off(part, error)
        again: list[Resolution] = []
        heard = []
        for item, error_of, cost, result in zip(part, errors, costs, answer["results"], strict=True):
            left = self._failed(item, error_of) if error_of is not None else []
            again += left
            if not left:
                heard.append(cost)
            if error_of is None:
                self._tell(item, draws.settled(item, result))
        self._done([item for item in part if item not in again])
        if self.on_report is not None:
            try:
                self.on_report(str(part[0].body["id"]), heard, answer)
            except Exception:
                logger.exception("what was told of a lease failed")
        return again

    def _one(self, item: Resolution) -> list[Resolution]:
        assert self._client is not None
        try:
            if item.op == "reclaim":
                self._reclaim(item)
            elif item.op == "unlease":
                draws.give_back(self._client, item)
            else:
                reply = self._client._ask(_requests.post("/v1/void", item.body, None))
                self._tell(item, _answers.settled(reply))
        except (ConflictError, InvalidRequestError) as error:
            return self._failed(item, error)
        except NoburnError as error:
            return self._put_off([item], error)
        self._done([item])
        return []

    def _reclaim(self, item: Resolution) -> None:
        assert self._client is not None
        request = _requests.post("/v1/preflight", item.body, item.key, wait_seconds=10.0)
        decision = _answers.decision(self._client._ask(request))
        if isinstance(decision, Allowed) and decision.authorization:
            self._client.void(decision.authorization)

    def _put_off(self, items: list[Resolution], error: NoburnError) -> list[Resolution]:
        if not isinstance(error, UnavailableError):
            # A key that is refused may be replaced; what it settles stays true.
            logger.error("noburn does not take settlements: %s", error)
        return items

    def _failed(self, item: Resolution, error: NoburnError) -> list[Resolution]:
        if isinstance(error, UnavailableError):
            return [item]
        logger.warning("noburn did not take the settlement of %s: %s", item.key, error)
        self._done([item])
        return []

    def _done(self, items: Iterable[Resolution]) -> None:
        if self._outbox is not None:
            self._outbox.done([item.key for item in items])

    def _tell(self, item: Resolution, result: Settled) -> None:
        if self._told is not None:
            try:
                self._told(item, result)
            except Exception:
                logger.exception("what was told of a settlement failed")


def _parts(items: list[Resolution]) -> list[list[Resolution]]:
    """Cuts a batch where its body would grow too large."""
    parts: list[list[Resolution]] = []
    size = BATCH_BYTES_MAX
    for item in items:
        length = len(json.dumps(item.body))
        if size + length > BATCH_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += length + 1
    return parts
