"""Sends what events are on their way: over HTTP, or handed to a test that delivers by itself."""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.stripe.events import ATTEMPTS_MAX, Delivery, signing_time
from tests.doubles.stripe.world import World

TIMEOUT_SECONDS = 10.0


def waiting(world: World) -> list[Delivery]:
    """Returns what is still to be delivered, oldest first."""
    return [each for each in world.deliveries if not each.done and each.attempts < ATTEMPTS_MAX]


def arranged(world: World, found: list[Delivery], order: str, duplicates: int) -> list[Delivery]:
    """Returns deliveries as a bad network would have them: each so often, in another order."""
    all_of_them = [each for each in found for _ in range(duplicates)]
    match order:
        case "given":
            return all_of_them
        case "reversed":
            return all_of_them[::-1]
        case "shuffled":
            world.chance.shuffle(all_of_them)
            return all_of_them
    raise ValueError("order: given, reversed or shuffled")


def deliver(
    world: World, *, order: str = "given", duplicates: int = 1, only: str | None = None, at_once: int = 1
) -> list[dict[str, Any]]:
    """Posts what waits and returns what came of each. What is not answered 2xx waits on."""
    with world.lock:
        found = [each for each in waiting(world) if only is None or each.kind.startswith(only)]
        batch = arranged(world, found, order, duplicates)
        at = signing_time(world)
    if at_once > 1:
        with ThreadPoolExecutor(at_once) as pool:
            statuses = list(pool.map(lambda each: _post(each, at), batch))
    else:
        statuses = [_post(each, at) for each in batch]
    with world.lock:
        for each, status in zip(batch, statuses, strict=True):
            each.attempts += 1
            each.statuses.append(status)
            each.done = each.done or 200 <= status < 300
    pairs = zip(batch, statuses, strict=True)
    return [{"event": each.event_id, "type": each.kind, "status": status} for each, status in pairs]


def take(
    world: World, *, order: str = "given", duplicates: int = 1, only: str | None = None
) -> list[dict[str, Any]]:
    """Returns what waits, signed, and counts it as delivered: for a test that has no server to post to."""
    with world.lock:
        found = [each for each in waiting(world) if only is None or each.kind.startswith(only)]
        at = signing_time(world)
        for each in found:
            each.done = True
        return [
            {
                "event": each.event_id,
                "type": each.kind,
                "account": each.account,
                "url": each.url,
                "body": each.body,
                "headers": each.headers(at),
            }
            for each in arranged(world, found, order, duplicates)
        ]


def _post(each: Delivery, at: int) -> int:
    url = urlsplit(each.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=TIMEOUT_SECONDS)
    try:
        target = url.path + (f"?{url.query}" if url.query else "")
        connection.request("POST", target or "/", each.body.encode(), each.headers(at))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class Courier:
    """Delivers by itself, over and over, in a thread, until it is stopped."""

    def __init__(self, world: World, every: float, **how: Any) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, args=[world, every, how], daemon=True)
        self._thread.start()

    def _go(self, world: World, every: float, how: dict[str, Any]) -> None:
        while not self._stop.wait(every):
            deliver(world, **how)

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        self._thread.join()
