"""The baseline: the production pre-flight script itself, driven without HTTP, JSON or Python's share of a decision.

Commands are packed before the clock starts and sent over one socket in windows of 64, with distinct holds and the keys
and arguments that the gateway uses. What remains is Redis running the script.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import hiredis

from noburn.kit.tenancy import span_in_this_process

WINDOW = 64
CALLS = 60_000


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(parts.path)
    else:
        connection = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))
    return connection


def drive(url: str, commands: list[bytes]) -> float:
    """Sends the commands with WINDOW under way; returns calls a second. Raises if an answer is no PLACED."""
    connection, reader = _connect(url), hiredis.Reader()
    started, sent, answered = time.perf_counter(), 0, 0
    while answered < len(commands):
        if sent < len(commands) and sent - answered <= WINDOW // 2:
            upto = min(len(commands), answered + WINDOW)
            connection.sendall(b"".join(commands[sent:upto]))
            sent = upto
        reader.feed(connection.recv(1 << 16))
        while (reply := reader.gets()) is not False:
            if isinstance(reply, Exception) or reply[0] != b"PLACED":
                raise RuntimeError(f"the script answered {reply!r}")
            answered += 1
    return len(commands) / (time.perf_counter() - started)


async def commands_for(tenant_id: UUID, calls: int) -> tuple[str, list[bytes]]:
    """The commands that the gateway would send for one customer of the tenant, with distinct holds."""
    from django.conf import settings

    from budgets.domain import policy as policies
    from budgets.domain.demands import Attribution, Matcher
    from budgets.services.epochs import EpochDirectory
    from budgets.stores.postgres.control import ControlStore

    store = ControlStore(settings.DATABASE_URL, connections=1)
    await store.open()
    try:
        epochs = EpochDirectory(store)
        await epochs.reload()
        epoch = epochs.current(tenant_id)
        assert epoch is not None
        ((_, version, body),) = await store.policies_newer([(tenant_id, 0)])
        policy = policies.decode(body)
        who = Attribution("default", "c1", "", "", "", "", "openai", "gpt-4o-mini", {})
        places = Matcher(policy).places(who, now_ms=time.time_ns() // 1_000_000)
    finally:
        await store.close()
    names, counters = epoch.keys, []
    per_counter: list[str | int] = []
    for place in places:
        counters.append(names.counter(place.counter_id))
        per_counter += ["b", 480_000, place.rule.version, place.starts_ms, place.ends_ms, place.rule.limit]
    packed = []
    payload = os.urandom(230)
    for _ in range(calls):
        hold = uuid4()
        keys = [names.epoch, names.policy(tenant_id), names.hold(hold), names.expiries, *counters]
        args = [version, str(hold), "0" * 32, 900_000, payload, "place", *per_counter]
        packed.append(hiredis.pack_command(("EVALSHA", epoch.scripts.preflight, len(keys), *keys, *args)))  # type: ignore[arg-type]
    return settings.REDIS_GATEWAY_URL, packed


def main() -> None:
    """Prints calls a second: `python -m benchmarks.bare TENANT_ID`, in the environment of a running system."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noburn.settings")
    import django

    django.setup()
    span_in_this_process()
    from noburn.kit import ids

    url, commands = asyncio.run(commands_for(ids.decode(ids.TENANT, sys.argv[1]), CALLS))
    drive(url, commands[: CALLS // 4])
    print(round(drive(url, commands[CALLS // 4 :])))


if __name__ == "__main__":
    main()
